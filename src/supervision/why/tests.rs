use super::*;
use crate::{MonoTime, Run};

const IN_8_S: Option<Duration> = Some(Duration::from_millis(7_300));

fn code(code: i32) -> Failure {
    Failure::EarlyExit(ExitStatus::Code(code))
}

fn signal(number: i32, core_dumped: bool) -> Failure {
    Failure::Ended(ExitStatus::Signal {
        number,
        core_dumped,
    })
}

fn told(phase: &Phase, last: Option<&LastFailure>, tail: &[&str]) -> Told {
    let tail: Vec<String> = tail.iter().map(|line| (*line).to_owned()).collect();
    tell(&Account {
        id: "meter",
        phase,
        wish: Wish::Up,
        wish_by: "joe",
        enabled: Setting::Disabled,
        last,
        tail: &tail,
        restarts: 0,
        next_in: IN_8_S,
    })
}

/// After a failure, in its delay.
fn failed(failure: Failure, tail: &[&str]) -> Told {
    let last = LastFailure {
        run: Run(7),
        failure,
        lasted: Duration::from_millis(200),
    };
    let phase = Phase::Backoff {
        until: MonoTime::from_origin(Duration::ZERO),
        attempt: 3,
    };
    told(&phase, Some(&last), tail)
}

fn blocked(reason: BlockReason) -> Told {
    let phase = Phase::Blocked {
        reason,
        retry_at: MonoTime::from_origin(Duration::ZERO),
        attempt: 1,
    };
    told(&phase, None, &[])
}

#[test]
fn each_kind_of_failure_names_thing_cause_and_way_out() {
    let at_once = "to try at once: hubcli start meter";
    for (failure, tail, text, way_out) in [
        (
            code(0),
            &["bye"][..],
            "run 7 exited by itself with code 0 before it was ready, after 0.2 s",
            "",
        ),
        (
            code(1),
            &[],
            "run 7 exited with code 1 before it was ready, after 0.2 s",
            "",
        ),
        (
            code(2),
            &[],
            "run 7 exited with code 2, often wrong usage before it was ready, after 0.2 s",
            "",
        ),
        (
            code(78),
            &[],
            "run 7 exited with code 78, bad configuration before it was ready, after 0.2 s: its configuration is wrong",
            "mend its configuration, which its last lines name",
        ),
        (
            code(126),
            &[],
            "run 7 exited with code 126, a command could not be executed before it was ready, after 0.2 s: what it calls is there but cannot be executed",
            "make that executable: its last lines name it",
        ),
        (
            code(127),
            &["/hub/plugins/meter: line 2: modpoll: not found"],
            "run 7 exited with code 127, a command was not found before it was ready, after 0.2 s: it calls a program that is not installed",
            "install what its last lines name",
        ),
        (
            signal(11, true),
            &[],
            "run 7 ended by SIGSEGV, core dumped after 0.2 s: the program has a fault",
            "tell its maker (coredumpctl info shows where, if that is installed)",
        ),
        (
            signal(9, false),
            &[],
            "run 7 ended by SIGKILL after 0.2 s: not killed by this launcher but by a person, or the kernel when memory ran out",
            "dmesg | grep -i oom shows whether the kernel did it",
        ),
        (
            signal(15, false),
            &[],
            "run 7 ended by SIGTERM after 0.2 s",
            "",
        ),
        (
            Failure::NotReady(Duration::from_secs(30)),
            &[],
            "run 7 was not ready after 30.0 s",
            "",
        ),
        (
            Failure::Ended(ExitStatus::OutOfMemory {
                used_bytes: 64 << 20,
                limit_bytes: 64 << 20,
            }),
            &[],
            "run 7 killed by the kernel for lack of memory, 64 MiB used of 64 MiB allowed after 0.2 s: it used more memory than it may, or the machine had none left",
            "raise limits.memory, or look with hubcli ls what uses it",
        ),
        (
            Failure::Spawn("fork/exec /hub/plugins/meter: permission denied".to_owned()),
            &[],
            "could not be started: fork/exec /hub/plugins/meter: permission denied",
            "",
        ),
        (
            code(1),
            &["listen tcp :502: bind: address already in use"],
            "run 7 exited with code 1 before it was ready, after 0.2 s: port 502 is in use",
            "end who has it (ss -ltnp 'sport = :502' shows who), or give it another port",
        ),
        (
            code(1),
            &["open /dev/ttyACM0: permission denied"],
            "run 7 exited with code 1 before it was ready, after 0.2 s: it was not allowed something",
            "give it the rights to what its last lines name",
        ),
        (
            code(1),
            &[
                "write /hub/stores/meter.db: no space left on device",
                "giving up",
            ],
            "run 7 exited with code 1 before it was ready, after 0.2 s: the disk is full",
            "make room: df -h shows where",
        ),
    ] {
        let told = failed(failure, tail);
        assert_eq!(
            told.text,
            format!("it failed 3 times in a row and is tried again in 8 s: {text}")
        );
        let hint = if way_out.is_empty() {
            at_once.to_owned()
        } else {
            format!("{way_out}; then, {at_once}")
        };
        assert_eq!(told.hint, hint);
    }
}

#[test]
fn what_is_not_tried_says_what_is_missing() {
    let no_file = "no such file in plugins".to_owned();
    let found = blocked(BlockReason::Executable(no_file));
    assert_eq!(found.text, "it cannot be started: no such file in plugins");
    assert_eq!(
        found.hint,
        "mend what is named and it starts by itself; at once: hubcli start meter"
    );
    for (reason, hint) in [
        (
            BlockReason::Credentials("x".to_owned()),
            "mend what is named and it starts by itself; at once: hubcli start meter",
        ),
        (
            BlockReason::Needs("x".to_owned()),
            "plug in or mount what is named and it starts by itself; at once: hubcli start meter",
        ),
        (
            BlockReason::Requires("x".to_owned()),
            "hubcli why, for what it requires; when that is ready it starts by itself",
        ),
        (BlockReason::Awaits("x".to_owned()), ""),
    ] {
        let found = blocked(reason);
        assert_eq!(found.text, "it cannot be started: x");
        assert_eq!(found.hint, hint);
    }
    let found = told(&Phase::Foreign { pid: 77 }, None, &[]);
    assert_eq!(
        (found.text.as_str(), found.hint.as_str()),
        (
            "a copy runs as process 77 that this launcher did not start, and two are never run",
            "end that copy (kill 77), then: hubcli start meter"
        )
    );
}

#[test]
fn what_rests_says_who_wanted_it() {
    for (why, text) in [
        (
            Rest::NeverStarted,
            "it is disabled, and nobody has started it",
        ),
        (
            Rest::Asked(StopCause::ByHand),
            "it was stopped by joe, and is disabled",
        ),
        (
            Rest::Asked(StopCause::All),
            "it was stopped with all others by joe",
        ),
        (Rest::Asked(StopCause::Shutdown), "the launcher stops"),
    ] {
        let found = told(&Phase::Stopped { why }, None, &[]);
        assert_eq!(found.text, text);
        assert_eq!(found.hint, "hubcli start meter");
    }
    let last = LastFailure {
        run: Run(2),
        failure: Failure::Ended(ExitStatus::Code(0)),
        lasted: Duration::from_secs(9),
    };
    let phase = Phase::Stopped {
        why: Rest::Finished,
    };
    assert_eq!(
        told(&phase, Some(&last), &[]).text,
        "it ended, and its restart policy leaves it at that: run 2 exited by itself with code 0 after 9.0 s"
    );
}

#[test]
fn times_are_said_shortly() {
    for (ms, text) in [
        (0, "now"),
        (1, "in 1 s"),
        (99_000, "in 99 s"),
        (100_000, "in 2 min"),
    ] {
        assert_eq!(soon(Some(Duration::from_millis(ms))), text);
    }
    assert_eq!(soon(None), "by itself");
}
