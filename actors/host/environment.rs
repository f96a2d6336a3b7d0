//! The environment of a plugin (spec §18). Pure.
//!
//! Invariants: what systemd says to the launcher is not for its plugins; of a name that is given twice the last counts,
//! in the order: the launcher's own, `envFile`, `env`, what the launcher says.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

/// Variables by which systemd speaks to one process only.
const NOT_FOR_PLUGINS: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
];

/// How verbose a plugin is to be.
const LOG_LEVEL: &str = "LOGLEVEL";
/// Where the bus is.
const SERVER: &str = "HIVEOT_SERVER";
/// Where it is to tell that it is ready.
const NOTIFY: &str = "NOTIFY_SOCKET";
/// Within how many microseconds it is to give a sign of life.
const WATCHDOG: &str = "WATCHDOG_USEC";

/// What plugins inherit of the launcher's own environment.
pub(super) fn inherited(
    own: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    own.filter(|(name, _)| !NOT_FOR_PLUGINS.iter().any(|not| OsStr::new(not) == name))
        .collect()
}

/// The whole environment but for home and marker, which are set when the process is made.
pub(super) fn environment<'a>(
    inherited: &[(OsString, OsString)],
    own: impl Iterator<Item = (&'a String, &'a String)>,
    log_level: &str,
    server: Option<&str>,
    notify: Option<&Path>,
    watchdog: Option<Duration>,
) -> Vec<(OsString, OsString)> {
    let own = own.map(|(name, value)| (name.into(), value.into()));
    let level = (LOG_LEVEL.into(), log_level.into());
    let server = server.map(|url| (SERVER.into(), url.into()));
    let mut all = inherited.to_vec();
    let notify = notify.map(|path| (NOTIFY.into(), path.into()));
    // Without WATCHDOG_PID it is meant for whoever reads it; the number is not known before there is a process.
    let watchdog = watchdog.filter(|_| notify.is_some());
    let watchdog = watchdog.map(|every| (WATCHDOG.into(), every.as_micros().to_string().into()));
    all.extend(
        own.chain([level])
            .chain(server)
            .chain(notify)
            .chain(watchdog),
    );
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_last_word_is_the_launchers_and_systemds_are_left_out() {
        let pairs = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
            all.iter().map(owned).collect()
        };
        let own = pairs(&[
            ("A", "1"),
            ("LOGLEVEL", "x"),
            ("NOTIFY_SOCKET", "/n"),
            ("LISTEN_FDS", "1"),
        ]);
        let inherited = inherited(own.into_iter().map(|(a, b)| (a.into(), b.into())));
        let file = pairs(&[("A", "2"), ("B", "2")]);
        let plan = pairs(&[("B", "3"), ("HIVEOT_SERVER", "mine")]);
        let of_plugin = file.iter().chain(&plan).map(|(a, b)| (a, b));
        let all = environment(&inherited, of_plugin, "info", Some("unix:///s"), None, None);
        let last: BTreeMap<_, _> = all
            .iter()
            .map(|(a, b)| (a.to_str().unwrap(), b.to_str().unwrap()))
            .collect();
        let expected = [
            ("A", "2"),
            ("B", "3"),
            ("HIVEOT_SERVER", "unix:///s"),
            ("LOGLEVEL", "info"),
        ];
        assert_eq!(last, BTreeMap::from(expected));
    }
}
