//! What the launcher tells of plugins and of itself, as events (spec §8, §18).
//!
//! Invariants: `seq` counts from 1 within one `boot`, which names a start of the launcher; an event that comes twice
//! bears the same. What has no time, pid, code or limit says so by -1 (spec §18).

use super::UNKNOWN;
use crate::golang::go_struct;

/// The name of the event with [`PluginEvent`].
pub const PLUGIN_EVENT: &str = "plugin";
/// The name of the event with [`LimitEvent`].
pub const LIMIT_EVENT: &str = "limit";
/// The name of the event with [`LauncherEvent`].
pub const LAUNCHER_EVENT: &str = "launcher";
/// The name of the event that a run began; the plugin's id as JSON string.
pub const STARTED_EVENT: &str = "started";
/// The name of the event that a run is over; the plugin's id as JSON string.
pub const STOPPED_EVENT: &str = "stopped";
/// The name of the event with the values of properties that changed (HP 1.21).
pub const PROPERTIES_EVENT: &str = "$properties";

go_struct! {
    /// A plugin, or the core, is in another phase.
    pub struct PluginEvent: "launcherapi.PluginEvent" {
        /// Its number.
        seq: i64 => "seq",
        /// Within which start of the launcher.
        boot: String => "boot",
        /// When it happened, Unix ms.
        time_mse: i64 => "timeMSE",
        /// Whose.
        id: String => "id",
        /// The newest run; 0 = none yet.
        run: i64 => "run",
        /// Its main process; 0 = no run yet, -1 = not known (yet).
        pid: i64 => "pid",
        /// The phase before.
        from: String => "from",
        /// The phase now.
        to: String => "to",
        /// Why, in one line; empty = nothing to explain.
        cause: String => "cause",
        /// Exit code of the run that ended by this; -1 = none did, or not by exiting.
        exit_code: i64 => "exitCode",
        /// Name of the signal that ended it; empty = none.
        signal: String => "signal",
        /// When it is tried again, ms from `timeMSE`; -1 = no time is set.
        restart_in_ms: i64 => "restartInMS",
        /// Last lines of a run that failed, oldest first.
        tail: Vec<String> => "tail",
    }
}

impl Default for PluginEvent {
    fn default() -> Self {
        PluginEvent {
            seq: 0,
            boot: String::new(),
            time_mse: 0,
            id: String::new(),
            run: 0,
            pid: 0,
            from: String::new(),
            to: String::new(),
            cause: String::new(),
            exit_code: UNKNOWN,
            signal: String::new(),
            restart_in_ms: UNKNOWN,
            tail: Vec::new(),
        }
    }
}

go_struct! {
    /// A plugin exceeded a limit.
    #[derive(Default)]
    pub struct LimitEvent: "launcherapi.LimitEvent" {
        /// Its number.
        seq: i64 => "seq",
        /// Within which start of the launcher.
        boot: String => "boot",
        /// When it happened, Unix ms.
        time_mse: i64 => "timeMSE",
        /// Whose.
        id: String => "id",
        /// Which run.
        run: i64 => "run",
        /// `memory` or `cpu`.
        what: String => "what",
        /// Bytes, or percent of one processor.
        measured: i64 => "measured",
        /// In the same unit.
        limit: i64 => "limit",
        /// In how many samples in a row.
        strikes: i64 => "strikes",
        /// `event` or `restart`.
        action: String => "action",
        /// The file with what was found; empty = none.
        evidence: String => "evidence",
    }
}

go_struct! {
    /// Of the launcher itself.
    #[derive(Default)]
    pub struct LauncherEvent: "launcherapi.LauncherEvent" {
        /// Its number.
        seq: i64 => "seq",
        /// Within which start of the launcher.
        boot: String => "boot",
        /// When it happened, Unix ms.
        time_mse: i64 => "timeMSE",
        /// `started`, `stopping`, `reloaded`, `degraded`, `recovered` or `dropped`.
        what: String => "what",
        /// In one line.
        text: String => "text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golang::{decode, encode};

    fn written(event: &impl serde::Serialize) -> String {
        String::from_utf8(encode(event)).unwrap()
    }

    #[test]
    fn events_have_the_fields_of_the_specification_in_its_order() {
        let plugin = PluginEvent {
            seq: 7,
            boot: "5f".to_owned(),
            time_mse: 1_698_434_814_123,
            id: "history".to_owned(),
            run: 3,
            pid: 4711,
            from: "running".to_owned(),
            to: "backoff".to_owned(),
            cause: "ended by SIGSEGV after 2.0 s".to_owned(),
            signal: "SIGSEGV".to_owned(),
            restart_in_ms: 1_000,
            tail: vec!["a \"last\" line".to_owned()],
            ..PluginEvent::default()
        };
        let json = r#"{"seq":7,"boot":"5f","timeMSE":1698434814123,"id":"history","run":3,"pid":4711,"from":"running","to":"backoff","cause":"ended by SIGSEGV after 2.0 s","exitCode":-1,"signal":"SIGSEGV","restartInMS":1000,"tail":["a \"last\" line"]}"#;
        assert_eq!(written(&plugin), json);
        assert_eq!(decode::<PluginEvent>(json.as_bytes()).unwrap(), plugin);
        assert!(written(&PluginEvent::default()).ends_with(r#""tail":[]}"#));

        let limit = LimitEvent {
            seq: 8,
            boot: "5f".to_owned(),
            time_mse: 1,
            id: "history".to_owned(),
            run: 3,
            what: "memory".to_owned(),
            measured: 73_400_320,
            limit: 67_108_864,
            strikes: 3,
            action: "restart".to_owned(),
            evidence: "/hub/logs/history.limit-3.txt".to_owned(),
        };
        assert_eq!(
            written(&limit),
            r#"{"seq":8,"boot":"5f","timeMSE":1,"id":"history","run":3,"what":"memory","measured":73400320,"limit":67108864,"strikes":3,"action":"restart","evidence":"/hub/logs/history.limit-3.txt"}"#
        );
        let launcher = LauncherEvent {
            seq: 9,
            boot: "5f".to_owned(),
            time_mse: 2,
            what: "dropped".to_owned(),
            text: "3 events".to_owned(),
        };
        assert_eq!(
            written(&launcher),
            r#"{"seq":9,"boot":"5f","timeMSE":2,"what":"dropped","text":"3 events"}"#
        );
    }
}
