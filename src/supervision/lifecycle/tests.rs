//! Tests of the lifecycle: every phase × event, a model of the world around it, single rules, words.
//!
//! Invariant: what all of them hold every step against is in [`checked_step`].

mod grid;
mod model;
mod rules;
mod words;

use super::*;
use crate::policy::RestartMode;
use crate::ready::ReadyBy;
use crate::{ExitStatus, PluginId};
use std::time::Duration;

const KILLED: ExitStatus = ExitStatus::Signal {
    number: 9,
    core_dumped: false,
};

fn at(ms: u64) -> MonoTime {
    MonoTime::from_origin(Duration::from_millis(ms))
}

fn seconds(n: u64) -> MonoTime {
    MonoTime::from_origin(Duration::from_secs(n))
}

/// Rules without chance, so that delays can be named.
fn steady() -> Rules {
    Rules {
        restart: RestartPolicy {
            jitter: 0.0,
            ..RestartPolicy::default()
        },
        ..Rules::default()
    }
}

fn with_mode(mode: RestartMode) -> Rules {
    let mut rules = steady();
    rules.restart.mode = mode;
    rules
}

fn told() -> Rules {
    Rules {
        ready: ReadyRule::Told,
        ..steady()
    }
}

/// Steps, and checks what must hold of every step.
fn checked_step(life: &mut Lifecycle, now: MonoTime, event: Event) -> Step {
    let before = life.clone();
    let mut twin = life.clone();
    let step = life.step(now, event.clone());
    assert_eq!((&twin.step(now, event.clone()), &twin), (&step, &*life));
    let what = format!("{event:?} at {now:?} in {before:#?}\n=> {step:?} {life:#?}");
    if step.answer == Answer::Stale {
        assert_eq!(*life, before, "a stale fact changed something: {what}");
        assert!(
            step.effects.is_empty(),
            "a stale fact did something: {what}"
        );
    }
    if let Answer::Denied(_) = step.answer {
        assert_eq!(
            life.phase, before.phase,
            "a denied command did something: {what}"
        );
        assert!(
            step.effects.is_empty(),
            "a denied command did something: {what}"
        );
    }
    let ends_tree = matches!(event, Event::TreeEnded { .. });
    for effect in &step.effects {
        match effect {
            Effect::Spawn(run) => {
                assert_eq!(before.phase.live_run(), None, "two runs at once: {what}");
                assert!(*run > before.run, "a number was used again: {what}");
            }
            Effect::SignalTree(run) | Effect::KillTree(run) => {
                assert!(!ends_tree, "signalled after its end: {what}");
                assert_eq!(
                    life.phase.live_run(),
                    Some(*run),
                    "signalled another run: {what}"
                );
            }
            Effect::Prepare(ticket) => {
                assert_ne!(*ticket, before.ticket, "a ticket was used again: {what}");
                assert_eq!(life.phase.live_run(), None, "prepared beside a run: {what}");
            }
            Effect::ReportStarted { run, .. } => {
                assert_eq!(before.phase.live_run(), Some(*run), "{what}");
                assert!(matches!(event, Event::Spawned { .. }), "{what}");
            }
            Effect::ReportEnded { run, .. } => {
                assert_eq!(before.phase.live_run(), Some(*run), "{what}");
                assert!(ends_tree, "{what}");
            }
        }
    }
    assert!(wish_fits(life), "wish and phase do not fit: {what}");
    assert!(life.run >= before.run, "numbers of runs fell: {what}");
    step
}

/// Whether a phase is possible with a wish.
fn wish_fits(life: &Lifecycle) -> bool {
    match &life.phase {
        Phase::Stopped {
            why: Rest::NeverStarted | Rest::Asked(_),
        } => life.wish == Wish::Down,
        Phase::Stopped {
            why: Rest::Finished,
        }
        | Phase::Foreign { .. } => true,
        Phase::Blocked { .. }
        | Phase::Preparing { .. }
        | Phase::Spawning { .. }
        | Phase::Proving { .. }
        | Phase::Running { .. }
        | Phase::Backoff { .. } => life.wish == Wish::Up,
        Phase::Stopping { then, .. } | Phase::Killing { then, .. } => match then {
            Then::Rest(_) => life.wish == Wish::Down,
            Then::StartAgain | Then::Decide { .. } => life.wish == Wish::Up,
        },
    }
}

/// The look that is under way found all in order.
fn prepared(life: &mut Lifecycle, now: MonoTime) -> Step {
    let event = Event::Prepared(life.ticket);
    checked_step(life, now, event)
}

/// The look that is under way found something missing.
fn blocked(life: &mut Lifecycle, now: MonoTime, reason: BlockReason) -> Step {
    let event = Event::PrepareFailed(life.ticket, reason);
    checked_step(life, now, event)
}

/// Brings a wished-up lifecycle that is preparing to life; returns its run.
fn bring_up(life: &mut Lifecycle, now: MonoTime) -> Run {
    prepared(life, now);
    let run = life.run;
    checked_step(life, now, Event::Spawned { run, pid: 100 });
    run
}

/// As [`bring_up`], and waits until it is ready.
fn bring_to_running(life: &mut Lifecycle, now: MonoTime) -> Run {
    let run = bring_up(life, now);
    match life.rules.ready {
        ReadyRule::Lives(_) => checked_step(life, now.after(LIVES_AFTER), Event::Tick),
        ReadyRule::Told | ReadyRule::ToldByBus => checked_step(life, now, Event::Ready { run }),
    };
    assert_eq!(life.phase.name(), PhaseName::Running);
    run
}
