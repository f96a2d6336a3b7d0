//! The texts as an operator reads them at night; whoever changes one should read them all.

use super::*;
use crate::lifecycle::Pause;
use crate::{MonoTime, PluginId, Run};

const IN_8_S: Option<Duration> = Some(Duration::from_millis(7_300));
const EPOCH: MonoTime = MonoTime::from_origin(Duration::ZERO);
const AT_ONCE: &str = "to try at once: hubcli start meter";

fn code(code: i32) -> Failure {
    Failure::EarlyExit(ExitStatus::Code(code))
}

fn signal(number: i32, core_dumped: bool) -> Failure {
    Failure::Ended(ExitStatus::Signal {
        number,
        core_dumped,
    })
}

/// What is told of a plugin that is up and was started by joe; each test changes what it is about.
struct Case<'a> {
    phase: Phase,
    last: Option<Failure>,
    tail: &'a [&'a str],
    ready: ReadyBy,
    wish: Wish,
    enabled: Setting,
    restarts: u32,
    undying: Vec<String>,
    frozen: bool,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Case {
            phase: running(),
            last: None,
            tail: &[],
            ready: ReadyBy::Living,
            wish: Wish::Up,
            enabled: Setting::Disabled,
            restarts: 0,
            undying: Vec::new(),
            frozen: false,
        }
    }
}

impl Case<'_> {
    fn told(self) -> (String, String) {
        let tail: Vec<String> = self.tail.iter().map(|line| (*line).to_owned()).collect();
        let last = self.last.map(|failure| LastFailure {
            run: Run(7),
            failure,
            lasted: Duration::from_millis(200),
        });
        let told = tell(&Account {
            id: "meter",
            phase: &self.phase,
            wish: self.wish,
            wish_by: "joe",
            enabled: self.enabled,
            last: last.as_ref(),
            tail: &tail,
            restarts: self.restarts,
            next_in: IN_8_S,
            ready: &self.ready,
            undying: &self.undying,
            frozen: self.frozen,
        });
        (told.text, told.hint)
    }
}

fn running() -> Phase {
    Phase::Running {
        run: Run(8),
        pid: 77,
        since: EPOCH,
        watch: None,
    }
}

/// After a failure, in its delay: what the text says of it, and what the hint says before how it is tried at once.
fn failed(failure: Failure, tail: &[&str], ready: ReadyBy) -> (String, String) {
    let (text, hint) = Case {
        phase: Phase::Backoff {
            until: EPOCH,
            attempt: 3,
        },
        last: Some(failure),
        tail,
        ready,
        ..Case::default()
    }
    .told();
    let text = text
        .strip_prefix("it failed 3 times in a row and is tried again in 8 s: ")
        .unwrap_or_else(|| panic!("{text}"));
    let way_out = hint.strip_suffix(AT_ONCE);
    let way_out = way_out.unwrap_or_else(|| panic!("{hint}"));
    (
        text.to_owned(),
        way_out
            .strip_suffix("; then ")
            .unwrap_or_default()
            .to_owned(),
    )
}

fn blocked_by(reason: BlockReason) -> (String, String) {
    Case {
        phase: Phase::Blocked {
            reason,
            retry_at: EPOCH,
            attempt: 1,
        },
        ..Case::default()
    }
    .told()
}

/// Tells each failure, and compares what is read.
fn check(cases: &[(Failure, &[&str], &str, &str)]) {
    for (failure, tail, text, way_out) in cases {
        let found = failed(failure.clone(), tail, ReadyBy::Living);
        assert_eq!(found, ((*text).to_owned(), (*way_out).to_owned()));
    }
}

#[test]
fn exit_codes_have_their_usual_meaning() {
    check(&[
        (
            code(0),
            &["bye"],
            "run 7 exited by itself with code 0 before it was ready, after 0.2 s",
            "it must stay in the foreground: if it goes to the background or only does one thing, change plugins.meter.args, or set plugins.meter.restart.policy",
        ),
        (
            code(1),
            &[],
            "run 7 exited with code 1 before it was ready, after 0.2 s",
            "logs/meter.log may tell more",
        ),
        (
            Failure::Ended(ExitStatus::Code(0)),
            &[],
            "run 7 exited by itself with code 0 after 0.2 s",
            "logs/meter.log may tell more",
        ),
        (
            code(2),
            &[],
            "run 7 exited with code 2 (often wrong usage) before it was ready, after 0.2 s",
            "logs/meter.log may tell more",
        ),
        (
            code(78),
            &[],
            "run 7 exited with code 78 (bad configuration) before it was ready, after 0.2 s: its configuration is wrong",
            "mend its configuration, which its last lines name",
        ),
        (
            code(126),
            &[],
            "run 7 exited with code 126 (a command could not be executed) before it was ready, after 0.2 s: what it calls is there but cannot be executed",
            "make that executable: its last lines name it",
        ),
        (
            code(127),
            &["/hub/plugins/meter: line 2: modpoll: not found"],
            "run 7 exited with code 127 (a command was not found) before it was ready, after 0.2 s: it calls a program that is not installed",
            "install what its last lines name",
        ),
        (
            Failure::Ended(ExitStatus::Unknown),
            &[],
            "run 7 ended in a way that the system does not tell after 0.2 s",
            "logs/meter.log may tell more",
        ),
    ]);
}

#[test]
fn signals_say_who_most_likely_sent_them() {
    check(&[
        (
            signal(11, true),
            &[],
            "run 7 ended by SIGSEGV (core dumped) after 0.2 s: the program has a fault",
            "tell its maker (coredumpctl info shows where, if that is installed)",
        ),
        (
            signal(6, false),
            &[],
            "run 7 ended by SIGABRT after 0.2 s: the program has a fault",
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
            "run 7 ended by SIGTERM after 0.2 s: not stopped by this launcher but by a person or another program",
            "look for scripts and timers that end programs (kill, pkill)",
        ),
        (
            signal(25, false),
            &[],
            "run 7 ended by SIGXFSZ after 0.2 s: a file of it grew beyond its limit",
            "raise LimitFSIZE= of the unit, or ulimit -f",
        ),
        (
            signal(31, false),
            &[],
            "run 7 ended by SIGSYS after 0.2 s: it used a system call that is forbidden here",
            "loosen SystemCallFilter= of the unit",
        ),
        (
            Failure::Ended(ExitStatus::OutOfMemory {
                used_bytes: 64 << 20,
                limit_bytes: 64 << 20,
            }),
            &["listen tcp :502: bind: address already in use"],
            "run 7 was killed by the kernel for lack of memory (64 MiB used of 64 MiB allowed) after 0.2 s: it used more memory than it may, or the machine had none left",
            "raise its limits.memory if it has one, and look with hubcli ls who uses most",
        ),
    ]);
}

#[test]
fn last_lines_tell_the_cause() {
    check(&[
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
        (
            code(1),
            &["connect to bus: bad credentials (0x86)"],
            "run 7 exited with code 1 before it was ready, after 0.2 s: the hub refused its login",
            "hubcli restart meter has its credentials looked at and made anew; is the clock of this machine right?",
        ),
        (
            code(101),
            &[
                "thread 'main' panicked at src/main.rs:3:5:",
                "no such sensor",
            ],
            "run 7 exited with code 101 (a Rust program panicked) before it was ready, after 0.2 s",
            "logs/meter.log may tell more",
        ),
    ]);
}

#[test]
fn what_could_not_be_executed_brings_its_own_way_out() {
    for text in [
        "fork/exec /hub/plugins/meter: exec format error: it is a program for aarch64, and this machine is x86_64; install a build for this machine",
        "fork/exec /hub/plugins/meter: no such file or directory: its interpreter /usr/bin/pyton3 is missing; install it or correct the script's first line",
        "fork/exec /hub/plugins/meter: resource temporarily unavailable; the limit on processes is reached: end some, or raise TasksMax= or ulimit -u",
    ] {
        let found = failed(Failure::Spawn(text.to_owned()), &["old"], ReadyBy::Living);
        assert_eq!(
            found,
            (format!("it could not be started: {text}"), String::new())
        );
    }
}

#[test]
fn readiness_that_did_not_come_says_what_was_waited_for() {
    let longer = "if it only takes longer, raise plugins.meter.start.timeout";
    for (ready, missed, way_out) in [
        (
            ReadyBy::Itself,
            "it had not said READY=1 at its NOTIFY_SOCKET",
            format!("{longer}; if it never does that, correct plugins.meter.ready"),
        ),
        (
            ReadyBy::Line("listening".to_owned()),
            "no line of its output had 'listening' in it",
            format!("{longer}; if it never does that, correct plugins.meter.ready"),
        ),
        (
            ReadyBy::Connection("localhost:502".to_owned()),
            "nobody accepted connections at localhost:502",
            format!("{longer}; if it never does that, correct plugins.meter.ready"),
        ),
        (
            ReadyBy::Login,
            "it had not logged in at the bus",
            format!(
                "logs/meter.log tells why it does not log in; {longer}; if it does not use the bus, correct plugins.meter.ready"
            ),
        ),
        (
            ReadyBy::LoginOfOthers,
            "the launcher could not log in at it",
            format!("logs/meter.log tells what it does instead; {longer}"),
        ),
    ] {
        let found = failed(Failure::NotReady(Duration::from_secs(30)), &[], ready);
        assert_eq!(
            found,
            (
                format!("run 7 was stopped, as after 30.0 s {missed}"),
                way_out
            )
        );
    }
    // The core's settings are those of all.
    let hint = ReadyBy::LoginOfOthers.way_out("core");
    assert!(hint.ends_with(" raise start.timeout"), "{hint}");
}

#[test]
fn what_the_launcher_stopped_says_why_it_did() {
    check(&[
        (
            Failure::Watchdog(Duration::from_secs(30)),
            &[],
            "run 7 was stopped by its watchdog: no sign of life for 30.0 s",
            "logs/meter.log may tell where it hangs; if it is only slow, raise plugins.meter.watchdog",
        ),
        (
            Failure::Watchdog(Duration::ZERO),
            &[],
            "run 7 was stopped by its watchdog: it said itself that it hangs",
            "logs/meter.log may tell why it hangs",
        ),
        (
            Failure::Limit("memory 70 MiB, limit 64 MiB".to_owned()),
            &["address already in use"],
            "run 7 was stopped for using too much: memory 70 MiB, limit 64 MiB",
            "logs/meter.limit-7.txt shows what it did; if it needs that much, raise plugins.meter.limits",
        ),
        (
            Failure::Limit("cpu 195 %, limit 90 %".to_owned()),
            &[],
            "run 7 was stopped for using too much: cpu 195 %, limit 90 %",
            "logs/meter.limit-7.txt shows what it did; if it needs that much, raise plugins.meter.limits",
        ),
        (
            Failure::DependencyLost(PluginId::new("db").unwrap()),
            &[],
            "run 7 was stopped as 'db', which it requires, went away",
            "hubcli why db",
        ),
    ]);
}

#[test]
fn what_is_not_tried_says_what_is_missing() {
    let mend = "mend what is named, then it starts by itself; to try at once: hubcli start meter";
    for text in [
        "no such file in plugins; put the executable at /hub/plugins/meter",
        "fork/exec /hub/plugins/meter: text file busy; it is still being written",
    ] {
        let found = blocked_by(BlockReason::Executable(text.to_owned()));
        assert_eq!(
            found,
            (format!("it cannot be started: {text}"), mend.to_owned())
        );
    }
    for reason in [
        BlockReason::Credentials("x".to_owned()),
        BlockReason::Settings("x".to_owned()),
    ] {
        let found = blocked_by(reason);
        assert_eq!(
            found,
            ("it cannot be started: x".to_owned(), mend.to_owned())
        );
    }
    let found = blocked_by(BlockReason::Leftover("process 7 has not ended".to_owned()));
    assert_eq!(found.0, "it cannot be started: process 7 has not ended");
    assert!(
        found
            .1
            .ends_with("it starts by itself when that process is gone"),
        "{found:?}"
    );
    assert_eq!(
        blocked_by(BlockReason::Needs(
            "needs /dev/ttyACM0, which is not there; it is started as soon as it appears (or change plugins.meter.needs)"
                .to_owned()
        )),
        (
            "it is not started yet: it needs /dev/ttyACM0, which is not there; it is started as soon as it appears (or change plugins.meter.needs)"
                .to_owned(),
            "plug in or mount what is named, then it starts by itself; to try at once: hubcli start meter"
                .to_owned()
        )
    );
}

#[test]
fn a_chain_of_requirements_names_its_end_and_the_next() {
    let db = || PluginId::new("db").unwrap();
    let text = "requires 'db', which is blocked: needs /dev/sdb1, which is not there; it is started as soon as it appears (or change plugins.db.needs)";
    assert_eq!(
        blocked_by(BlockReason::Requires {
            on: db(),
            text: text.to_owned()
        }),
        (
            format!("it is not started yet: it {text}"),
            "hubcli why db; when that is ready this one starts by itself".to_owned()
        )
    );
    let text = "requires 'db', which is not ready yet (starting)";
    assert_eq!(
        blocked_by(BlockReason::Awaits {
            on: db(),
            text: text.to_owned()
        }),
        (
            format!("it is not started yet: it {text}"),
            "hubcli why db; when that is ready this one starts by itself".to_owned()
        )
    );
}

#[test]
fn a_copy_of_somebody_else_is_shown_and_can_be_ended() {
    for (wish, hint) in [
        (
            Wish::Up,
            "ps -fp 77 shows it; end it (kill 77), and this launcher starts its own by itself",
        ),
        (Wish::Down, "ps -fp 77 shows it; to end it: kill 77"),
    ] {
        let found = Case {
            phase: Phase::Foreign { pid: 77 },
            wish,
            ..Case::default()
        };
        assert_eq!(
            found.told(),
            (
                "a copy runs as process 77 that this launcher did not start, and two are never run"
                    .to_owned(),
                hint.to_owned()
            )
        );
    }
}

#[test]
fn what_does_not_die_is_named() {
    let killing = |rounds, undying: &[&str]| {
        Case {
            phase: Phase::Killing {
                run: Run(7),
                again_at: EPOCH,
                rounds,
                then: Then::Rest(StopCause::ByHand),
            },
            undying: undying.iter().map(|text| (*text).to_owned()).collect(),
            ..Case::default()
        }
        .told()
    };
    assert_eq!(
        killing(1, &[]),
        (
            "all its processes were killed, and have not ended yet".to_owned(),
            String::new()
        )
    );
    let stuck = "process 5 (meter) was killed, but is in uninterruptible sleep in nfs_wait: a disk or a device does not answer it";
    let hint =
        "dmesg shows what the kernel says of it; mend the disk or drive, or restart the machine";
    assert_eq!(
        killing(9, &[stuck]),
        (
            format!("it was killed 9 times and has not ended: {stuck}"),
            hint.to_owned()
        )
    );
    assert_eq!(
        killing(9, &[stuck, "x", "y"]).0,
        format!("it was killed 9 times and has not ended: {stuck}; 2 more likewise")
    );
    assert_eq!(
        killing(9, &[]).0,
        "it was killed 9 times and has not ended: a process of it hangs in the kernel, often on a dead disk or network drive"
    );
}

#[test]
fn what_is_being_ended_says_why() {
    for (then, text) in [
        (
            Then::Rest(StopCause::ByHand),
            "it was asked to stop, and has not ended yet",
        ),
        (
            Then::StartAgain,
            "it was asked to stop, to be started anew, and has not ended yet",
        ),
        (
            Then::Decide {
                failure: Failure::Watchdog(Duration::from_secs(30)),
                lasted: Duration::ZERO,
                pause: Pause::ByPolicy,
            },
            "it was stopped by its watchdog: no sign of life for 30.0 s, and has not ended yet",
        ),
        (
            Then::Decide {
                failure: code(1),
                lasted: Duration::ZERO,
                pause: Pause::ByPolicy,
            },
            "its main process ended, the rest of its processes was asked to stop, and has not ended yet",
        ),
    ] {
        let case = Case {
            phase: Phase::Stopping {
                run: Run(7),
                stage: crate::lifecycle::StopStage::Grace { deadline: EPOCH },
                then,
            },
            ..Case::default()
        };
        assert_eq!(case.told(), (text.to_owned(), String::new()));
    }
}

#[test]
fn what_runs_says_what_went_before() {
    let case = Case::default();
    assert_eq!(case.told(), ("it runs, run 8".to_owned(), String::new()));
    let case = Case {
        last: Some(signal(11, false)),
        restarts: 1,
        ..Case::default()
    };
    assert_eq!(
        case.told().0,
        "it runs, run 8, after a restart that nobody asked for; before that run 7 ended by SIGSEGV after 0.2 s: the program has a fault"
    );
    let case = Case {
        last: Some(signal(11, false)),
        restarts: 6,
        phase: Phase::Preparing {
            ticket: crate::lifecycle::Ticket(1),
            attempt: 0,
        },
        ..Case::default()
    };
    assert_eq!(
        case.told().0,
        "its executable and credentials are being looked at, after 6 restarts that nobody asked for; before that run 7 ended by SIGSEGV after 0.2 s: the program has a fault"
    );
    let case = Case {
        frozen: true,
        ..Case::default()
    };
    assert_eq!(
        case.told(),
        (
            "its process 77 was stopped by a signal, and does nothing until it is told to go on; run 8"
                .to_owned(),
            "to let it go on: kill -CONT 77; to have a new one: hubcli restart meter".to_owned()
        )
    );
}

#[test]
fn what_rests_says_who_wanted_it() {
    for (why, enabled, text) in [
        (
            Rest::NeverStarted,
            Setting::Disabled,
            "nobody has started it, and it is disabled: it does not start with the launcher",
        ),
        (
            Rest::NeverStarted,
            Setting::Enabled,
            "nobody has started it yet",
        ),
        (
            Rest::Asked(StopCause::ByHand),
            Setting::Disabled,
            "it was stopped by joe, and is disabled: it does not start with the launcher either",
        ),
        (
            Rest::Asked(StopCause::ByHand),
            Setting::Enabled,
            "it was stopped by joe; it starts again with the launcher",
        ),
        (
            Rest::Asked(StopCause::All),
            Setting::Enabled,
            "it was stopped with all others by joe",
        ),
        (
            Rest::Asked(StopCause::Unlisted),
            Setting::Disabled,
            "it was taken off autostart, and stopped by a reload by joe",
        ),
        (
            Rest::Asked(StopCause::Shutdown),
            Setting::Enabled,
            "the launcher stops",
        ),
    ] {
        let case = Case {
            phase: Phase::Stopped { why },
            wish: Wish::Down,
            enabled,
            ..Case::default()
        };
        assert_eq!(
            case.told(),
            (text.to_owned(), "hubcli start meter".to_owned())
        );
    }
    let case = Case {
        phase: Phase::Stopped {
            why: Rest::Finished,
        },
        last: Some(Failure::Ended(ExitStatus::Code(1))),
        tail: &["bind: address already in use"],
        ..Case::default()
    };
    assert_eq!(
        case.told(),
        (
            "it ended, and its restart policy leaves it at that: run 7 exited with code 1 after 0.2 s: the address it listens on is in use"
                .to_owned(),
            "end who has it (ss -lntp shows who), or give it another one; then hubcli start meter"
                .to_owned()
        )
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
    for (attempt, text) in [(1, "once"), (2, "twice in a row"), (9, "9 times in a row")] {
        assert_eq!(times(attempt), text);
    }
}
