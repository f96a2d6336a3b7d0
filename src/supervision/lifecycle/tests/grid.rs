//! Every phase × every event.

use super::*;
use crate::policy::{ClassPolicy, FailureClass};

const PRESENT: Run = Run(7);
const NOW: MonoTime = MonoTime::from_origin(Duration::from_secs(1000));
const EVERY: Duration = Duration::from_secs(30);
const DUE: MonoTime = MonoTime::from_origin(Duration::from_secs(1001));

fn thens() -> [Then; 9] {
    let decide = |failure| Then::decide(failure, Duration::from_secs(1));
    [
        Then::Rest(StopCause::ByHand),
        Then::Rest(StopCause::Shutdown),
        Then::StartAgain,
        decide(Failure::Ended(ExitStatus::Code(0))),
        decide(Failure::NotReady(Duration::from_secs(30))),
        decide(Failure::Watchdog(Duration::from_secs(30))),
        decide(Failure::Limit("x".to_owned())),
        decide(Failure::DependencyLost(other())),
        Then::Decide {
            failure: Failure::Ended(KILLED),
            lasted: Duration::from_secs(1),
            pause: Pause::CutShort,
        },
    ]
}

fn other() -> PluginId {
    PluginId::new("other").unwrap()
}

/// Each phase with each kind of data it may carry.
fn phases() -> Vec<Phase> {
    let (run, pid, since) = (PRESENT, 70, at(900_000));
    let mut all: Vec<Phase> = [
        Rest::NeverStarted,
        Rest::Asked(StopCause::ByHand),
        Rest::Asked(StopCause::All),
        Rest::Finished,
    ]
    .map(|why| Phase::Stopped { why })
    .to_vec();
    all.extend(
        [
            BlockReason::Executable("x".to_owned()),
            BlockReason::Credentials("x".to_owned()),
            BlockReason::Settings("x".to_owned()),
            BlockReason::Awaits {
                on: PluginId::core(),
                text: "x".to_owned(),
            },
            BlockReason::Requires {
                on: PluginId::core(),
                text: "x".to_owned(),
            },
            BlockReason::Needs("x".to_owned()),
            BlockReason::Leftover("x".to_owned()),
        ]
        .map(|reason| Phase::Blocked {
            reason,
            retry_at: DUE,
            attempt: 3,
        }),
    );
    all.push(Phase::Preparing {
        ticket: Ticket(5),
        attempt: 3,
    });
    all.push(Phase::Spawning { run, attempt: 3 });
    let held = Patience::Held(Duration::from_secs(3));
    let due = Patience::Until(DUE);
    all.extend(
        [
            (ReadyRule::Lives(LIVES_AFTER), due, None),
            (ReadyRule::Told, due, Some(EVERY)),
            (ReadyRule::ToldByBus, due, None),
            (ReadyRule::ToldByBus, held, None),
        ]
        .map(|(rule, patience, watch_every)| Phase::Proving {
            run,
            pid,
            since,
            rule,
            patience,
            watch_every,
        }),
    );
    let watched = Watch {
        every: EVERY,
        due: DUE,
    };
    all.extend([None, Some(watched)].map(|watch| Phase::Running {
        run,
        pid,
        since,
        watch,
    }));
    for then in thens() {
        let decides = matches!(then, Then::Decide { .. });
        let stages = [
            StopStage::AwaitsSpawn,
            StopStage::AwaitsSpawnToKill,
            StopStage::Grace { deadline: DUE },
        ];
        for stage in stages {
            let lost = matches!(
                then,
                Then::Decide {
                    failure: Failure::DependencyLost(_),
                    ..
                }
            );
            // What has not begun cannot have ended, but may have lost what it requires.
            let possible = match stage {
                StopStage::AwaitsSpawn => !decides || lost,
                StopStage::AwaitsSpawnToKill => !decides,
                StopStage::Grace { .. } => true,
            };
            if possible {
                let then = then.clone();
                all.push(Phase::Stopping { run, stage, then });
            }
        }
        all.push(Phase::Killing {
            run,
            again_at: DUE,
            rounds: 2,
            then,
        });
    }
    all.push(Phase::Backoff {
        until: DUE,
        attempt: 4,
    });
    all.push(Phase::Foreign { pid: 99 });
    all
}

fn lives() -> Vec<Lifecycle> {
    let mut all = Vec::new();
    for phase in phases() {
        for wish in [Wish::Up, Wish::Down] {
            for mode in [
                RestartMode::Always,
                RestartMode::OnFailure,
                RestartMode::Never,
            ] {
                for row in [0, 4] {
                    let held = matches!(
                        phase,
                        Phase::Proving {
                            patience: Patience::Held(_),
                            ..
                        }
                    );
                    let life = Lifecycle {
                        wish,
                        phase: phase.clone(),
                        bus: if held { Bus::Away } else { Bus::There },
                        run: PRESENT,
                        row,
                        ticket: Ticket(5),
                        ..Lifecycle::new(with_mode(mode), Run(0), 1)
                    };
                    all.extend(wish_fits(&life).then_some(life));
                }
            }
        }
    }
    all
}

fn facts_of(run: Run) -> Vec<Event> {
    let mut all = vec![
        Event::Spawned { run, pid: 71 },
        Event::Ready { run },
        Event::Alive { run },
        Event::WatchdogTripped { run },
        Event::LimitExceeded {
            run,
            text: "memory".to_owned(),
        },
    ];
    for seconds in [0, 1, 100] {
        let by = Duration::from_secs(seconds);
        all.push(Event::Extend { run, by });
        all.push(Event::WatchdogSet { run, every: by });
    }
    let text = || "x".to_owned();
    all.extend(
        [
            SpawnFailure::Missing(text()),
            SpawnFailure::Busy(text()),
            SpawnFailure::Failed(text()),
        ]
        .map(|failure| Event::SpawnFailed { run, failure }),
    );
    for status in [
        ExitStatus::Code(0),
        ExitStatus::Code(3),
        KILLED,
        ExitStatus::Unknown,
    ] {
        all.push(Event::MainEnded { run, status });
        all.push(Event::TreeEnded { run, status });
    }
    all
}

fn commands() -> Vec<Event> {
    vec![
        Event::Start,
        Event::Stop(StopCause::ByHand),
        Event::Stop(StopCause::All),
        Event::Stop(StopCause::Unlisted),
        Event::Stop(StopCause::Shutdown),
        Event::Restart,
        Event::KillNow,
    ]
}

/// Each event, also with numbers that are not the present ones.
fn events() -> Vec<Event> {
    let mut all = commands();
    for ticket in [Ticket(4), Ticket(5), Ticket(6)] {
        all.push(Event::Prepared(ticket));
        let reason = BlockReason::Credentials("y".to_owned());
        all.push(Event::PrepareFailed(ticket, reason));
    }
    for run in [Run(6), PRESENT, Run(8)] {
        all.extend(facts_of(run));
    }
    for pid in [98, 99] {
        all.push(Event::ForeignFound { pid });
        all.push(Event::ForeignGone { pid });
    }
    all.push(Event::CauseGone);
    all.extend([Event::BusLost, Event::BusBack]);
    all.push(Event::DependencyLost { on: other() });
    all.push(Event::Outdated);
    all.push(Event::Tick);
    all
}

/// Numbers the variants; a new one does not compile here, and then has to be added above.
fn number_of_phase(phase: &Phase) -> usize {
    match phase {
        Phase::Stopped { .. } => 0,
        Phase::Blocked { .. } => 1,
        Phase::Preparing { .. } => 2,
        Phase::Spawning { .. } => 3,
        Phase::Proving { .. } => 4,
        Phase::Running { .. } => 5,
        Phase::Stopping { .. } => 6,
        Phase::Killing { .. } => 7,
        Phase::Backoff { .. } => 8,
        Phase::Foreign { .. } => 9,
    }
}

fn number_of_event(event: &Event) -> usize {
    match event {
        Event::Start => 0,
        Event::Stop(_) => 1,
        Event::Restart => 2,
        Event::KillNow => 3,
        Event::Prepared(_) => 4,
        Event::PrepareFailed(..) => 5,
        Event::Spawned { .. } => 6,
        Event::SpawnFailed { .. } => 7,
        Event::Ready { .. } => 8,
        Event::MainEnded { .. } => 9,
        Event::TreeEnded { .. } => 10,
        Event::CauseGone => 11,
        Event::ForeignFound { .. } => 12,
        Event::ForeignGone { .. } => 13,
        Event::Tick => 14,
        Event::Alive { .. } => 15,
        Event::Extend { .. } => 16,
        Event::WatchdogSet { .. } => 17,
        Event::WatchdogTripped { .. } => 18,
        Event::LimitExceeded { .. } => 19,
        Event::BusLost => 20,
        Event::BusBack => 21,
        Event::DependencyLost { .. } => 22,
        Event::Outdated => 23,
    }
}

/// Calls `check` with each pair and what came of it.
fn each(mut check: impl FnMut(&Lifecycle, &Event, &Lifecycle, &Step)) {
    for before in lives() {
        for event in events() {
            for now in [NOW, DUE] {
                let mut life = before.clone();
                let step = checked_step(&mut life, now, event.clone());
                check(&before, &event, &life, &step);
            }
        }
    }
}

#[test]
fn no_variant_is_left_out() {
    let mut phases: Vec<usize> = lives().iter().map(|l| number_of_phase(&l.phase)).collect();
    let mut events: Vec<usize> = events().iter().map(number_of_event).collect();
    for list in [&mut phases, &mut events] {
        list.sort_unstable();
        list.dedup();
    }
    assert_eq!(phases, (0..10).collect::<Vec<_>>());
    assert_eq!(events, (0..24).collect::<Vec<_>>());
}

#[test]
fn facts_about_other_runs_and_looks_are_stale() {
    let mut stale = 0;
    each(|before, event, _, step| {
        let fits = match event {
            Event::Prepared(ticket) | Event::PrepareFailed(ticket, _) => {
                matches!(&before.phase, Phase::Preparing { ticket: open, .. } if open == ticket)
            }
            Event::Spawned { run, .. }
            | Event::SpawnFailed { run, .. }
            | Event::Ready { run }
            | Event::Alive { run }
            | Event::Extend { run, .. }
            | Event::WatchdogSet { run, .. }
            | Event::WatchdogTripped { run }
            | Event::LimitExceeded { run, .. }
            | Event::MainEnded { run, .. }
            | Event::TreeEnded { run, .. } => before.phase.live_run() == Some(*run),
            Event::Start
            | Event::Stop(_)
            | Event::Restart
            | Event::KillNow
            | Event::CauseGone
            | Event::BusLost
            | Event::BusBack
            | Event::DependencyLost { .. }
            | Event::Outdated
            | Event::ForeignFound { .. }
            | Event::ForeignGone { .. }
            | Event::Tick => true,
        };
        if !fits {
            assert_eq!(step.answer, Answer::Stale, "{event:?} in {before:?}");
            stale += 1;
        }
    });
    assert!(stale > 1000);
}

#[test]
fn a_stop_ends_in_peace_from_everywhere() {
    each(|before, event, after, step| {
        let (Event::Stop(_) | Event::KillNow) = event else {
            return;
        };
        assert_eq!(after.wish, Wish::Down, "{event:?} in {before:?}");
        let signals = step
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::SignalTree(_) | Effect::KillTree(_)));
        match &before.phase {
            Phase::Proving { .. } | Phase::Running { .. } => {
                assert!(signals, "{event:?} in {before:?}");
            }
            Phase::Stopping { stage, .. } => {
                assert_eq!(
                    signals,
                    *event == Event::KillNow && matches!(stage, StopStage::Grace { .. }),
                    "{event:?} in {before:?}"
                );
            }
            Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Preparing { .. }
            | Phase::Backoff { .. } => {
                assert_eq!(
                    after.phase.name(),
                    PhaseName::Stopped,
                    "{event:?} in {before:?}"
                );
            }
            Phase::Spawning { .. } => {
                assert_eq!(
                    after.phase.name(),
                    PhaseName::Stopping,
                    "{event:?} in {before:?}"
                );
                assert!(!signals, "there is nobody to be signalled yet");
            }
            Phase::Killing { .. } | Phase::Foreign { .. } => {
                assert_eq!(
                    after.phase.name(),
                    before.phase.name(),
                    "{event:?} in {before:?}"
                );
            }
        }
    });
}

#[test]
fn a_start_is_under_way_afterwards_from_everywhere_but_foreign() {
    each(|before, event, after, step| {
        let (Event::Start | Event::Restart) = event else {
            return;
        };
        if let Phase::Foreign { pid } = before.phase {
            let denial = Denial::Foreign { pid };
            assert_eq!(step.answer, Answer::Denied(denial));
            assert_eq!(after.wish, before.wish);
            return;
        }
        assert_eq!(
            (after.wish, after.row),
            (Wish::Up, 0),
            "{event:?} in {before:?}"
        );
        match &after.phase {
            Phase::Stopping { then, .. } | Phase::Killing { then, .. } => {
                assert_eq!(*then, Then::StartAgain, "{event:?} in {before:?}");
            }
            Phase::Preparing { attempt, .. } | Phase::Spawning { attempt, .. } => {
                assert_eq!(*attempt, 0, "{event:?} in {before:?}");
            }
            Phase::Proving { .. } | Phase::Running { .. } => {
                assert_eq!(*event, Event::Start, "a restart left {before:?} as it was");
            }
            Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => panic!("{event:?} in {before:?} left {after:?}"),
        }
    });
}

#[test]
fn other_settings_bring_a_new_run_to_what_is_to_be_up_and_nothing_else() {
    each(|before, event, after, step| {
        let Event::Outdated = event else {
            return;
        };
        assert_eq!(after.wish, before.wish, "{before:?}");
        if before.wish == Wish::Down {
            assert_eq!((after, step), (before, &Step::stale()));
            return;
        }
        assert_eq!(after.row, 0, "{before:?}");
        match &before.phase {
            Phase::Blocked { .. } | Phase::Backoff { .. } | Phase::Preparing { .. } => {
                assert_eq!(step.effects, [Effect::Prepare(Ticket(6))], "{before:?}");
            }
            Phase::Proving { run, .. } | Phase::Running { run, .. } => {
                assert_eq!(step.effects, [Effect::SignalTree(*run)], "{before:?}");
                assert!(matches!(
                    &after.phase,
                    Phase::Stopping {
                        then: Then::StartAgain,
                        ..
                    }
                ));
            }
            Phase::Spawning { .. } => assert!(matches!(
                &after.phase,
                Phase::Stopping {
                    then: Then::StartAgain,
                    stage: StopStage::AwaitsSpawn,
                    ..
                }
            )),
            Phase::Stopping { .. } | Phase::Killing { .. } => {
                assert_eq!(after.phase.name(), before.phase.name());
            }
            Phase::Stopped { .. } | Phase::Foreign { .. } => assert_eq!(after.phase, before.phase),
        }
    });
}

#[test]
fn what_ends_a_run_that_was_to_go_on_is_what_the_policy_decides_on() {
    let mut ended = 0;
    each(|before, event, after, _| {
        let proves = matches!(before.phase, Phase::Proving { .. });
        let runs = matches!(before.phase, Phase::Running { .. });
        let (run, failure) = if let Event::WatchdogTripped { run } = event {
            (run, Failure::Watchdog(Duration::ZERO))
        } else if let Event::LimitExceeded { run, text } = event {
            (run, Failure::Limit(text.clone()))
        } else if let Event::MainEnded { run, status } = event {
            let failure = [Failure::EarlyExit, Failure::Ended][usize::from(runs)];
            (run, failure(*status))
        } else {
            return;
        };
        if *run != PRESENT || !(proves || runs) {
            return;
        }
        let Phase::Stopping { then, .. } = &after.phase else {
            panic!("{event:?} in {before:?} left {after:?}");
        };
        assert!(
            matches!(then, Then::Decide { failure: found, .. } if *found == failure),
            "{event:?} in {before:?} left {after:?}"
        );
        ended += 1;
    });
    assert!(ended > 100);
}

#[test]
fn a_foreign_copy_is_seen_wherever_nothing_of_ours_lives() {
    each(|before, event, after, _| {
        let Event::ForeignFound { pid } = event else {
            return;
        };
        match before.phase {
            Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Preparing { .. }
            | Phase::Backoff { .. } => assert_eq!(after.phase, Phase::Foreign { pid: *pid }),
            Phase::Spawning { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Foreign { .. } => assert_eq!(after.phase, before.phase),
        }
    });
}

#[test]
fn a_cause_that_goes_ends_every_wait_also_one_that_is_still_to_come() {
    each(|before, event, after, step| {
        let Event::CauseGone = event else {
            return;
        };
        match &before.phase {
            Phase::Blocked { .. } | Phase::Backoff { .. } => {
                assert_eq!(step.effects, [Effect::Prepare(Ticket(6))], "{before:?}");
            }
            Phase::Preparing { .. } | Phase::Spawning { .. } => assert!(matches!(
                after.phase,
                Phase::Preparing { attempt: 0, .. } | Phase::Spawning { attempt: 0, .. }
            )),
            Phase::Stopping {
                stage: StopStage::Grace { .. },
                then: Then::Decide { .. },
                ..
            }
            | Phase::Killing {
                then: Then::Decide { .. },
                ..
            } => {
                let (run, status) = (PRESENT, ExitStatus::Code(3));
                let (mut with, mut without) = (after.clone(), before.clone());
                checked_step(&mut with, DUE, Event::TreeEnded { run, status });
                checked_step(&mut without, DUE, Event::TreeEnded { run, status });
                assert_ne!(with.phase.name(), PhaseName::Backoff, "{before:?}");
                // What the policy leaves at rest, it still does; and the next failure waits as long as it would have.
                if without.phase.name() != PhaseName::Backoff {
                    assert_eq!(with.phase.name(), without.phase.name(), "{before:?}");
                }
                assert_eq!((with.row, with.restarts), (without.row, without.restarts));
            }
            Phase::Stopped { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Foreign { .. } => assert_eq!(after.phase.name(), before.phase.name()),
        }
    });
}

#[test]
fn nothing_comes_up_by_a_look_from_before_a_required_plugin_was_lost() {
    for mut before in lives() {
        let mode = RestartMode::Always;
        let class = ClassPolicy {
            mode: Some(mode),
            ..ClassPolicy::default()
        };
        let classes = &mut before.rules.restart.classes;
        classes.insert(FailureClass::DependencyLost, class);
        let mut life = before.clone();
        let step = checked_step(&mut life, NOW, Event::DependencyLost { on: other() });
        match before.phase {
            Phase::Preparing { .. } => {
                assert_eq!(step.effects, [Effect::Prepare(Ticket(6))]);
            }
            Phase::Spawning { run, .. } => {
                checked_step(&mut life, NOW, Event::Spawned { run, pid: 71 });
                let status = ExitStatus::Code(0);
                let step = checked_step(&mut life, NOW, Event::TreeEnded { run, status });
                assert_eq!(step.effects[0], Effect::Prepare(Ticket(6)), "{before:?}");
            }
            Phase::Proving { .. } | Phase::Running { .. } => {
                assert_eq!(step.effects, [Effect::SignalTree(PRESENT)]);
            }
            Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => assert_eq!(life.phase, before.phase),
        }
    }
}

#[test]
fn the_end_of_the_launcher_is_no_reason_for_what_rests_already() {
    for before in lives() {
        for event in [Event::KillNow, Event::Stop(StopCause::Shutdown)] {
            let mut life = before.clone();
            checked_step(&mut life, NOW, event);
            match before.phase {
                Phase::Stopped { .. } => assert_eq!(life.phase, before.phase),
                Phase::Foreign { .. } if before.wish == Wish::Down => {
                    assert_eq!(life.rest, before.rest);
                }
                Phase::Foreign { .. }
                | Phase::Blocked { .. }
                | Phase::Preparing { .. }
                | Phase::Spawning { .. }
                | Phase::Proving { .. }
                | Phase::Running { .. }
                | Phase::Stopping { .. }
                | Phase::Killing { .. }
                | Phase::Backoff { .. } => {}
            }
        }
    }
}

#[test]
fn commands_are_answered_as_such_and_facts_as_facts() {
    each(|before, event, _, step| {
        let is_command = commands().contains(event);
        match step.answer {
            Answer::Accepted | Answer::Already | Answer::Denied(_) => {
                assert!(is_command, "{event:?} in {before:?}");
            }
            Answer::Noted | Answer::Stale => assert!(!is_command, "{event:?} in {before:?}"),
        }
    });
}

#[test]
fn a_tick_comes_when_due_and_moves_on() {
    for before in lives() {
        let mut life = before.clone();
        let Some(deadline) = before.next_deadline() else {
            let step = checked_step(&mut life, seconds(1_000_000), Event::Tick);
            assert_eq!(step.answer, Answer::Stale, "{before:?}");
            continue;
        };
        let early = MonoTime::from_origin(deadline.since_origin() - Duration::from_nanos(1));
        assert_eq!(
            checked_step(&mut life, early, Event::Tick).answer,
            Answer::Stale
        );
        assert_eq!(
            checked_step(&mut life, deadline, Event::Tick).answer,
            Answer::Noted
        );
        assert_ne!(life.phase, before.phase);
        assert!(
            life.next_deadline().is_none_or(|next| next > deadline),
            "{before:?}"
        );
        assert_eq!(
            checked_step(&mut life, deadline, Event::Tick).answer,
            Answer::Stale
        );
    }
}

#[test]
fn deadlines_that_begin_now_lie_ahead() {
    each(|before, event, after, _| {
        let (old, new) = (before.next_deadline(), after.next_deadline());
        if old != new && *event != Event::Tick {
            assert!(new.is_none_or(|new| new > NOW), "{event:?} in {before:?}");
        }
    });
}

#[test]
fn spawned_is_reported_once_and_so_is_the_end() {
    each(|before, event, after, step| {
        let count = |wanted: fn(&Effect) -> bool| {
            step.effects.iter().filter(|effect| wanted(effect)).count()
        };
        let noted = usize::from(step.answer == Answer::Noted);
        let (started, ended) = (
            count(|e| matches!(e, Effect::ReportStarted { .. })),
            count(|e| matches!(e, Effect::ReportEnded { .. })),
        );
        let is = |yes: bool| if yes { noted } else { 0 };
        assert_eq!(
            started,
            is(matches!(event, Event::Spawned { .. })),
            "{event:?} in {before:?}"
        );
        assert_eq!(
            ended,
            is(matches!(event, Event::TreeEnded { .. })),
            "{event:?} in {before:?}"
        );
        if ended == 1 {
            assert_eq!(after.phase.live_run(), None);
        }
    });
}
