//! What the launcher is asked and answers (HP 1.9, 1.10; ours: spec §18).
//!
//! Invariant: [`PluginInfo`] begins with the original's 13 fields in Go's order; what an older launcher does not send
//! reads as unknown.

use crate::golang::go_struct;
use serde_json::{Map, Value};

/// The launcher's capability with all methods.
pub const MANAGE: &str = "manage";
/// Its capability with the methods that change nothing.
pub const READ: &str = "read";
/// The login under which the original's clients address a launcher.
pub const LAUNCHER: &str = "launcher";
/// Number that is not known (spec §18).
pub const UNKNOWN: i64 = -1;

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

go_struct! {
    /// All that is known of a plugin, or of the core.
    pub struct PluginInfo: "launcherapi.PluginInfo" {
        /// Percent of one processor since the last sample; may exceed 100.
        cpu: i64 => "CPU",
        /// Resident bytes.
        rss: i64 => "RSS",
        /// When its file was changed, RFC 3339 ([`super::local_time`]).
        modified_time: String => "ModifiedTime",
        /// Its file name.
        name: String => "Name",
        /// Where its file is.
        path: String => "Path",
        /// Its last pid; 0 = never started.
        pid: i64 => "PID",
        /// Whether a process lives.
        running: bool => "Running",
        /// Bytes of its file.
        size: i64 => "Size",
        /// The original's word on its last end; empty = none.
        status: String => "Status",
        /// Successful execs since the launcher was started afresh.
        start_count: i64 => "StartCount",
        /// When the last run began, Unix ms; 0 = never.
        start_time_mse: i64 => "StartTimeMSE",
        /// When the last run ended, Unix ms; 0 = never.
        stop_time_mse: i64 => "StopTimeMSE",
        /// Seconds it has been running; 0 when it is not.
        uptime: i64 => "Uptime",
        /// What it is doing, one of nine words; empty = unknown.
        phase: String => "Phase",
        /// `up` or `down`; empty = unknown.
        wish: String => "Wish",
        /// Whether it starts with the launcher.
        enabled: bool => "Enabled",
        /// Number of its run, for ever; 0 = none yet.
        run: i64 => "Run",
        /// Restarts nobody asked for since its wish became up.
        restarts: i64 => "Restarts",
        /// When the next start is tried, Unix ms; 0 = none is due.
        next_start_mse: i64 => "NextStartMSE",
        /// Exit code of the last run that ended.
        exit_code: i64 => "ExitCode",
        /// Name of the signal that ended it, `SIGKILL`; empty = none.
        signal: String => "Signal",
        /// Why it is as it is, in one line; empty = nothing to explain.
        cause: String => "Cause",
        /// Processes of its tree besides its own.
        children: i64 => "Children",
        /// Open descriptors of its tree.
        open_fds: i64 => "OpenFDs",
        /// Processor time of its tree, ms.
        cpu_time_ms: i64 => "CPUTimeMS",
        /// Highest resident bytes of this run.
        peak_rss: i64 => "PeakRSS",
        /// Its limits; empty = none.
        limits: Map<String, Value> => "Limits",
        /// How its processes are known: `cgroup` or `group`; empty = unknown.
        tree: String => "Tree",
        /// The launcher's client id.
        node: String => "Node",
        /// What was set by hand: `enabled` or `disabled`; empty = nothing, the file decides.
        set_by_hand: String => "SetByHand",
        /// Whether the file lists it in `autostart`.
        autostart: bool => "Autostart",
    }
}

impl Default for PluginInfo {
    /// The original's fields as Go's zero, ours as unknown.
    fn default() -> Self {
        PluginInfo {
            cpu: 0,
            rss: 0,
            modified_time: String::new(),
            name: String::new(),
            path: String::new(),
            pid: 0,
            running: false,
            size: 0,
            status: String::new(),
            start_count: 0,
            start_time_mse: 0,
            stop_time_mse: 0,
            uptime: 0,
            phase: String::new(),
            wish: String::new(),
            enabled: false,
            run: 0,
            restarts: UNKNOWN,
            next_start_mse: 0,
            exit_code: UNKNOWN,
            signal: String::new(),
            cause: String::new(),
            children: UNKNOWN,
            open_fds: UNKNOWN,
            cpu_time_ms: UNKNOWN,
            peak_rss: UNKNOWN,
            limits: Map::new(),
            tree: String::new(),
            node: String::new(),
            set_by_hand: String::new(),
            autostart: false,
        }
    }
}

go_struct! {
    /// `list`.
    #[derive(Default)]
    pub struct ListArgs: "launcherapi.ListArgs" {
        /// Leave out what does not run.
        only_running: bool => "onlyRunning",
    }
}

go_struct! {
    /// Reply of `list`, sorted by id.
    #[derive(Default)]
    pub struct ListReply: "launcherapi.ListResp" {
        /// One of each plugin, the core among them under the id `core`.
        info: Vec<PluginInfo> => "info",
        /// What is wrong with the launcher itself, one line: that it is degraded, or without a bus. Left out when nothing is.
        #[serde(skip_serializing_if = "String::is_empty")]
        launcher: String => "launcher",
    }
}

go_struct! {
    /// Methods that name a plugin.
    #[derive(Default)]
    pub struct NameArgs: "launcherapi.StartPluginArgs" {
        /// Its id.
        name: String => "name",
    }
}

go_struct! {
    /// `startPlugin`.
    #[derive(Default)]
    pub struct StartArgs: "launcherapi.StartPluginArgs" {
        /// Its id.
        name: String => "name",
        /// Ours: it is started without being enabled.
        #[serde(skip_serializing_if = "is_false")]
        once: bool => "once",
    }
}

go_struct! {
    /// `enablePlugin` and `disablePlugin`.
    #[derive(Default)]
    pub struct SettingArgs: "launcherapi.SettingArgs" {
        /// Its id.
        name: String => "name",
        /// What was set by hand is forgotten instead: the file decides.
        #[serde(skip_serializing_if = "is_false")]
        default: bool => "default",
    }
}

go_struct! {
    /// `reload`.
    #[derive(Default)]
    pub struct ReloadArgs: "launcherapi.ReloadArgs" {
        /// Only tell what would be done.
        #[serde(skip_serializing_if = "is_false")]
        dry_run: bool => "dryRun",
    }
}

go_struct! {
    /// What a reload does with one plugin, or with the launcher itself (under its client id).
    #[derive(Default)]
    pub struct PlanStep: "launcherapi.PlanStep" {
        /// Whose.
        id: String => "id",
        /// `start`, `stop`, `restart`, `update` or `none`.
        action: String => "action",
        /// Why, in one line.
        why: String => "why",
    }
}

go_struct! {
    /// Reply of `reload`: one of each plugin, `none` included.
    #[derive(Default)]
    pub struct PlanReply: "launcherapi.PlanReply" {
        /// The launcher itself first, when it is concerned; then the core, `autostart` in its order, the rest by id.
        plan: Vec<PlanStep> => "plan",
    }
}

go_struct! {
    /// Reply of methods that name a plugin.
    #[derive(Default)]
    pub struct InfoReply: "launcherapi.StartPluginResp" {
        /// The plugin after it.
        info: PluginInfo => "info",
    }
}

go_struct! {
    /// `stopAllPlugins`.
    #[derive(Default)]
    pub struct StopAllArgs: "launcherapi.StopAllPluginsArgs" {
        /// The core too.
        #[serde(skip_serializing_if = "is_false")]
        including_core: bool => "includingCore",
    }
}

go_struct! {
    /// Reply of `getPlugin`.
    #[derive(Default)]
    pub struct GetPluginReply: "launcherapi.GetPluginResp" {
        /// The plugin.
        info: PluginInfo => "info",
        /// Why it is so.
        why: Why => "why",
    }
}

go_struct! {
    /// The account of a plugin's state.
    #[derive(Default)]
    pub struct Why: "launcherapi.Why" {
        /// One sentence.
        text: String => "text",
        /// Who set the wish; empty = the configuration.
        wish_by: String => "wishBy",
        /// Since when it is wished, Unix ms.
        wish_since_mse: i64 => "wishSinceMSE",
        /// Since when it is in its phase, Unix ms.
        phase_since_mse: i64 => "phaseSinceMSE",
        /// What it waits for.
        waits_for: Vec<String> => "waitsFor",
        /// How the last run ended; `run` 0 = none has.
        last_exit: LastExit => "lastExit",
        /// The last lines it wrote, oldest first.
        tail: Vec<String> => "tail",
        /// Starts that failed in a row.
        attempt: i64 => "attempt",
        /// When the next start is tried, Unix ms; 0 = none is due.
        next_start_mse: i64 => "nextStartMSE",
        /// What the operator can do.
        hint: String => "hint",
        /// What it says of itself (sd_notify's `STATUS=`); empty = nothing.
        says: String => "says",
        /// The class of its newest failure, a key of `restart.on`; empty = there was none.
        failure: String => "failure",
        /// What follows a failure, one of each class.
        policy: Vec<ClassPolicy> => "policy",
    }
}

go_struct! {
    /// What follows a failure of one class.
    #[derive(Default)]
    pub struct ClassPolicy: "launcherapi.ClassPolicy" {
        /// The class, a key of `restart.on`.
        class: String => "class",
        /// `always`, `on-failure` or `never`.
        policy: String => "policy",
        /// Before the first restart, ms.
        first_delay_ms: i64 => "firstDelayMS",
        /// Before the second in a row, ms.
        delay_ms: i64 => "delayMS",
        /// By how much each further one grows, in percent: 200 = it doubles.
        factor_percent: i64 => "factorPercent",
        /// None is longer, ms.
        max_delay_ms: i64 => "maxDelayMS",
    }
}

go_struct! {
    /// How a run ended.
    pub struct LastExit: "launcherapi.LastExit" {
        /// Which run.
        run: i64 => "run",
        /// Its exit code.
        exit_code: i64 => "exitCode",
        /// The signal's name; empty = none.
        signal: String => "signal",
        /// Whether the kernel wrote a core file.
        core_dumped: bool => "coreDumped",
        /// In words.
        text: String => "text",
        /// When, Unix ms.
        time_mse: i64 => "timeMSE",
    }
}

impl Default for LastExit {
    fn default() -> Self {
        LastExit {
            run: 0,
            exit_code: UNKNOWN,
            signal: String::new(),
            core_dumped: false,
            text: String::new(),
            time_mse: 0,
        }
    }
}
