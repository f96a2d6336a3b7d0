//! The commented sample, and its writing at the first start in an empty home (spec §3).
//!
//! Invariants: a file that is there is never overwritten; the written file is whole or not there; it starts only plugins
//! that are there.

use crate::app::paths::Folders;
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The sample, as `config/launcher.yaml` has it.
pub const SAMPLE: &str = include_str!("../../../config/launcher.yaml");

/// How an enabled entry of the list `autostart` begins in the sample.
const ENABLED: &str = "  - ";

/// How one that is commented out begins.
const COMMENTED: &str = "  #- ";

/// Writes the sample when the home is empty and no configuration file was given by hand; tells whether it did.
///
/// A home is empty when the folders of configuration, certificates and stores have nothing in them: a hub that ran once
/// left something there, and then a missing file means the defaults.
///
/// # Errors
/// When the file cannot be written; the path is that of the configuration file.
pub fn first_start(folders: &Folders) -> io::Result<bool> {
    match for_first_start(folders) {
        Some(text) => write_new(&folders.config_file, &text),
        None => Ok(false),
    }
}

/// What [`first_start`] would write.
#[must_use]
pub fn for_first_start(folders: &Folders) -> Option<String> {
    let empty = [&folders.config, &folders.certs, &folders.stores]
        .iter()
        .all(|folder| is_empty(folder));
    let first = empty && !folders.config_file_given;
    first.then(|| with_present(&present(folders)))
}

/// The sample with just those plugins enabled in `autostart` that are present.
#[must_use]
pub fn with_present(present: &BTreeSet<String>) -> String {
    let mut in_list = false;
    let mut any = false;
    let mut lines: Vec<String> = Vec::new();
    for line in SAMPLE.lines() {
        let entry = line.strip_prefix(ENABLED).or(line.strip_prefix(COMMENTED));
        in_list = line == "autostart:" || (in_list && entry.is_some());
        lines.push(match entry.filter(|_| in_list) {
            Some(name) if present.contains(name) => {
                any = true;
                format!("{ENABLED}{name}")
            }
            Some(name) => format!("{COMMENTED}{name}"),
            None => line.to_owned(),
        });
    }
    if !any {
        // A list without items would be no list.
        for line in &mut lines {
            if line == "autostart:" {
                line.insert(0, '#');
            }
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

/// The names of the executables in the plugins folder.
fn present(folders: &Folders) -> BTreeSet<String> {
    let entries = std::fs::read_dir(&folders.plugins);
    entries
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let meta = std::fs::metadata(entry.path());
            meta.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// A folder that is not there is empty, too; one that cannot be read is taken for full.
fn is_empty(folder: &Path) -> bool {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Writes a file that is not there yet; false when somebody else was first.
fn write_new(path: &Path, text: &str) -> io::Result<bool> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file()
        .set_permissions(Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => std::fs::File::open(folder)?.sync_all().map(|()| true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::config::{Config, CoreConfig, parse};
    use crate::app::paths::{Overrides, Surroundings};
    use supervision::PluginId;

    fn folders_in(home: &Path) -> Folders {
        let around = Surroundings {
            exe: home.join("bin/launcher"),
            argv0: "launcher".into(),
            cwd: home.to_owned(),
            user_home: None,
        };
        Folders::resolve(&around, &Overrides::default()).expect("folders")
    }

    fn config_of(text: &str) -> Config {
        parse(text.as_bytes(), "launcher").expect("the sample is right")
    }

    #[test]
    fn the_sample_is_right_and_shows_the_defaults() {
        let config = config_of(SAMPLE);
        assert_eq!(config.core, Some(CoreConfig::named("mqttcore")));
        assert_eq!(config.autostart, [PluginId::new("counter").expect("id")]);
        let shown = Config {
            core: None,
            autostart: Vec::new(),
            log_level: None,
            ..config
        };
        assert_eq!(shown, Config::default());
    }

    #[test]
    fn what_the_sample_comments_out_is_right_too() {
        // A comment without a space after the # is a setting.
        let uncommented: Vec<String> = SAMPLE
            .lines()
            .map(|line| {
                let indentation = line.len() - line.trim_start().len();
                match line.trim_start().strip_prefix('#') {
                    Some(rest) if !rest.starts_with(' ') || line.starts_with("#  ") => {
                        format!("{}{rest}", " ".repeat(indentation))
                    }
                    _ => line.to_owned(),
                }
            })
            .collect();
        let config = config_of(&uncommented.join("\n"));
        let shown = Config {
            core: None,
            autostart: Vec::new(),
            log_level: None,
            plugins: Default::default(),
            ..config
        };
        assert_eq!(shown, Config::default());
        assert!(uncommented.iter().any(|line| line == "  factor: 2"));
    }

    #[test]
    fn the_other_broker_that_it_shows_is_the_one_its_configuration_is_for() {
        let shown = |text: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("# corebin: {"));
            config_of(&format!("corebin: {{{}", line.expect("an example"))).core
        };
        let core = shown(SAMPLE).expect("a core");
        assert_eq!(core.args, ["-c", "config/mosquitto.conf"]);
        let conf = include_str!("../../../config/mosquitto.conf");
        let url = core.plain_url().expect("by certificates").to_string();
        let port = url.rsplit(':').next().expect("a port");
        let words: Vec<Vec<&str>> = conf
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        for wanted in [
            ["listener", port],
            ["keyfile", "certs/hubKey.pem"],
            ["acl_file", "config/mosquitto.acl"],
            ["use_identity_as_username", "true"],
            ["require_certificate", "true"],
        ] {
            assert!(words.contains(&wanted.to_vec()), "{wanted:?}");
        }
    }

    #[test]
    fn only_present_plugins_are_started() {
        let some = BTreeSet::from(["state".to_owned(), "my.tool".to_owned()]);
        let ids = |text: &str| -> Vec<String> {
            let config = config_of(text);
            config.autostart.iter().map(PluginId::to_string).collect()
        };
        assert_eq!(ids(&with_present(&some)), ["state"]);
        assert!(ids(&with_present(&BTreeSet::new())).is_empty());
        let counter = BTreeSet::from(["counter".to_owned()]);
        assert_eq!(with_present(&counter), SAMPLE);
    }

    #[test]
    fn the_sample_is_written_once_and_never_over_a_file() {
        let temp = tempfile::tempdir().expect("temp");
        let folders = folders_in(temp.path());
        folders.create().expect("created");
        std::fs::write(folders.plugins.join("counter"), "x").expect("file");
        assert!(first_start(&folders).expect("written"));
        let meta = std::fs::metadata(&folders.config_file).expect("there");
        assert_eq!(meta.permissions().mode() & 0o7777, 0o644);
        let text = std::fs::read_to_string(&folders.config_file).expect("text");
        assert!(config_of(&text).autostart.is_empty(), "not executable");
        std::fs::write(&folders.config_file, "logLevel: debug\n").expect("file");
        assert!(!first_start(&folders).expect("there"));
        assert!(!write_new(&folders.config_file, "x").expect("there"));
        let text = std::fs::read_to_string(&folders.config_file).expect("text");
        assert_eq!(text, "logLevel: debug\n");
        let left = std::fs::read_dir(&folders.config).expect("folder").count();
        assert_eq!(left, 1, "no temporary file is left");
    }

    #[test]
    fn a_home_that_was_used_keeps_its_defaults() {
        let temp = tempfile::tempdir().expect("temp");
        let folders = folders_in(temp.path());
        folders.create().expect("created");
        std::fs::write(folders.certs.join("caCert.pem"), "x").expect("file");
        assert!(!first_start(&folders).expect("not empty"));
        assert!(!folders.config_file.exists());
    }
}
