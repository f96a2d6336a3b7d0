//! The whole account of a plugin, of the core, of a file that is refused and of the launcher itself (spec §13, §18,
//! `getPlugin`).
//!
//! Invariants: every word comes from the state that decides; no null, unknown numbers are -1. Looking at processes is
//! reading a few lines of `/proc`, and only of a run that lives.

use super::show::{info, number, refused as refused_info};
use crate::hub::{CoreSetup, Hub, Stage};
use crate::link::{Link, Retry};
use crate::ports::{Kind, Refused, Teller, Usage, unix_millis};
use crate::seat::{Seat, SeatState};
use crate::view::View;
use bus::wire::{ClassPolicy, GetPluginReply, LastExit, PluginInfo, UNKNOWN, Why};
use os::table;
use std::time::Duration;
use supervision::ExitStatus;
use supervision::lifecycle::{PhaseName, Wish};
use supervision::policy::{ClassRules, FailureClass, RestartPolicy};
use supervision::ready::ReadyBy;
use supervision::why::{self, Account, Told};

/// So many processes that do not die are told of.
const UNDYING: usize = 3;

/// Everything known of a plugin (spec §18, `getPlugin`).
#[must_use]
pub fn everything(hub: &Hub, seat: &Seat) -> GetPluginReply {
    let view = &*seat.view();
    let said = said(hub, seat, view);
    GetPluginReply {
        info: info(hub, view),
        why: Why {
            text: said.told.text,
            wish_by: view.wish_by.clone(),
            wish_since_mse: view.wish_since_mse,
            phase_since_mse: view.phase_since_mse,
            waits_for: waits_for(hub, view, said.waits_for),
            last_exit: last_exit(view),
            tail: view.tail.clone(),
            attempt: i64::from(view.attempt),
            next_start_mse: view.next_start_mse,
            hint: said.told.hint,
            says: view.notified.clone(),
            failure: said.failure.to_owned(),
            policy: said.policy,
        },
    }
}

fn last_exit(view: &View) -> LastExit {
    let Some(exit) = &view.last_exit else {
        return LastExit::default();
    };
    LastExit {
        run: number(exit.run.0),
        exit_code: exit.status.code(),
        signal: exit.status.signal_name(),
        core_dumped: match exit.status {
            ExitStatus::Signal { core_dumped, .. } => core_dumped,
            ExitStatus::Code(_) | ExitStatus::OutOfMemory { .. } | ExitStatus::Unknown => false,
        },
        text: exit.text.clone(),
        time_mse: exit.time_mse,
    }
}

fn waits_for(hub: &Hub, view: &View, phase: Vec<String>) -> Vec<String> {
    // Nobody keeps up what a plugin has that rests.
    if view.phase == PhaseName::Stopped {
        return Vec::new();
    }
    let credentials = hub.renewer.waits_for(&view.id);
    phase.into_iter().chain(credentials).collect()
}

/// What the state that decides says.
struct SaidOf {
    told: Told,
    waits_for: Vec<String>,
    failure: &'static str,
    policy: Vec<ClassPolicy>,
}

fn said(hub: &Hub, seat: &Seat, view: &View) -> SaidOf {
    let left = view
        .next_start_mse
        .saturating_sub(hub.ports.clock.wall_mse());
    let next_in =
        (view.next_start_mse > 0).then(|| Duration::from_millis(u64::try_from(left).unwrap_or(0)));
    // Before the state is locked: an actor may wait for it.
    let processes = Processes::of(seat, view);
    let state = seat.state();
    let ready = ready_by(&state, seat.kind);
    let account = Account {
        id: view.id.as_str(),
        phase: state.life.phase(),
        wish: state.life.wish(),
        wish_by: &state.wish_by,
        enabled: state.enabled(seat.kind),
        last: state.life.last_failure(),
        tail: &state.tail,
        restarts: state.life.restarts(),
        next_in,
        ready: &ready,
        undying: &processes.undying,
        frozen: processes.frozen,
    };
    let mut told = why::tell(&account);
    // A limit that one relies on and that does not hold is no matter of the log alone.
    let child = state.child.iter();
    for refused in child.flat_map(|(_, child)| child.limits_refused()) {
        told.text.push_str("; ");
        told.text.push_str(&refused);
    }
    if seat.is_quarantined() {
        told.text = format!("{}; as far as is known, {}", view.cause, told.text);
        "restart the launcher, which ends the processes of this one and starts it anew"
            .clone_into(&mut told.hint);
    }
    let mut waits_for = state.life.waits_for(&ready);
    if let Some(folder) = &state.lacks_room {
        waits_for.push(format!("room on the disk of {}", folder.display()));
    }
    SaidOf {
        told,
        waits_for,
        failure: state
            .life
            .last_failure()
            .map_or("", |last| last.failure.class().name()),
        policy: policy(&state.plan.rules.restart),
    }
}

/// What a look at the processes of a run shows.
#[derive(Default)]
struct Processes {
    undying: Vec<String>,
    frozen: bool,
}

impl Processes {
    fn of(seat: &Seat, view: &View) -> Processes {
        let Some((_, child)) = seat.run() else {
            return Processes::default();
        };
        match view.phase {
            PhaseName::Killing => Processes {
                undying: child
                    .members()
                    .iter()
                    .filter_map(|member| table::undying(member.pid))
                    .take(UNDYING)
                    .collect(),
                frozen: false,
            },
            PhaseName::Starting | PhaseName::Running => Processes {
                undying: Vec::new(),
                frozen: is_frozen(child.pid()),
            },
            PhaseName::Stopping
            | PhaseName::Stopped
            | PhaseName::Blocked
            | PhaseName::Preparing
            | PhaseName::Backoff
            | PhaseName::Foreign => Processes::default(),
        }
    }
}

/// Whether a process was stopped by a signal. Traced by a debugger is something else.
fn is_frozen(pid: i32) -> bool {
    matches!(table::stat(pid), Ok(Some(stat)) if stat.state == 'T')
}

/// By what a run counts as ready, in words.
fn ready_by(state: &SeatState, kind: Kind) -> ReadyBy {
    match &state.plan.teller {
        Teller::Started => ReadyBy::Living,
        Teller::Itself => ReadyBy::Itself,
        Teller::Log(pattern) => ReadyBy::Line(pattern.as_str().to_owned()),
        Teller::Connect(place) => ReadyBy::Connection(place.to_string()),
        Teller::Login => match kind {
            Kind::Plugin => ReadyBy::Login,
            Kind::Core => ReadyBy::LoginOfOthers,
        },
    }
}

/// What follows a failure, of each class.
fn policy(restart: &RestartPolicy) -> Vec<ClassPolicy> {
    let millis = |time: Duration| number(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    FailureClass::ALL
        .iter()
        .map(|class| {
            let ClassRules { mode, delays } = restart.of_class(*class);
            ClassPolicy {
                class: class.name().to_owned(),
                policy: mode.as_str().to_owned(),
                first_delay_ms: millis(delays.first),
                delay_ms: millis(delays.next),
                factor_percent: percent(delays.factor),
                max_delay_ms: millis(delays.longest),
            }
        })
        .collect()
}

/// A factor in whole percent; a float beyond all integers is the largest.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a factor is checked when it is read, and the cast saturates"
)]
fn percent(factor: f64) -> i64 {
    (factor * 100.0).round() as i64
}

/// A file that cannot be a plugin.
#[must_use]
pub fn refused(hub: &Hub, file: &Refused) -> GetPluginReply {
    GetPluginReply {
        info: refused_info(hub, file),
        why: Why {
            text: format!("it is no plugin: {}", file.reason),
            hint: format!(
                "for example in launcher.yaml: plugins: {{{}: {{instanceOf: \"{}\"}}}}; then: hubcli reload",
                supervision::PluginId::like(&file.file.name),
                file.file.name
            ),
            ..Why::default()
        },
    }
}

/// What is wrong with the launcher itself, one line; empty when nothing is.
#[must_use]
pub fn own_cause(hub: &Hub) -> String {
    match (degraded(hub), &*hub.renewer.links().borrow()) {
        (Some(degraded), _) => degraded,
        (None, Link::Down { reason, .. }) => no_bus(reason),
        (None, Link::Up { .. }) => String::new(),
    }
}

fn degraded(hub: &Hub) -> Option<String> {
    hub.trouble().map(|trouble| format!("degraded: {trouble}"))
}

fn no_bus(reason: &str) -> String {
    format!("no bus: {reason}")
}

/// The launcher's account of itself.
#[must_use]
pub fn launcher(hub: &Hub) -> GetPluginReply {
    let views: Vec<_> = hub.roster.seats().iter().map(|seat| seat.view()).collect();
    let wished = views.iter().filter(|view| view.wish == Wish::Up).count();
    let up = views
        .iter()
        .filter(|view| view.wish == Wish::Up && view.phase == PhaseName::Running)
        .count();
    let doing = match hub.stage() {
        Stage::Beginning | Stage::Starting => "it is starting",
        Stage::Up => "it runs",
        Stage::Ending => "it is stopping",
    };
    let mut text = format!("{doing}; {up} of {wished} that should run do");
    let bus = BusState::of(hub);
    text.push_str(&bus.text);
    let trees = hub.ports.processes.tree_in_words();
    if !trees.is_empty() {
        text.push_str("; ");
        text.push_str(&trees);
    }
    let degraded = degraded(hub);
    let mut hint = bus.hint;
    if let Some(degraded) = &degraded {
        text = format!("{degraded}; {text}");
        if hint.is_empty() {
            "launcher --check names all that is wrong; then: hubcli reload".clone_into(&mut hint);
        }
    }
    GetPluginReply {
        info: own_info(hub, degraded.unwrap_or_default()),
        why: Why {
            text,
            phase_since_mse: unix_millis(hub.began),
            waits_for: bus.waits_for,
            attempt: bus.failures,
            next_start_mse: 0,
            hint,
            ..Why::default()
        },
    }
}

fn own_info(hub: &Hub, status: String) -> PluginInfo {
    let began = unix_millis(hub.began);
    let usage = hub.own_usage();
    let known =
        |value: fn(&Usage) -> u64| usage.as_ref().map_or(UNKNOWN, |usage| number(value(usage)));
    PluginInfo {
        cpu: known(|usage| usage.cpu_percent).max(0),
        rss: known(|usage| usage.rss_bytes).max(0),
        status,
        name: hub.node.client_id.clone(),
        path: std::env::current_exe()
            .unwrap_or_default()
            .display()
            .to_string(),
        pid: i64::from(std::process::id()),
        running: true,
        start_count: 1,
        start_time_mse: began,
        // By the clock that nobody sets.
        uptime: number(hub.ports.clock.now().since_origin().as_secs()),
        phase: PhaseName::Running.as_str().to_owned(),
        wish: "up".to_owned(),
        enabled: true,
        cause: own_cause(hub),
        children: known(|usage| usage.children),
        open_fds: usage
            .and_then(|usage| usage.open_fds)
            .map_or(UNKNOWN, number),
        cpu_time_ms: known(|usage| usage.cpu_time_ms),
        peak_rss: known(|usage| usage.peak_rss_bytes),
        node: hub.node.client_id.clone(),
        ..PluginInfo::default()
    }
}

/// How the bus is, in words.
#[derive(Default)]
struct BusState {
    text: String,
    waits_for: Vec<String>,
    hint: String,
    failures: i64,
}

impl BusState {
    fn of(hub: &Hub) -> BusState {
        match &*hub.renewer.links().borrow() {
            Link::Up { .. } => BusState {
                text: "; it is connected to the bus".to_owned(),
                ..BusState::default()
            },
            Link::Down {
                since_mse,
                reason,
                retry,
                ..
            } => BusState::down(hub, *since_mse, reason, retry),
        }
    }

    fn down(hub: &Hub, since_mse: i64, reason: &str, retry: &Retry) -> BusState {
        let now = hub.ports.clock.wall_mse();
        let since = match since_mse {
            0 => "since its start".to_owned(),
            since => format!("for {}", how_long(now.saturating_sub(since))),
        };
        let next = match retry.next_mse.saturating_sub(now) {
            i64::MIN..=0 => "it is being tried again right now".to_owned(),
            left => format!("it is tried again in {}", how_long(left)),
        };
        let failures = i64::from(retry.failures);
        let tries = match failures {
            0 => String::new(),
            1 => ", after one try that failed".to_owned(),
            some => format!(", after {some} tries that failed in a row"),
        };
        let hint = match (retry.way_out.as_str(), &hub.core) {
            ("", CoreSetup::Own(_)) => {
                "hubcli why core tells what the core does, logs/core.log what it says"
            }
            ("", CoreSetup::Elsewhere) => "logs/launcher.log tells what was tried",
            (way_out, _) => way_out,
        };
        BusState {
            text: format!("; there is no bus: {reason}, {since}"),
            waits_for: vec![format!("the bus; {next}{tries}")],
            hint: format!(
                "{hint}; plugins are kept up meanwhile, and everything comes back by itself"
            ),
            failures,
        }
    }
}

/// A time in words, rounded up: `8 s`, `12 min`, `3 h`, `2 days`.
fn how_long(ms: i64) -> String {
    match ms.max(0).saturating_add(999) / 1000 {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_shortly() {
        for (ms, text) in [
            (-5, "0 s"),
            (1, "1 s"),
            (119_000, "119 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h"),
            (400_000_000, "4 days"),
        ] {
            assert_eq!(how_long(ms), text);
        }
    }

    #[test]
    fn the_policy_of_each_class_is_told_in_whole_numbers() {
        let told = policy(&RestartPolicy::default());
        assert_eq!(told.len(), FailureClass::ALL.len());
        let crash = told.iter().find(|one| one.class == "crash").unwrap();
        assert_eq!(
            (
                crash.policy.as_str(),
                crash.first_delay_ms,
                crash.delay_ms,
                crash.factor_percent,
                crash.max_delay_ms
            ),
            ("always", 0, 1_000, 200, 3_600_000)
        );
        let lost = told.iter().find(|one| one.class == "dependencyLost");
        assert_eq!(lost.unwrap().policy, "never");
        assert_eq!(percent(f64::MAX), i64::MAX);
    }
}
