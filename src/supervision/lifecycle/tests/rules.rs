//! Single rules of spec §9, each by an example.

use super::*;
use crate::policy::{ClassPolicy, FailureClass, RestartMode};

fn up(rules: Rules) -> Lifecycle {
    let mut life = Lifecycle::new(rules, Run(0), 1);
    checked_step(&mut life, at(0), Event::Start);
    life
}

fn end(life: &mut Lifecycle, now: MonoTime, status: ExitStatus) -> Step {
    let run = life.run;
    checked_step(life, now, Event::TreeEnded { run, status })
}

fn effects(step: Step) -> Vec<Effect> {
    step.effects
}

#[test]
fn a_start_prepares_spawns_and_proves() {
    let mut life = Lifecycle::new(steady(), Run(41), 1);
    let step = checked_step(&mut life, at(0), Event::Start);
    assert_eq!(effects(step), [Effect::Prepare(Ticket(1))]);
    let step = checked_step(&mut life, at(1), Event::Prepared(Ticket(1)));
    assert_eq!(effects(step), [Effect::Spawn(Run(42))]);
    let (run, pid) = (Run(42), 5);
    let step = checked_step(&mut life, at(2), Event::Spawned { run, pid });
    assert_eq!(effects(step), [Effect::ReportStarted { run, pid }]);
    assert_eq!(life.next_deadline(), Some(at(102)));
    checked_step(&mut life, at(102), Event::Tick);
    let since = at(2);
    assert_eq!(
        *life.phase(),
        Phase::Running {
            run,
            pid,
            since,
            watch: None
        }
    );
}

#[test]
fn an_early_exit_with_code_zero_is_a_failed_start_and_tried_again() {
    let mut life = up(steady());
    let run = bring_up(&mut life, at(0));
    let status = ExitStatus::Code(0);
    let step = end(&mut life, at(50), status);
    let failure = Some(Failure::EarlyExit(status));
    let told = Effect::ReportEnded {
        run,
        status,
        failure,
    };
    assert_eq!(step.effects, [Effect::Prepare(life.ticket), told]);
    assert_eq!(
        (life.wish(), life.failures(), life.restarts()),
        (Wish::Up, 1, 1)
    );
    assert_eq!(life.phase.name(), PhaseName::Preparing);
}

#[test]
fn the_policy_says_which_ends_are_answered() {
    let crash = ExitStatus::Code(1);
    for (mode, status, expected) in [
        (
            RestartMode::Always,
            ExitStatus::Code(0),
            PhaseName::Preparing,
        ),
        (
            RestartMode::OnFailure,
            ExitStatus::Code(0),
            PhaseName::Stopped,
        ),
        (RestartMode::OnFailure, crash, PhaseName::Preparing),
        (RestartMode::OnFailure, KILLED, PhaseName::Preparing),
        (
            RestartMode::OnFailure,
            ExitStatus::Unknown,
            PhaseName::Preparing,
        ),
        (RestartMode::Never, crash, PhaseName::Stopped),
    ] {
        let mut life = up(with_mode(mode));
        bring_to_running(&mut life, at(0));
        end(&mut life, at(5_000), status);
        assert_eq!(life.phase.name(), expected, "{mode:?} {status:?}");
        assert_eq!(life.wish(), Wish::Up);
        if expected == PhaseName::Stopped {
            assert_eq!(
                *life.phase(),
                Phase::Stopped {
                    why: Rest::Finished
                }
            );
            checked_step(&mut life, at(6_000), Event::Start);
            assert_eq!(life.phase.name(), PhaseName::Preparing);
        }
    }
}

#[test]
fn a_stop_takes_grace_then_kills_ever_slower() {
    let mut life = up(steady());
    let run = bring_to_running(&mut life, at(0));
    let stop = Event::Stop(StopCause::ByHand);
    assert_eq!(
        effects(checked_step(&mut life, at(1_000), stop.clone())),
        [Effect::SignalTree(run)]
    );
    assert_eq!(life.next_deadline(), Some(at(6_000)));
    // A second stop does not begin the grace anew.
    assert!(effects(checked_step(&mut life, at(3_000), stop)).is_empty());
    assert_eq!(life.next_deadline(), Some(at(6_000)));
    let mut now = at(6_000);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        assert_eq!(
            effects(checked_step(&mut life, now, Event::Tick)),
            [Effect::KillTree(run)]
        );
        let next = life.next_deadline().unwrap();
        pauses.push(next.since(now).as_millis());
        now = next;
    }
    assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 3200, 3200, 3200]);
    end(&mut life, now, KILLED);
    let why = Rest::Asked(StopCause::ByHand);
    assert_eq!(*life.phase(), Phase::Stopped { why });
}

#[test]
fn a_stop_before_the_process_is_there_waits_for_it() {
    for (event, effect) in [
        (Event::Stop(StopCause::All), Effect::SignalTree(Run(1))),
        (Event::KillNow, Effect::KillTree(Run(1))),
    ] {
        let mut life = up(steady());
        checked_step(&mut life, at(0), Event::Prepared(Ticket(1)));
        checked_step(&mut life, at(1), event);
        assert_eq!(life.next_deadline(), None);
        let (run, pid) = (Run(1), 5);
        let step = checked_step(&mut life, at(2), Event::Spawned { run, pid });
        assert_eq!(effects(step), [Effect::ReportStarted { run, pid }, effect]);
        end(&mut life, at(3), KILLED);
        assert_eq!(life.phase.name(), PhaseName::Stopped);
    }
}

#[test]
fn a_stop_before_an_exec_that_fails_is_kept() {
    let mut life = up(steady());
    checked_step(&mut life, at(0), Event::Prepared(Ticket(1)));
    checked_step(&mut life, at(1), Event::Stop(StopCause::ByHand));
    let failure = SpawnFailure::Failed("x".to_owned());
    let event = Event::SpawnFailed {
        run: Run(1),
        failure,
    };
    checked_step(&mut life, at(2), event);
    assert_eq!(life.phase.name(), PhaseName::Stopped);
    assert_eq!(life.failures(), 0);
}

#[test]
fn a_start_during_a_stop_gives_a_new_run_and_a_stop_takes_it_back() {
    let mut life = up(steady());
    let old = bring_to_running(&mut life, at(0));
    checked_step(&mut life, at(1_000), Event::Stop(StopCause::ByHand));
    assert_eq!(
        checked_step(&mut life, at(1_001), Event::Start).answer,
        Answer::Accepted
    );
    assert_eq!(life.phase.name(), PhaseName::Stopping);
    let mut other = life.clone();
    end(&mut life, at(1_010), ExitStatus::Code(0));
    assert!(bring_to_running(&mut life, at(1_010)) > old);
    assert_eq!(life.failures(), 0);

    checked_step(&mut other, at(1_002), Event::Stop(StopCause::All));
    end(&mut other, at(1_010), ExitStatus::Code(0));
    assert_eq!(other.phase.name(), PhaseName::Stopped);
}

#[test]
fn what_outlives_the_main_process_is_ended_before_the_next_run() {
    let mut life = up(steady());
    let run = bring_to_running(&mut life, at(0));
    let status = ExitStatus::Code(1);
    let step = checked_step(&mut life, at(2_000), Event::MainEnded { run, status });
    assert_eq!(effects(step), [Effect::SignalTree(run)]);
    assert_eq!(life.phase.name(), PhaseName::Stopping);
    checked_step(&mut life, at(7_000), Event::Tick);
    assert_eq!(life.phase.name(), PhaseName::Killing);
    let step = end(&mut life, at(7_001), status);
    let failure = Some(Failure::Ended(status));
    let told = Effect::ReportEnded {
        run,
        status,
        failure,
    };
    assert_eq!(step.effects, [Effect::Prepare(life.ticket), told]);
    // It is its main process that lasted, not what hung on.
    assert_eq!(life.last_failure().unwrap().lasted, Duration::from_secs(2));
    assert_eq!(life.phase.name(), PhaseName::Preparing);
}

#[test]
fn stragglers_that_show_when_the_main_process_ends_get_the_signal_too() {
    let mut life = up(steady());
    let run = bring_to_running(&mut life, at(0));
    checked_step(&mut life, at(1_000), Event::Stop(StopCause::ByHand));
    let status = ExitStatus::Code(0);
    let ended = Event::MainEnded { run, status };
    let step = checked_step(&mut life, at(1_010), ended.clone());
    assert_eq!(effects(step), [Effect::SignalTree(run)]);
    checked_step(&mut life, at(6_000), Event::Tick);
    let step = checked_step(&mut life, at(6_001), ended);
    assert_eq!(effects(step), [Effect::KillTree(run)]);
}

#[test]
fn what_is_not_ready_in_time_is_stopped_and_counts_as_a_failure() {
    let mut rules = told();
    // Longer than the window: what never was ready was never stable.
    rules.start_timeout = Duration::from_secs(90);
    let mut life = up(rules);
    let mut now = at(0);
    let mut delays = Vec::new();
    for _ in 0..5 {
        let run = bring_up(&mut life, now);
        now = life.next_deadline().unwrap();
        let step = checked_step(&mut life, now, Event::Tick);
        assert_eq!(effects(step), [Effect::SignalTree(run)]);
        end(&mut life, now, ExitStatus::Code(0));
        let failure = Failure::NotReady(Duration::from_secs(90));
        assert_eq!(life.last_failure().unwrap().failure, failure);
        let next = life.next_deadline().unwrap_or(now);
        delays.push(next.since(now).as_secs());
        now = next;
        checked_step(&mut life, now, Event::Tick);
    }
    assert_eq!(delays, [0, 1, 2, 4, 8]);
}

#[test]
fn readiness_is_told_or_proved_by_the_rule_the_run_began_with() {
    let mut life = up(told());
    let run = bring_up(&mut life, at(0));
    life.set_rules(steady());
    checked_step(&mut life, at(200), Event::Tick);
    assert_eq!(life.phase.name(), PhaseName::Starting);
    checked_step(&mut life, at(300), Event::Ready { run });
    assert_eq!(life.phase.name(), PhaseName::Running);

    let mut life = up(steady());
    let run = bring_up(&mut life, at(0));
    life.set_rules(told());
    assert_eq!(
        checked_step(&mut life, at(1), Event::Ready { run }).answer,
        Answer::Stale
    );
    checked_step(&mut life, at(100), Event::Tick);
    assert_eq!(life.phase.name(), PhaseName::Running);
}

#[test]
fn a_restart_by_hand_ends_the_row_but_not_the_count_of_restarts() {
    let mut life = up(steady());
    let mut now = at(0);
    for _ in 0..4 {
        bring_to_running(&mut life, now);
        now = now.after(Duration::from_secs(1));
        end(&mut life, now, ExitStatus::Code(1));
        now = life.next_deadline().unwrap_or(now);
        checked_step(&mut life, now, Event::Tick);
    }
    let old = bring_to_running(&mut life, now);
    assert_eq!((life.row, life.restarts()), (4, 4));
    checked_step(&mut life, now, Event::Restart);
    assert_eq!((life.row, life.restarts()), (0, 4));
    end(&mut life, now, ExitStatus::Code(0));
    assert!(bring_to_running(&mut life, now) > old);
    end(
        &mut life,
        now.after(Duration::from_secs(1)),
        ExitStatus::Code(1),
    );
    assert_eq!(
        life.phase.name(),
        PhaseName::Preparing,
        "the first restart is at once again"
    );
    checked_step(&mut life, now, Event::Stop(StopCause::ByHand));
    checked_step(&mut life, now, Event::Start);
    assert_eq!(life.restarts(), 0);
}

#[test]
fn a_start_by_hand_cuts_the_delay_short() {
    let mut life = up(steady());
    for _ in 0..2 {
        bring_to_running(&mut life, at(0));
        end(&mut life, at(500), ExitStatus::Code(1));
    }
    assert_eq!(life.phase.name(), PhaseName::Backoff);
    let step = checked_step(&mut life, at(501), Event::Start);
    assert!(matches!(step.effects[..], [Effect::Prepare(_)]));
    bring_to_running(&mut life, at(501));
    end(&mut life, at(700), ExitStatus::Code(1));
    assert_eq!(life.phase.name(), PhaseName::Preparing);
}

#[test]
fn a_blocked_start_is_tried_ever_slower_and_at_once_when_the_cause_goes() {
    let mut life = up(steady());
    let mut now = at(0);
    let mut fail = |life: &mut Lifecycle| {
        let reason = BlockReason::Executable("gone".to_owned());
        blocked(life, now, reason);
        let pause = life.next_deadline().unwrap().since(now);
        now = life.next_deadline().unwrap();
        checked_step(life, now, Event::Tick);
        pause
    };
    let pauses: Vec<Duration> = (0..10).map(|_| fail(&mut life)).collect();
    assert!(pauses[0] <= Duration::from_millis(275), "{pauses:?}");
    assert!(pauses[9] >= Duration::from_secs(27), "{pauses:?}");
    // Seen while the look is under way: the next look comes soon.
    checked_step(&mut life, at(0), Event::CauseGone);
    assert!(fail(&mut life) <= Duration::from_millis(275));
    let reason = BlockReason::Executable("gone".to_owned());
    blocked(&mut life, at(0), reason);
    let step = checked_step(&mut life, at(1), Event::CauseGone);
    assert!(matches!(step.effects[..], [Effect::Prepare(_)]));
}

#[test]
fn a_file_that_is_busy_at_exec_is_tried_ever_slower() {
    let mut life = up(steady());
    let mut now = at(0);
    let mut last = Duration::ZERO;
    for _ in 0..5 {
        prepared(&mut life, now);
        let failure = SpawnFailure::Busy("text file busy".to_owned());
        let run = life.run;
        checked_step(&mut life, now, Event::SpawnFailed { run, failure });
        let next = life.next_deadline().unwrap();
        assert!(next.since(now) > last);
        (last, now) = (next.since(now), next);
        checked_step(&mut life, now, Event::Tick);
    }
    assert_eq!(life.failures(), 0, "waiting is no failure");
}

#[test]
fn a_foreign_copy_is_not_doubled_and_followed_when_it_goes() {
    let mut life = up(steady());
    checked_step(&mut life, at(0), Event::ForeignFound { pid: 9 });
    assert_eq!(*life.phase(), Phase::Foreign { pid: 9 });
    let denied = Answer::Denied(Denial::Foreign { pid: 9 });
    for command in [Event::Start, Event::Restart] {
        assert_eq!(checked_step(&mut life, at(1), command).answer, denied);
    }
    let mut stopped = life.clone();
    assert_eq!(
        checked_step(&mut life, at(2), Event::ForeignGone { pid: 8 }).answer,
        Answer::Stale
    );
    checked_step(&mut life, at(2), Event::ForeignGone { pid: 9 });
    bring_to_running(&mut life, at(3));

    let by_hand = Event::Stop(StopCause::ByHand);
    assert_eq!(checked_step(&mut stopped, at(2), by_hand).answer, denied);
    checked_step(&mut stopped, at(3), Event::ForeignGone { pid: 9 });
    let why = Rest::Asked(StopCause::ByHand);
    assert_eq!(*stopped.phase(), Phase::Stopped { why });
}

#[test]
fn the_stop_of_all_passes_over_foreign_copies_and_what_never_ran() {
    for event in [
        Event::Stop(StopCause::All),
        Event::Stop(StopCause::Shutdown),
        Event::KillNow,
    ] {
        let mut life = Lifecycle::new(steady(), Run(0), 1);
        checked_step(&mut life, at(0), Event::ForeignFound { pid: 9 });
        assert_eq!(
            checked_step(&mut life, at(1), event).answer,
            Answer::Already
        );
        assert_eq!(*life.phase(), Phase::Foreign { pid: 9 });
    }
    let mut life = Lifecycle::new(steady(), Run(0), 1);
    checked_step(&mut life, at(0), Event::Stop(StopCause::All));
    let why = Rest::NeverStarted;
    assert_eq!(*life.phase(), Phase::Stopped { why });
}

#[test]
fn kill_now_takes_no_grace() {
    let mut life = up(steady());
    let run = bring_to_running(&mut life, at(0));
    checked_step(&mut life, at(1), Event::Stop(StopCause::Shutdown));
    let step = checked_step(&mut life, at(2), Event::KillNow);
    assert_eq!(effects(step), [Effect::KillTree(run)]);
    assert_eq!(life.next_deadline(), Some(at(52)));
}

#[test]
fn a_number_is_not_used_again_when_exec_fails() {
    let mut life = up(steady());
    prepared(&mut life, at(0));
    let failure = SpawnFailure::Failed("fork/exec x: permission denied".to_owned());
    let failed = Event::SpawnFailed {
        run: Run(1),
        failure,
    };
    let step = checked_step(&mut life, at(0), failed.clone());
    assert_eq!(step.effects, [], "nothing began, nothing ended");
    let next = life.next_deadline().unwrap();
    assert_eq!(next, seconds(1), "what could not be started takes a breath");
    checked_step(&mut life, next, Event::Tick);
    prepared(&mut life, next);
    assert_eq!(checked_step(&mut life, at(0), failed).answer, Answer::Stale);
    assert_eq!(
        *life.phase(),
        Phase::Spawning {
            run: Run(2),
            attempt: 0
        }
    );
}

#[test]
fn a_clock_that_stands_still_or_jumps_far_breaks_nothing() {
    let mut life = up(steady());
    bring_to_running(&mut life, at(0));
    let end_of_time = MonoTime::from_origin(Duration::MAX);
    end(&mut life, end_of_time, ExitStatus::Code(1));
    bring_to_running(&mut life, end_of_time);
    let stop = Event::Stop(StopCause::ByHand);
    checked_step(&mut life, end_of_time, stop);
    checked_step(&mut life, end_of_time, Event::Tick);
    assert_eq!(life.phase.name(), PhaseName::Killing);
}

fn failure(life: &Lifecycle) -> &Failure {
    &life.last_failure().unwrap().failure
}

#[test]
fn a_watched_run_that_falls_silent_is_stopped_and_started_anew() {
    let every = Duration::from_secs(30);
    let mut life = up(Rules {
        watchdog: Some(every),
        ..told()
    });
    let run = bring_up(&mut life, at(0));
    assert_eq!(
        checked_step(&mut life, at(0), Event::Alive { run }).answer,
        Answer::Stale,
        "it is watched from when it is ready"
    );
    checked_step(&mut life, seconds(10), Event::Ready { run });
    assert_eq!(life.next_deadline(), Some(seconds(40)));
    checked_step(&mut life, seconds(39), Event::Alive { run });
    assert_eq!(life.next_deadline(), Some(seconds(69)));
    let by = Duration::from_secs(100);
    checked_step(&mut life, seconds(40), Event::Extend { run, by });
    assert_eq!(life.next_deadline(), Some(seconds(140)));
    let step = checked_step(&mut life, seconds(140), Event::Tick);
    assert_eq!(step.effects, [Effect::SignalTree(run)]);
    end(&mut life, seconds(141), KILLED);
    assert_eq!(failure(&life), &Failure::Watchdog(every));
    assert_eq!(
        life.cause(),
        "was stopped by its watchdog: no sign of life for 30.0 s"
    );
    // A run that was stable before it hung begins a new row.
    assert_eq!(life.phase().name(), PhaseName::Preparing);

    let run = bring_to_running(&mut life, seconds(150));
    let every = Duration::from_secs(5);
    checked_step(&mut life, seconds(151), Event::WatchdogSet { run, every });
    assert_eq!(life.next_deadline(), Some(seconds(156)));
    let every = Duration::ZERO;
    checked_step(&mut life, seconds(152), Event::WatchdogSet { run, every });
    assert_eq!(life.next_deadline(), None);
    checked_step(&mut life, seconds(153), Event::WatchdogTripped { run });
    end(&mut life, seconds(154), KILLED);
    assert_eq!(failure(&life), &Failure::Watchdog(Duration::ZERO));

    checked_step(&mut life, seconds(199), Event::Start);
    let run = bring_up(&mut life, seconds(200));
    let every = Duration::from_secs(7);
    checked_step(&mut life, seconds(201), Event::WatchdogSet { run, every });
    checked_step(&mut life, seconds(202), Event::Ready { run });
    assert_eq!(life.next_deadline(), Some(seconds(209)));
}

#[test]
fn start_and_grace_last_longer_for_whoever_asks() {
    let mut life = up(told());
    let run = bring_up(&mut life, at(0));
    let by = Duration::from_secs(300);
    checked_step(&mut life, seconds(29), Event::Extend { run, by });
    assert_eq!(life.next_deadline(), Some(seconds(329)));
    let shorter = Duration::from_secs(1);
    checked_step(&mut life, seconds(30), Event::Extend { run, by: shorter });
    assert_eq!(life.next_deadline(), Some(seconds(329)), "never shorter");
    checked_step(&mut life, seconds(31), Event::Stop(StopCause::ByHand));
    assert_eq!(life.next_deadline(), Some(seconds(36)));
    let by = Duration::from_secs(20);
    checked_step(&mut life, seconds(35), Event::Extend { run, by });
    assert_eq!(life.next_deadline(), Some(seconds(55)));
}

#[test]
fn who_is_told_of_by_the_bus_waits_while_it_is_away() {
    let mut life = up(Rules {
        ready: ReadyRule::ToldByBus,
        ..steady()
    });
    let run = bring_up(&mut life, at(0));
    assert_eq!(life.next_deadline(), Some(seconds(30)));
    checked_step(&mut life, seconds(20), Event::BusLost);
    assert_eq!(life.next_deadline(), None);
    assert_eq!(
        life.waits_for(&ReadyBy::Login),
        ["the bus, to see its login there"]
    );
    checked_step(&mut life, seconds(5_000), Event::BusBack);
    assert_eq!(life.next_deadline(), Some(seconds(5_010)));
    checked_step(&mut life, seconds(5_001), Event::BusLost);
    checked_step(&mut life, seconds(5_002), Event::Ready { run });
    assert_eq!(life.phase().name(), PhaseName::Running);
    end(&mut life, seconds(5_003), KILLED);
    // Begun while the bus is away: its time begins when it is back.
    bring_up(&mut life, seconds(5_004));
    assert_eq!(life.next_deadline(), None);
    checked_step(&mut life, seconds(6_000), Event::BusBack);
    assert_eq!(life.next_deadline(), Some(seconds(6_030)));
    // Lost while nothing runs that could be told of.
    checked_step(&mut life, seconds(6_001), Event::Restart);
    end(&mut life, seconds(6_002), KILLED);
    assert_eq!(life.phase().name(), PhaseName::Preparing);
    checked_step(&mut life, seconds(6_003), Event::BusLost);
    bring_up(&mut life, seconds(6_004));
    assert_eq!(life.next_deadline(), None);
}

#[test]
fn looks_for_credentials_never_follow_each_other_without_pause() {
    let mut rules = steady();
    let class = ClassPolicy {
        first_delay: Some(Duration::ZERO),
        delay: Some(Duration::ZERO),
        ..ClassPolicy::default()
    };
    rules
        .restart
        .classes
        .insert(FailureClass::Credential, class);
    let mut life = up(rules);
    for n in 0..10 {
        let now = seconds(n);
        blocked(&mut life, now, BlockReason::Credentials("none".to_owned()));
        let next = life.next_deadline().unwrap();
        assert!(next.since(now) >= Duration::from_millis(10));
        checked_step(&mut life, next, Event::Tick);
    }
}

#[test]
fn what_ended_a_run_stays_what_it_was_whatever_is_ordered_meanwhile() {
    let status = ExitStatus::Code(3);
    for command in [
        Event::Start,
        Event::Restart,
        Event::Stop(StopCause::ByHand),
        Event::KillNow,
    ] {
        let mut life = up(steady());
        let run = bring_to_running(&mut life, at(0));
        checked_step(&mut life, seconds(1), Event::MainEnded { run, status });
        let failures = life.failures();
        checked_step(&mut life, seconds(2), command.clone());
        let step = end(&mut life, seconds(3), status);
        let told = step.effects.into_iter().find_map(|effect| match effect {
            Effect::ReportEnded { failure, .. } => Some(failure),
            Effect::Prepare(_)
            | Effect::Spawn(_)
            | Effect::SignalTree(_)
            | Effect::KillTree(_)
            | Effect::ReportStarted { .. } => None,
        });
        assert_eq!(told, Some(Some(Failure::Ended(status))), "{command:?}");
        // Nobody's new start fails for it, and nothing waits.
        assert_eq!((life.failures(), life.restarts()), (failures, 0));
        let then = [PhaseName::Preparing, PhaseName::Stopped];
        assert!(then.contains(&life.phase().name()), "{command:?}");
    }
    // What was asked for and then failed on its way down was asked for.
    let mut life = up(steady());
    bring_to_running(&mut life, at(0));
    checked_step(&mut life, seconds(1), Event::Stop(StopCause::ByHand));
    let step = end(&mut life, seconds(2), status);
    assert!(matches!(
        step.effects[..],
        [Effect::ReportEnded { failure: None, .. }]
    ));
}

#[test]
fn a_limit_that_was_exceeded_counts_as_a_short_run_however_long_it_was() {
    let mut life = up(with_mode(RestartMode::Never));
    for (n, delay) in [(0, 0), (1, 1), (2, 2), (3, 4)] {
        let now = seconds(n * 10_000);
        let run = bring_to_running(&mut life, now);
        let (later, text) = (now.after(Duration::from_secs(9_000)), "memory".to_owned());
        let step = checked_step(&mut life, later, Event::LimitExceeded { run, text });
        assert_eq!(step.effects, [Effect::SignalTree(run)]);
        end(&mut life, later, ExitStatus::Code(0));
        let until = life
            .next_deadline()
            .map_or(Duration::ZERO, |at| at.since(later));
        assert_eq!(until, Duration::from_secs(delay));
        if let Some(at) = life.next_deadline() {
            checked_step(&mut life, at, Event::Tick);
        }
    }
    assert_eq!(life.cause(), "was stopped for using too much: memory");
}

#[test]
fn crash_shapes_around_the_stability_window_go_on_with_the_row_or_end_it() {
    let mut life = up(steady());
    let mut now = at(0);
    // How long each run lives, and the delay that follows: a run just below the window is as good as none, one of its
    // length begins a new row, however the two alternate.
    let shapes = [
        (200, 0),
        (59_999, 1),
        (200, 2),
        (59_999, 4),
        (60_000, 0),
        (200, 1),
        (60_001, 0),
        (59_999, 1),
        (59_999, 2),
        (3_600_000, 0),
        (60_000, 0),
        (59_999, 1),
    ];
    for (n, (lived, delay)) in shapes.into_iter().enumerate() {
        bring_to_running(&mut life, now);
        now = now.after(Duration::from_millis(lived));
        end(&mut life, now, ExitStatus::Code(1));
        let next = life.next_deadline();
        let until = next.map_or(Duration::ZERO, |at| at.since(now));
        assert_eq!(
            until,
            Duration::from_secs(delay),
            "after the {n}th: {lived} ms"
        );
        if let Some(at) = next {
            now = at;
            checked_step(&mut life, at, Event::Tick);
        }
    }
}

#[test]
fn a_required_plugin_that_is_lost_takes_its_dependants_along_only_where_so_configured() {
    let on = || PluginId::new("state").unwrap();
    let mut life = up(steady());
    bring_to_running(&mut life, at(0));
    let lost = Event::DependencyLost { on: on() };
    assert_eq!(
        checked_step(&mut life, at(500), lost.clone()).answer,
        Answer::Stale
    );
    let mut rules = steady();
    let class = ClassPolicy {
        mode: Some(RestartMode::Always),
        ..ClassPolicy::default()
    };
    rules
        .restart
        .classes
        .insert(FailureClass::DependencyLost, class);
    life.set_rules(rules);
    checked_step(&mut life, at(600), lost);
    let step = end(&mut life, at(700), ExitStatus::Code(0));
    assert!(
        matches!(step.effects[0], Effect::Prepare(_)),
        "at once: {step:?}"
    );
    assert_eq!(failure(&life), &Failure::DependencyLost(on()));
    assert_eq!(life.failures(), 0, "no fault of its own");
}

#[test]
fn each_class_of_failure_has_its_own_delay() {
    let mut rules = steady();
    let class = ClassPolicy {
        first_delay: Some(Duration::from_secs(9)),
        ..ClassPolicy::default()
    };
    rules.restart.classes.insert(FailureClass::Crash, class);
    let mut life = up(rules);
    bring_to_running(&mut life, at(0));
    end(&mut life, seconds(3_600), KILLED);
    assert_eq!(life.next_deadline(), Some(seconds(3_609)));
    checked_step(&mut life, seconds(3_609), Event::Tick);
    bring_to_running(&mut life, seconds(3_609));
    let oom = ExitStatus::OutOfMemory {
        used_bytes: 64 << 20,
        limit_bytes: 64 << 20,
    };
    end(&mut life, seconds(7_000), oom);
    assert_eq!(life.next_deadline(), Some(seconds(7_001)));
    assert_eq!(
        life.cause(),
        "was killed by the kernel for lack of memory (64 MiB used of 64 MiB allowed) after 3391.0 s"
    );
}
