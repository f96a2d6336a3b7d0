//! The words of HP 1.7 to 1.10, and the verdicts on orders.

use super::*;
use crate::PluginId;

fn id() -> PluginId {
    PluginId::new("probe").unwrap()
}

fn started() -> Lifecycle {
    let mut life = Lifecycle::new(steady(), Run(0), 1);
    checked_step(&mut life, at(0), Event::Start);
    life
}

fn goal(life: &Lifecycle) -> Goal {
    let failures = life.failures();
    Goal::Up {
        failures,
        above: Run(0),
    }
}

#[test]
fn status_over_time_is_the_originals() {
    let mut life = Lifecycle::new(with_mode(RestartMode::Never), Run(0), 1);
    assert_eq!(life.status(&id()), "");
    for (status, text) in [
        (
            ExitStatus::Code(1),
            "Plugin 'probe' has stopped with: exit status 1",
        ),
        (KILLED, "Plugin 'probe' has stopped with: signal: killed"),
        (
            ExitStatus::Code(0),
            "Plugin 'probe' has stopped with exit code 0: sys='0'",
        ),
    ] {
        checked_step(&mut life, at(0), Event::Start);
        let run = bring_to_running(&mut life, at(0));
        assert_eq!(life.status(&id()), "");
        checked_step(&mut life, at(500), Event::TreeEnded { run, status });
        assert_eq!(life.status(&id()), text);
    }
    // The stop of all leaves it, that of this one does not (HP 1.8).
    checked_step(&mut life, at(600), Event::Stop(StopCause::All));
    assert!(life.status(&id()).contains("sys='0'"));
    checked_step(&mut life, at(600), Event::Stop(StopCause::ByHand));
    assert_eq!(life.status(&id()), "stopped by user");
}

#[test]
fn a_failed_exec_names_plugin_and_cause() {
    let mut life = Lifecycle::new(with_mode(RestartMode::Never), Run(0), 1);
    checked_step(&mut life, at(0), Event::Start);
    let goal = goal(&life);
    prepared(&mut life, at(0));
    let failure = SpawnFailure::Failed("fork/exec /p/probe: permission denied".to_owned());
    checked_step(
        &mut life,
        at(0),
        Event::SpawnFailed {
            run: Run(1),
            failure,
        },
    );
    let text = "failed starting 'probe': fork/exec /p/probe: permission denied";
    assert_eq!(life.status(&id()), text);
    assert_eq!(life.verdict(&id(), goal), Verdict::Failed(text.to_owned()));
}

#[test]
fn an_early_exit_answers_the_start_with_gos_words() {
    for (status, text) in [
        (ExitStatus::Code(0), "exit status 0"),
        (ExitStatus::Code(1), "exit status 1"),
        (KILLED, "signal: killed"),
    ] {
        let mut life = started();
        let goal = goal(&life);
        let run = bring_up(&mut life, at(0));
        assert_eq!(life.verdict(&id(), goal), Verdict::Pending);
        checked_step(&mut life, at(50), Event::TreeEnded { run, status });
        assert_eq!(life.verdict(&id(), goal), Verdict::Failed(text.to_owned()));
    }
}

#[test]
fn an_old_failure_is_no_answer_to_a_new_start() {
    let mut life = started();
    let run = bring_to_running(&mut life, at(0));
    let status = ExitStatus::Code(1);
    checked_step(&mut life, at(500), Event::TreeEnded { run, status });
    let goal = goal(&life);
    checked_step(&mut life, at(501), Event::Start);
    assert_eq!(life.verdict(&id(), goal), Verdict::Pending);
    bring_to_running(&mut life, at(501));
    assert_eq!(life.verdict(&id(), goal), Verdict::Reached);
}

#[test]
fn a_restart_is_reached_by_the_next_run_only() {
    let mut life = started();
    let run = bring_to_running(&mut life, at(0));
    let goal = Goal::Up {
        failures: 0,
        above: run,
    };
    assert_eq!(life.verdict(&id(), goal), Verdict::Pending);
    checked_step(&mut life, at(500), Event::Restart);
    let status = ExitStatus::Code(0);
    checked_step(&mut life, at(510), Event::TreeEnded { run, status });
    assert_eq!(life.verdict(&id(), goal), Verdict::Pending);
    bring_to_running(&mut life, at(520));
    assert_eq!(life.verdict(&id(), goal), Verdict::Reached);
}

#[test]
fn a_stop_is_reached_when_all_is_gone() {
    let mut life = started();
    let run = bring_to_running(&mut life, at(0));
    checked_step(&mut life, at(500), Event::Stop(StopCause::ByHand));
    let status = ExitStatus::Code(0);
    checked_step(&mut life, at(510), Event::MainEnded { run, status });
    assert_eq!(life.verdict(&id(), Goal::Down), Verdict::Pending);
    checked_step(&mut life, at(520), Event::TreeEnded { run, status });
    assert_eq!(life.verdict(&id(), Goal::Down), Verdict::Reached);
}

#[test]
fn blocked_and_foreign_say_what_is_in_the_way() {
    let mut life = started();
    let goal = goal(&life);
    let reason = BlockReason::Credentials("no token for 'probe'".to_owned());
    blocked(&mut life, at(0), reason);
    let text = "failed starting 'probe': no token for 'probe'";
    assert_eq!(life.verdict(&id(), goal), Verdict::Failed(text.to_owned()));
    assert_eq!(life.cause(), "no token for 'probe'");
    checked_step(&mut life, at(1), Event::ForeignFound { pid: 12 });
    let text = "process for service 'probe' already exists using PID 12";
    assert_eq!(life.verdict(&id(), goal), Verdict::Failed(text.to_owned()));
    assert_eq!(life.status(&id()), text);
}
