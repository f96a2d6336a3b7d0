//! Reads the configuration anew and brings the plugins in line with it (spec §4).
//!
//! Invariants:
//! - one reload at a time; a file with any problem changes nothing, and its problems are in the log and with the caller;
//! - what is to be done is decided by [`supervision::plan`], and a dry run tells just that;
//! - a start or a stop that comes from the file gives way to whatever was ordered since the plan was made; a changed plugin
//!   gets its new run by a fact that never brings up what is to be down;
//! - once the launcher ends, nothing is reloaded.

use crate::happening::LauncherNews;
use crate::hub::{Hub, Stage};
use crate::ports::{Happening, Kind, Loaded, Plan, Plans, Teller};
use crate::seat::Seat;
use crate::turn::turns;
use bus::wire::PlanStep;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use supervision::PluginId;
use supervision::lifecycle::{Event, PhaseName, Rules, StopCause, Wish};
use supervision::plan::{Action, Changes, Enabling, Planned, Present, plan};

/// The catalog seats new plugins at once, and the bridge listens to them; when one is being started anew, it takes a
/// moment.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// Whether a reload is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Its plan is told, nothing is done.
    DryRun,
    /// It is.
    ForReal,
}

/// Why nothing was reloaded; the text is for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// It came too late.
    #[error("the launcher is stopping; nothing is reloaded any more")]
    Ending,
    /// The file is of no use; a problem a line.
    #[error("{}\n{UNCHANGED}", fitting(.0))]
    File(String),
}

const UNCHANGED: &str = "the configuration stays as it was";

/// As many problems as an error text has room for, each whole, and how many more there are.
fn fitting(problems: &str) -> String {
    /// For the line that counts the others.
    const COUNT: usize = 64;
    let room = bus::rpc::MAX_ERROR - UNCHANGED.len() - COUNT;
    let mut told = String::new();
    let mut lines = problems.lines();
    while let Some(line) = lines.clone().next() {
        if !told.is_empty() && told.len() + 1 + line.len() > room {
            let more = lines.count();
            return format!("{told}\n… and {more} more, which are in the launcher's log");
        }
        if !told.is_empty() {
            told.push('\n');
        }
        told.push_str(line);
        lines.next();
    }
    told
}

/// Reloads, or tells what a reload would do; of each plugin there is, in the order of [`plan`], behind the launcher itself
/// when something waits for its restart.
///
/// # Errors
/// Nothing was changed, and why.
///
/// # Cancel safety
/// Not cancel safe: what was begun is left half done. Run it in a task of its own.
pub async fn reload(hub: &Arc<Hub>, how: How, by: &str) -> Result<Vec<PlanStep>, ReloadError> {
    let _alone = hub.reloading.lock().await;
    // Before the folders were looked at for the first time there is nothing to compare with.
    let _ = hub
        .stages()
        .wait_for(|stage| *stage > Stage::Beginning)
        .await;
    refuse_when_ending(hub)?;
    let loaded = hub.configuration.load().await.map_err(|text| {
        for line in text.lines() {
            tracing::error!(by, "the configuration is not reloaded: {line}");
        }
        ReloadError::File(text)
    })?;
    // The disk may have taken its time.
    refuse_when_ending(hub)?;
    let seen = Seen::of(hub, &loaded.plans);
    let planned = plan(&loaded.plans.autostart, &seen.present);
    let told = told(hub, &loaded, &planned);
    match how {
        How::DryRun => {}
        How::ForReal => {
            carry_out(hub, loaded, &seen, &planned, by).await;
            announce(hub, &told, by);
        }
    }
    Ok(told)
}

fn refuse_when_ending(hub: &Hub) -> Result<(), ReloadError> {
    match hub.stage() {
        Stage::Beginning | Stage::Starting | Stage::Up => Ok(()),
        Stage::Ending => Err(ReloadError::Ending),
    }
}

/// How everything is when the plan is made.
struct Seen {
    present: Vec<Present>,
    /// How many orders each seat had taken.
    orders: BTreeMap<PluginId, u64>,
}

impl Seen {
    fn of(hub: &Hub, new: &Plans) -> Self {
        let listed: BTreeSet<&PluginId> = new.autostart.iter().collect();
        let mut seen = Seen {
            present: Vec::new(),
            orders: BTreeMap::new(),
        };
        for seat in hub.roster.seats() {
            let state = seat.state();
            let enabling = match seat.kind {
                Kind::Core => Enabling::Always,
                Kind::Plugin => Enabling::ByFile {
                    was: state.listed,
                    is: listed.contains(&seat.id),
                    hand: hub.ports.memory.hand(&seat.id),
                },
            };
            seen.orders.insert(seat.id.clone(), state.orders);
            seen.present.push(Present {
                id: seat.id.clone(),
                enabling,
                changes: changes(&state.plan, new.of(&seat.id, seat.kind)),
                wish: state.life.wish(),
                phase: state.life.phase().name(),
            });
        }
        for id in listed {
            if !seen.orders.contains_key(id) {
                seen.present.push(Present {
                    id: id.clone(),
                    enabling: Enabling::ByFile {
                        was: false,
                        is: true,
                        hand: hub.ports.memory.hand(id),
                    },
                    changes: Changes::default(),
                    wish: Wish::Down,
                    phase: PhaseName::Stopped,
                });
            }
        }
        seen
    }

    fn changes_of(&self, id: &PluginId) -> Changes {
        let present = self.present.iter().find(|one| one.id == *id);
        present.map(|one| one.changes.clone()).unwrap_or_default()
    }
}

/// What is new, by the keys of the file. Taken apart, so that no setting can be added without a word on what it needs.
fn changes(before: &Plan, after: &Plan) -> Changes {
    let Plan {
        rules,
        logs,
        limits,
        sampling,
        args,
        env,
        env_file,
        cwd,
        instance_of,
        requires,
        needs,
        teller,
        on_core_restart,
    } = before;
    let Rules {
        restart,
        stop,
        start_timeout,
        ready,
        watchdog,
    } = rules;
    let is_ready_otherwise = *teller != after.teller || *ready != after.rules.ready;
    // The kernel is told when a run begins.
    let is_held_otherwise = limits.held() != after.limits.held();
    let named = |keys: &[(&'static str, bool)]| {
        let changed = keys.iter().filter(|(_, changed)| *changed);
        changed.map(|(key, _)| *key).collect()
    };
    Changes {
        respawn: named(&[
            ("args", *args != after.args),
            ("cwd", *cwd != after.cwd),
            ("env", *env != after.env),
            ("envFile", *env_file != after.env_file),
            ("instanceOf", *instance_of != after.instance_of),
            ("limits", is_held_otherwise),
            ("ready", is_ready_otherwise),
            // A run is told of it in its environment, and is watched by what it was told.
            ("watchdog", *watchdog != after.rules.watchdog),
        ]),
        in_place: named(&[
            ("limits", *limits != after.limits && !is_held_otherwise),
            ("logs", *logs != after.logs),
            ("monitor", *sampling != after.sampling),
            ("needs", *needs != after.needs),
            ("onCoreRestart", *on_core_restart != after.on_core_restart),
            ("requires", *requires != after.requires),
            ("restart", *restart != after.rules.restart),
            ("start.timeout", *start_timeout != after.rules.start_timeout),
            ("stop", *stop != after.rules.stop),
        ]),
    }
}

/// The plan for the caller, with what waits for a new launcher.
fn told(hub: &Hub, loaded: &Loaded, planned: &[Planned]) -> Vec<PlanStep> {
    let at_restart = &loaded.at_restart;
    let later = "in force when the launcher is restarted";
    let itself = (!at_restart.is_empty()).then(|| PlanStep {
        id: hub.node.client_id.clone(),
        action: Action::None.to_string(),
        why: format!("changed: {}; {later}", at_restart.join(", ")),
    });
    let core_waits = at_restart.iter().any(|key| key == "corebin");
    let plugins = planned.iter().map(|one| {
        let why = if core_waits && one.id == PluginId::core() {
            format!("{}; corebin changed, {later}", one.why)
        } else {
            one.why.clone()
        };
        PlanStep {
            id: one.id.to_string(),
            action: one.action.to_string(),
            why,
        }
    });
    itself.into_iter().chain(plugins).collect()
}

async fn carry_out(hub: &Arc<Hub>, loaded: Loaded, seen: &Seen, planned: &[Planned], by: &str) {
    let plans = hub.replace_plans(loaded.plans);
    hub.inventory.follow(&plans);
    let listed: BTreeSet<&PluginId> = plans.autostart.iter().collect();
    for seat in hub.roster.seats() {
        let was_by_bus = seat.state().plan.teller == Teller::Login;
        seat.replan(
            plans.of(&seat.id, seat.kind).clone(),
            listed.contains(&seat.id),
        );
        if !was_by_bus {
            hub.have_told_of_bus(&seat);
        }
    }
    let until = tokio::time::Instant::now() + READY_WITHIN;
    if tokio::time::timeout_at(until, hub.seated(&plans))
        .await
        .is_err()
    {
        tracing::error!(
            "what is new in autostart could not be started yet: the catalog does not answer"
        );
    }
    if tokio::time::timeout_at(until, hub.listening(&plans))
        .await
        .is_err()
    {
        tracing::warn!("the bus is slow; a plugin that is new with ready: bus may be seen late");
    }
    let starts = planned.iter().filter(|one| one.action == Action::Start);
    let mut turns = turns(starts.count()).into_iter();
    for one in planned {
        if one.action != Action::None {
            tracing::info!(plugin = %one.id, action = %one.action, by, "reload: {}", one.why);
        }
        let Some(seat) = hub.roster.get(&one.id) else {
            continue;
        };
        let orders = seen.orders.get(&one.id).copied().unwrap_or(0);
        match one.action {
            Action::Start => {
                if let Some(turn) = turns.next() {
                    seat.give_turn(turn);
                }
                seat.by_file(Event::Start, orders, by);
            }
            Action::Stop => seat.by_file(Event::Stop(StopCause::Unlisted), orders, by),
            Action::Restart | Action::Update | Action::None => {
                follow(&seat, &seen.changes_of(&one.id));
            }
        }
    }
}

/// Has a plugin follow its new settings.
fn follow(seat: &Seat, changes: &Changes) {
    if !changes.respawn.is_empty() {
        seat.post(Event::Outdated);
    } else if !changes.in_place.is_empty() {
        // Spec §9: a delay is cut short when the configuration changed.
        seat.post(Event::CauseGone);
    }
}

fn announce(hub: &Hub, told: &[PlanStep], by: &str) {
    let none = Action::None.as_str();
    let deeds: Vec<String> = told
        .iter()
        .filter(|step| step.action != none)
        .map(|step| format!("{} {}", step.action, step.id))
        .collect();
    let text = if deeds.is_empty() {
        format!("the configuration was reloaded by {by}; nothing changed")
    } else {
        format!(
            "the configuration was reloaded by {by}: {}",
            deeds.join(", ")
        )
    };
    tracing::info!(by, "{text}");
    hub.ports.herald.announce(Happening::Launcher {
        what: LauncherNews::Reloaded,
        text,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_to_a_run_or_to_the_kernel_at_its_begin_needs_a_new_one() {
        let before = Plan {
            rules: Rules::default(),
            logs: supervision::policy::LogPolicy::default(),
            limits: supervision::limits::Limits::default(),
            args: Vec::new(),
            env: BTreeMap::new(),
            env_file: None,
            cwd: None,
            instance_of: None,
            requires: Vec::new(),
            needs: Vec::new(),
            teller: crate::ports::Teller::default(),
            sampling: None,
            on_core_restart: crate::ports::OnCoreRestart::default(),
        };
        let mut after = before.clone();
        after.rules.watchdog = Some(Duration::from_secs(30));
        after.rules.start_timeout = Duration::from_secs(7);
        after.limits.memory_bytes = std::num::NonZeroU64::new(1 << 20);
        let found = changes(&before, &after);
        assert_eq!(found.respawn, ["watchdog"]);
        assert_eq!(found.in_place, ["limits", "start.timeout"]);
        after.limits.hard = true;
        assert_eq!(changes(&before, &after).respawn, ["limits", "watchdog"]);
        assert_eq!(changes(&before, &after).in_place, ["start.timeout"]);
        let mut soft = before.clone();
        soft.limits.hard = true;
        assert_eq!(changes(&before, &soft).in_place, ["limits"]);
    }

    #[test]
    fn problems_that_do_not_fit_are_counted_and_none_is_cut() {
        let few = "f.yaml:1:1: a\nf.yaml:2:1: b";
        let all = format!("{few}\n{UNCHANGED}");
        assert_eq!(ReloadError::File(few.to_owned()).to_string(), all);
        let many: Vec<String> = (1..=9)
            .map(|n| format!("f.yaml:{n}:1: {}", "é".repeat(100)))
            .collect();
        let text = ReloadError::File(many.join("\n")).to_string();
        assert_eq!(bus::rpc::cut_error(&text), text);
        let shown: Vec<&str> = text.lines().collect();
        assert_eq!(shown[..4], many[..4]);
        assert_eq!(
            shown[4..],
            ["… and 5 more, which are in the launcher's log", UNCHANGED]
        );
    }
}
