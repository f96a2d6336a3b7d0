use super::*;
use crate::table;
use std::process::{Child, Command};

fn member(pid: u32) -> Member {
    let pid = i32::try_from(pid).unwrap();
    let start_ticks = table::stat(pid).unwrap().unwrap().start_ticks;
    Member { pid, start_ticks }
}

fn me() -> Member {
    own().unwrap()
}

fn sample(sampler: &mut Sampler<u8>, key: u8, members: &[Member]) -> Usage {
    let members = members.to_vec();
    let sampled = sampler.sample(
        vec![Tree {
            key,
            members,
            counted: None,
        }],
        Others::Keep,
    );
    sampled.unwrap()[0].1
}

/// Uses this much CPU time, however long it takes on a loaded machine; tells how long that was.
fn burn(time: Duration) -> Duration {
    let used = || Duration::from(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap());
    let (began, before) = (Instant::now(), used());
    while used() - before < time {
        std::hint::spin_loop();
    }
    began.elapsed()
}

/// A child of the test, ended with it.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn what_burns_is_seen_and_the_dead_count_nothing() {
    let mut sampler = Sampler::new().unwrap();
    let dead = Member {
        pid: 4_194_303,
        start_ticks: 1,
    };
    let first = sample(&mut sampler, 0, &[me()]);
    assert!(first.rss_bytes > 100_000);
    assert!(first.peak_rss_bytes >= first.rss_bytes);
    assert_eq!(first.processes, 1);
    assert!(first.threads >= 2 && first.open_fds.unwrap() >= 3);
    let nothing = sample(&mut sampler, 1, &[dead]);
    assert_eq!((nothing.processes, nothing.cpu_time_ms), (0, 0));
    assert_eq!(nothing.open_fds, Some(0));
    assert_eq!(sample(&mut sampler, 2, &[me(), dead]).processes, 1);
    let elapsed = burn(Duration::from_millis(300));
    let second = sample(&mut sampler, 0, &[me()]);
    // Half of it would do: the clock ticks each 10 ms, and the sample itself takes time.
    let used = elapsed * u32::try_from(second.cpu_percent).unwrap() / 100;
    assert!(used > Duration::from_millis(150), "{elapsed:?} {second:?}");
    assert!(second.cpu_time_ms > first.cpu_time_ms);
    // Too soon for a figure of its own.
    let again = sample(&mut sampler, 0, &[me()]);
    assert_eq!(again.cpu_percent, second.cpu_percent);
}

#[test]
fn a_reused_number_inherits_nothing_and_the_forgotten_are_dropped() {
    let mut sampler = Sampler::new().unwrap();
    // As if our number had belonged to a process that started at boot.
    let before = Member {
        start_ticks: 0,
        ..me()
    };
    assert_eq!(sample(&mut sampler, 0, &[before]).processes, 0);
    sample(&mut sampler, 1, &[me()]);
    assert_eq!(sampler.last.len(), 2);
    let members = vec![me()];
    let only = vec![Tree {
        key: 1,
        members,
        counted: None,
    }];
    sampler.sample(only, Others::Forget).unwrap();
    assert_eq!(sampler.last.keys().collect::<Vec<_>>(), [&1]);
    sampler.sample(Vec::new(), Others::Forget).unwrap();
    assert_eq!(sampler.last.len(), 0);
}

/// T28, with a real process.
#[test]
fn a_process_may_be_called_anything() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("a) b (c");
    std::os::unix::fs::symlink("/bin/sh", &program).unwrap();
    let mut command = Command::new(&program);
    command.args(["-c", "while :; do :; done"]);
    let child = Ends(command.spawn().unwrap());
    let mut sampler = Sampler::new().unwrap();
    let child = [member(child.0.id())];
    let stat = table::stat(child[0].pid).unwrap().unwrap();
    assert_eq!(stat.comm, "a) b (c");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let usage = sample(&mut sampler, 0, &child);
        assert_eq!((usage.processes, usage.threads), (1, 1));
        if usage.cpu_time_ms >= 100 && usage.cpu_percent > 10 {
            assert!(usage.rss_bytes > 100_000, "{usage:?}");
            break;
        }
        assert!(Instant::now() < deadline, "{usage:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_children_used_that_have_ended_stays_counted() {
    let mut command = Command::new("/bin/sh");
    // The inner shell burns and ends; the outer one waits for it, and then for ever.
    let script = "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; exec sleep 600";
    let child = Ends(command.args(["-c", script]).spawn().unwrap());
    let main = member(child.0.id());
    let mut sampler = Sampler::new().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut before = 0;
    loop {
        let kin = table::children(main.pid).unwrap();
        let kin = kin.into_iter().filter_map(|pid| {
            let start_ticks = table::stat(pid).ok()??.start_ticks;
            Some(Member { pid, start_ticks })
        });
        let members: Vec<Member> = [main].into_iter().chain(kin).collect();
        let usage = sample(&mut sampler, 0, &members);
        assert!(usage.cpu_time_ms >= before, "{usage:?} after {before} ms");
        before = usage.cpu_time_ms;
        if table::arguments(main.pid)
            .unwrap()
            .first()
            .is_some_and(|name| name == "sleep")
        {
            break;
        }
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
    let usage = sample(&mut sampler, 0, &[main]);
    assert!(usage.cpu_time_ms >= 50, "{usage:?}");
    assert_eq!(usage.processes, 1);
}

#[test]
fn descriptors_are_counted_where_they_have_to_be_listed_too() {
    let me = me().pid;
    let listed = std::fs::read_dir(format!("/proc/{me}/fd")).unwrap().count();
    let told = table::open_fds(me, 10_000).unwrap();
    // Other tests open and close theirs meanwhile.
    assert!(told.abs_diff(listed as u64) < 200, "{told} {listed}");
}
