//! What several commands ask, and say in the same way.
//!
//! Invariant: nothing here does anything; it is asked and shown.

use super::ask::Ask;
use super::exit::Failure;
use super::say::escaped;
use super::table::Style;
use bus::rpc::{Reply, Request, not_found};
use bus::wire::{ListArgs, ListReply, PluginInfo};
use std::path::{Path, PathBuf};

/// How results are shown.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) json: bool,
    pub(super) table: Style,
    /// The folder of the plugins' logs, for hints.
    pub(super) logs: PathBuf,
    /// The folder of the plugins, which tells them from the core.
    pub(super) plugins: PathBuf,
}

#[cfg(test)]
impl View {
    /// Without colours and widths, and in a zone that is the same everywhere.
    pub(super) fn for_tests(json: bool) -> View {
        View {
            json,
            table: Style {
                paint: super::say::Paint::Plain,
                width: None,
                nowrap: false,
                now_ms: 1_000,
                zone: jiff::tz::TimeZone::UTC,
            },
            logs: PathBuf::from("/hub/logs"),
            plugins: PathBuf::from("/hub/plugins"),
        }
    }
}

/// All plugins there are.
pub(super) async fn list(launcher: &impl Ask) -> Result<Vec<PluginInfo>, Failure> {
    Ok(listed(launcher).await?.info)
}

/// The same, with what is wrong with the launcher.
pub(super) async fn listed(launcher: &impl Ask) -> Result<ListReply, Failure> {
    match launcher.ask(&Request::List(ListArgs::default())).await? {
        Reply::List(reply) => Ok(reply),
        Reply::Info(_) | Reply::Plugin(_) | Reply::Plan(_) | Reply::Empty => Err(unexpected()),
    }
}

/// The launcher and hubcli do not understand each other.
pub(super) fn unexpected() -> Failure {
    Failure::failed(
        "the launcher answered something else than it was asked",
        "are hubcli and launcher of the same version?",
    )
}

/// JSON as a line of output.
pub(super) fn line(json: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(json).into_owned();
    text.push('\n');
    text
}

/// A failure to explain one, with a hint for a name nobody knows.
pub(super) async fn not_known(
    launcher: &impl Ask,
    name: &str,
    view: &View,
    mut failure: Failure,
) -> Failure {
    if failure.text == not_found(name) {
        failure.hint = nearest(launcher, name, view).await;
    }
    failure
}

/// The log of a plugin that ever ran; the core's is named after its id, not its file (spec §7).
pub(super) fn log_of(info: &PluginInfo, view: &View) -> Option<PathBuf> {
    let own = view.logs.join(format!("{}.log", info.name));
    let is_core = Path::new(&info.path)
        .parent()
        .is_some_and(|folder| folder != view.plugins);
    let log = if is_core && !own.exists() {
        view.logs.join("core.log")
    } else {
        own
    };
    (info.start_count > 0 || log.exists()).then_some(log)
}

/// A hint for a name nobody knows.
pub(super) async fn nearest(launcher: &impl Ask, name: &str, view: &View) -> String {
    let file = view.plugins.join(name);
    if !name.contains('/') && file.is_file() {
        return format!(
            "{} is there, but is not executable, or empty: chmod +x makes it a plugin",
            escaped(&file.display().to_string())
        );
    }
    let plugins = list(launcher).await.unwrap_or_default();
    let near = plugins
        .iter()
        .map(|info| (strsim::damerau_levenshtein(&info.name, name), &info.name))
        .filter(|(distance, known)| *distance <= known.len().max(name.len()).div_ceil(3))
        .min();
    match near {
        Some((_, known)) => format!("did you mean '{}'? hubcli ls shows all", escaped(known)),
        None => "hubcli ls shows all names; a plugin is an executable file in the plugins folder"
            .to_owned(),
    }
}
