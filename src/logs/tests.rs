//! The plane as a whole: real pipes and FIFOs, real files, and a disk that fails and hangs on demand.

use crate::disk::{Disk, Identity, Opened, RealDisk};
use crate::mirror::Sink;
use crate::{MAX_LINE, Mirror, OpenRun, OwnLog, Plane, PlaneConfig, RunLog, StreamSpec};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};
use supervision::policy::LogPolicy;
use supervision::{PluginId, Run};

/// No test waits longer for anything; one that does has failed.
const BOUND: Duration = Duration::from_secs(20);

/// Nobody is held up so long: the contract's 100 ms, and what a machine under load adds to them.
const STALL: Duration = Duration::from_millis(500);

/// What the disk does with appends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Hang,
    Fail(Errno),
    /// Takes a few bytes at a time.
    Slow,
}

#[derive(Clone)]
struct MoodyDisk {
    mood: Arc<(Mutex<Mood>, Condvar)>,
}

impl MoodyDisk {
    fn new(mood: Mood) -> Self {
        MoodyDisk {
            mood: Arc::new((Mutex::new(mood), Condvar::new())),
        }
    }

    fn set(&self, mood: Mood) {
        *self.mood.0.lock().unwrap() = mood;
        self.mood.1.notify_all();
    }
}

impl Disk for MoodyDisk {
    type File = File;

    fn open(&self, path: &Path) -> io::Result<Opened<File>> {
        RealDisk.open(path)
    }

    fn append(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
        let mood = self.mood.0.lock().unwrap();
        let hangs = |mood: &mut Mood| *mood == Mood::Hang;
        let mood = *self.mood.1.wait_while(mood, hangs).unwrap();
        match mood {
            Mood::Well | Mood::Hang => RealDisk.append(file, bytes),
            Mood::Fail(errno) => Err(errno.into()),
            Mood::Slow => RealDisk.append(file, &bytes[..bytes.len().min(7)]),
        }
    }

    fn look(&self, path: &Path) -> io::Result<Option<(Identity, u64)>> {
        RealDisk.look(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
}

/// A terminal that keeps what it is told, and hangs while it is locked.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct House {
    folder: tempfile::TempDir,
    plane: Plane,
    disk: MoodyDisk,
    out: Screen,
    err: Screen,
}

const NO_ROTATION: LogPolicy = LogPolicy {
    max_size_bytes: 0,
    keep: 0,
};

impl House {
    fn new(mood: Mood) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = MoodyDisk::new(mood);
        let (out, err) = (Screen::default(), Screen::default());
        let sinks: (Sink, Sink) = (Box::new(out.clone()), Box::new(err.clone()));
        let config = PlaneConfig {
            folder: folder.path().join("logs"),
        };
        let plane = Plane::start_with(config, disk.clone(), sinks).unwrap();
        House {
            folder,
            plane,
            disk,
            out,
            err,
        }
    }

    /// A FIFO as the launcher makes it: the writing side is held open for reading, too.
    fn fifo(&self) -> (OwnedFd, File) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("fifo{number}"));
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let read = nix::fcntl::open(&path, flags, Mode::empty()).unwrap();
        let write = File::options().read(true).write(true).open(&path).unwrap();
        (read, write)
    }

    fn open(&self, id: &str, run: u64, policy: LogPolicy) -> (RunLog, File) {
        let (read_end, write) = self.fifo();
        let streams = vec![StreamSpec {
            read_end,
            mirror: Mirror::None,
        }];
        (self.open_with(id, run, policy, streams), write)
    }

    fn open_with(&self, id: &str, run: u64, policy: LogPolicy, streams: Vec<StreamSpec>) -> RunLog {
        let open = OpenRun {
            awaited: None,
            id: PluginId::new(id).unwrap(),
            run: Run(run),
            policy,
            to_file: true,
            streams,
        };
        self.plane.open(open).unwrap()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join("logs").join(name)
    }

    fn text(&self, name: &str) -> String {
        let bytes = std::fs::read(self.log(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Ends the plane; all is on the disk afterwards.
    fn end(self) -> Finished {
        assert!(self.plane.clone().shutdown(BOUND));
        Finished(self)
    }
}

struct Finished(House);

fn close(run: &RunLog) -> Vec<String> {
    let (says, hears) = mpsc::channel();
    let done = Box::new(move |tail| says.send(tail).unwrap());
    run.close("exit code 1", Duration::from_secs(1), done);
    hears.recv_timeout(BOUND).unwrap()
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < BOUND, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The file without the times in own lines.
fn without_times(text: &str) -> Vec<String> {
    let line = |line: &str| match line.strip_prefix("--- 2") {
        Some(rest) => format!("--- {}", rest.split_once(' ').unwrap().1),
        None => line.to_owned(),
    };
    text.lines().map(line).collect()
}

/// Lines and bytes that `dropped` lines of `id` admit to.
fn dropped(text: &str, id: &str) -> (u64, u64) {
    let mark = format!(" {id} dropped ");
    let told = text.lines().filter(|line| line.starts_with("--- "));
    told.filter_map(|line| line.split_once(&mark))
        .map(|(_, rest)| {
            let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
            let mut next = || {
                numbers
                    .find(|n| !n.is_empty())
                    .unwrap()
                    .parse::<u64>()
                    .unwrap()
            };
            (next(), next())
        })
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

#[test]
fn a_run_is_framed_and_its_last_lines_are_told() {
    let house = House::new(Mood::Slow);
    let (run, mut pipe) = house.open("cam", 7, NO_ROTATION);
    pipe.write_all(b"before it was known to live\n").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert!(
        run.tail().is_empty(),
        "nothing is read before the start line"
    );
    run.started(42);
    for n in 0..30 {
        writeln!(pipe, "line {n}").unwrap();
    }
    pipe.write_all(b"no end").unwrap();
    let tail = close(&run);
    assert_eq!(tail.len(), 20);
    assert_eq!((tail[0].as_str(), tail[19].as_str()), ("line 11", "no end"));
    let lines = without_times(&house.end().0.text("cam.log"));
    assert_eq!(lines[0], "--- cam run 7 started, pid 42");
    assert_eq!(lines[1], "before it was known to live");
    assert_eq!(lines[31], "line 29");
    assert_eq!(
        lines[32..],
        ["no end", "--- cam run 7 ended: exit code 1, after 1.000s"]
    );
}

#[test]
fn runs_follow_each_other_in_one_file() {
    let house = House::new(Mood::Well);
    for n in 1..=50 {
        let (run, mut pipe) = house.open("cam", n, NO_ROTATION);
        run.started(1);
        writeln!(pipe, "says {n}").unwrap();
        run.close("gone", Duration::ZERO, Box::new(|_| ()));
    }
    let expected: Vec<String> = (1..=50)
        .flat_map(|n| {
            [
                format!("--- cam run {n} started, pid 1"),
                format!("says {n}"),
                format!("--- cam run {n} ended: gone, after 0ms"),
            ]
        })
        .collect();
    assert_eq!(without_times(&house.end().0.text("cam.log")), expected);
}

#[test]
fn nothing_is_lost_or_torn_under_load_and_rotation() {
    const LINES: usize = 2_000;
    let house = House::new(Mood::Well);
    let policy = LogPolicy {
        max_size_bytes: 50_000,
        keep: 1_000,
    };
    let writers: Vec<_> = (0..20)
        .map(|w| {
            let (run, mut pipe) = house.open(&format!("p{w}"), 1, policy);
            run.started(1);
            std::thread::spawn(move || {
                for n in 0..LINES {
                    let fill = "x".repeat(n * 7919 % 150);
                    pipe.write_all(format!("{w} {n} {fill}\n").as_bytes())
                        .unwrap();
                }
                (run, pipe)
            })
        })
        .collect();
    for writer in writers {
        close(&writer.join().unwrap().0);
    }
    let house = house.end().0;
    for w in 0..20 {
        let mut text = String::new();
        let rotated = (1..1_000).take_while(|n| house.log(&format!("p{w}.log.{n}")).exists());
        let rotated: Vec<usize> = rotated.collect();
        assert_eq!(rotated.len(), 3);
        for n in rotated.iter().rev() {
            let part = house.text(&format!("p{w}.log.{n}"));
            assert!(part.ends_with('\n'));
            // A line that was cut between two reads ends where it began.
            let last_line = part.trim_end().rfind('\n').map_or(0, |at| at + 1);
            assert!(last_line < 50_000);
            text.push_str(&part);
        }
        text.push_str(&house.text(&format!("p{w}.log")));
        let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with("---")).collect();
        assert_eq!(dropped(&text, &format!("p{w}")), (0, 0));
        assert_eq!(lines.len(), LINES);
        for (n, line) in lines.iter().enumerate() {
            let fill = "x".repeat(n * 7919 % 150);
            assert_eq!(*line, format!("{w} {n} {fill}"));
        }
    }
}

/// Writes numbered lines until `enough`; returns how many, their bytes, and the longest time one took.
fn flood(pipe: &mut File, mut enough: impl FnMut(u64) -> bool) -> (u64, u64, Duration) {
    let (mut lines, mut bytes, mut longest) = (0, 0, Duration::ZERO);
    while !enough(lines) {
        let line = format!("{lines} {}\n", "x".repeat(90));
        let began = Instant::now();
        pipe.write_all(line.as_bytes()).unwrap();
        longest = longest.max(began.elapsed());
        lines += 1;
        bytes += line.len() as u64;
    }
    (lines, bytes, longest)
}

/// Every line that was written is in the file, whole and in order, or counted; at most `torn` have only their beginning.
fn account(text: &str, written: (u64, u64), torn: usize) {
    let own = |line: &&str| line.starts_with("--- ");
    let lines: Vec<&str> = text.lines().filter(|line| !own(line)).collect();
    let whole: Vec<&&str> = lines.iter().filter(|l| l.len() > 90).collect();
    let numbers: Vec<u64> = whole
        .iter()
        .filter(|l| l.ends_with(&"x".repeat(90)))
        .map(|l| l.split_once(' ').unwrap().0.parse().unwrap())
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b));
    assert!(lines.len() - numbers.len() <= torn);
    let (dropped_lines, dropped_bytes) = dropped(text, "cam");
    assert_eq!(numbers.len() as u64 + dropped_lines, written.0);
    // A torn line has got a line end of ours instead of its own, which was dropped.
    let added = (lines.len() - numbers.len()) as u64;
    let here: u64 = lines.iter().map(|line| line.len() as u64 + 1).sum();
    assert_eq!(here - added + dropped_bytes, written.1);
}

#[test]
fn a_hanging_disk_holds_up_nobody() {
    let house = House::new(Mood::Hang);
    let (run, mut pipe) = house.open("cam", 1, NO_ROTATION);
    let mut own = house.plane.own("launcher", NO_ROTATION);
    run.started(1);
    let (lines, bytes, longest) = flood(&mut pipe, |n| n >= 20_000);
    assert!(longest < STALL, "{longest:?}");
    for n in 0..20_000 {
        writeln!(own, "{n} {}", "x".repeat(20)).unwrap();
    }
    let began = Instant::now();
    let tail = close(&run);
    assert!(began.elapsed() < STALL);
    assert!(tail[19].starts_with("19999 "));
    // The next run does not wait either.
    let (next, _pipe) = house.open("cam", 2, NO_ROTATION);
    next.started(2);
    assert!(close(&next).is_empty());
    house.disk.set(Mood::Well);
    let house = house.end().0;
    let text = house.text("cam.log");
    account(&text, (lines, bytes), 1);
    assert!(dropped(&text, "cam").0 > 10_000);
    assert!(text.contains(": the disk does not keep up\n"));
    let told: Vec<String> = without_times(&text);
    let own_lines: Vec<&str> = told
        .iter()
        .filter(|l| l.starts_with("---"))
        .map(String::as_str)
        .collect();
    assert!(own_lines[1].starts_with("--- cam dropped"), "{own_lines:?}");
    assert_eq!(
        own_lines[2],
        "--- cam run 1 ended: exit code 1, after 1.000s"
    );
    assert_eq!(own_lines[3], "--- cam run 2 started, pid 2");
    assert!(dropped(&house.text("launcher.log"), "launcher").0 > 10_000);
}

#[test]
fn a_run_waits_in_the_log_for_the_end_of_the_one_before() {
    let house = House::new(Mood::Hang);
    let (first, mut pipe) = house.open("cam", 1, NO_ROTATION);
    first.started(1);
    flood(&mut pipe, |n| n >= 2_400);
    // Its feed is full, and some of it is still in the pipe.
    let (says, hears) = mpsc::channel();
    let told = says.clone();
    first.close(
        "gone",
        Duration::ZERO,
        Box::new(move |_| told.send(1).unwrap()),
    );
    for n in 2..=4 {
        let (run, mut pipe) = house.open("cam", n, NO_ROTATION);
        run.started(1);
        writeln!(pipe, "run {n}").unwrap();
        let says = says.clone();
        run.close(
            "gone",
            Duration::ZERO,
            Box::new(move |_| says.send(n).unwrap()),
        );
    }
    house.disk.set(Mood::Well);
    for n in 1..=4 {
        assert_eq!(hears.recv_timeout(BOUND).unwrap(), n);
    }
    let text = house.end().0.text("cam.log");
    // On a machine that is very slow just now lines of theirs were dropped, too; the order of the own ones holds.
    let said = dropped(&text, "cam") == (0, 0);
    let lines: Vec<String> = without_times(&text)
        .into_iter()
        .filter(|line| line.starts_with("---") || (said && line.starts_with("run")))
        .filter(|line| !line.contains("dropped"))
        .collect();
    let expected: Vec<String> = (1..=4)
        .flat_map(|n| {
            let begin = format!("--- cam run {n} started, pid 1");
            let end = format!("--- cam run {n} ended: gone, after 0ms");
            [begin, format!("run {n}"), end]
        })
        .filter(|line| line.starts_with("---") || (said && line != "run 1"))
        .collect();
    assert_eq!(lines, expected);
}

#[test]
fn a_full_disk_costs_only_what_has_no_room_and_logging_goes_on_by_itself() {
    let house = House::new(Mood::Fail(Errno::ENOSPC));
    let (run, mut pipe) = house.open("cam", 1, NO_ROTATION);
    run.started(1);
    let (lines, bytes, longest) = flood(&mut pipe, |n| n >= 10_000);
    assert!(longest < STALL, "{longest:?}");
    house.disk.set(Mood::Slow);
    wait_until("a line on what was dropped", || {
        dropped(&house.text("cam.log"), "cam").0 > 0
    });
    house.disk.set(Mood::Well);
    let (more, more_bytes, _) = flood(&mut pipe, |n| n >= 100);
    close(&run);
    let text = house.end().0.text("cam.log");
    assert!(text.contains(": no space left on device\n"), "{text}");
    let numbers = text.lines().filter(|l| l.starts_with("99 ")).count();
    assert_eq!(numbers, 2, "the first lines and the last ones are there");
    // The second flood counts from 0 again, so only the sums are compared.
    let (dropped_lines, _) = dropped(&text, "cam");
    let whole = text
        .lines()
        .filter(|l| l.ends_with(&"x".repeat(90)))
        .count() as u64;
    assert_eq!(whole + dropped_lines, lines + more);
    assert!(bytes + more_bytes > 0);
}

#[test]
fn a_short_trouble_of_the_disk_costs_nothing() {
    let house = House::new(Mood::Fail(Errno::EIO));
    let (run, mut pipe) = house.open("cam", 1, NO_ROTATION);
    run.started(1);
    let (lines, bytes, _) = flood(&mut pipe, |n| n >= 500);
    wait_until("all is read", || {
        run.tail().last().is_some_and(|l| l.starts_with("499 "))
    });
    house.disk.set(Mood::Well);
    close(&run);
    let text = house.end().0.text("cam.log");
    account(&text, (lines, bytes), 0);
    assert_eq!(dropped(&text, "cam"), (0, 0));
}

#[test]
fn a_disk_that_stumbles_all_the_time_loses_only_what_is_counted() {
    let house = House::new(Mood::Well);
    let (run, mut pipe) = house.open("cam", 1, NO_ROTATION);
    run.started(1);
    let disk = house.disk.clone();
    let until = Instant::now() + Duration::from_millis(1_500);
    let moods = std::thread::spawn(move || {
        let moods = [
            Mood::Hang,
            Mood::Well,
            Mood::Fail(Errno::ENOSPC),
            Mood::Slow,
        ];
        for mood in moods.iter().cycle() {
            if Instant::now() > until {
                break;
            }
            disk.set(*mood);
            std::thread::sleep(Duration::from_millis(120));
        }
        disk.set(Mood::Well);
    });
    let (lines, bytes, longest) = flood(&mut pipe, |_| Instant::now() > until);
    moods.join().unwrap();
    close(&run);
    assert!(longest < STALL, "{longest:?}");
    let text = house.end().0.text("cam.log");
    account(&text, (lines, bytes), 50);
}

#[test]
fn endless_lines_and_binary_output_pass() {
    let house = House::new(Mood::Well);
    let (run, mut pipe) = house.open("cam", 1, NO_ROTATION);
    run.started(1);
    pipe.write_all(&vec![b'y'; MAX_LINE + 10]).unwrap();
    let binary: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    pipe.write_all(b"\n").unwrap();
    pipe.write_all(&binary).unwrap();
    close(&run);
    let house = house.end().0;
    let file = std::fs::read(house.log("cam.log")).unwrap();
    let start = file.iter().position(|b| *b == b'\n').unwrap() + 1;
    let mut expected = vec![b'y'; MAX_LINE];
    expected.extend_from_slice(b"\n--- line continues\nyyyyyyyyyy\n");
    expected.extend_from_slice(&binary);
    expected.push(b'\n');
    assert!(file[start..].starts_with(&expected));
}

#[test]
fn a_file_that_was_taken_away_is_made_anew() {
    let house = House::new(Mood::Well);
    let (run, mut pipe) = house.open("cam", 1, NO_ROTATION);
    run.started(1);
    let says = |pipe: &mut File, what: &str| {
        wait_until(what, || {
            writeln!(pipe, "{what}").unwrap();
            house.text("cam.log").contains(what)
        });
    };
    says(&mut pipe, "at first");
    std::fs::rename(house.log("cam.log"), house.log("elsewhere")).unwrap();
    says(&mut pipe, "after a rename");
    std::fs::remove_file(house.log("cam.log")).unwrap();
    says(&mut pipe, "after a removal");
    std::fs::remove_dir_all(house.log("")).unwrap();
    says(&mut pipe, "without a folder");
    close(&run);
}

#[test]
fn two_streams_share_a_file_and_the_terminal() {
    let house = House::new(Mood::Well);
    let (out, mut out_pipe) = house.fifo();
    let (err, mut err_pipe) = house.fifo();
    let streams = vec![
        StreamSpec {
            read_end: out,
            mirror: Mirror::Stdout,
        },
        StreamSpec {
            read_end: err,
            mirror: Mirror::Stderr,
        },
    ];
    let run = house.open_with("cam", 1, NO_ROTATION, streams);
    run.started(1);
    let writer = std::thread::spawn(move || {
        for n in 0..500 {
            write!(out_pipe, "out {n}").unwrap();
            out_pipe.write_all(b" \x1b[2J\n").unwrap();
        }
        out_pipe
    });
    for n in 0..500 {
        write!(err_pipe, "err").unwrap();
        writeln!(err_pipe, " {n}").unwrap();
    }
    let _out = writer.join().unwrap();
    close(&run);
    let house = house.end().0;
    let text = house.text("cam.log");
    let of = |prefix: &str| -> Vec<String> {
        let lines = text.lines().filter(|l| l.starts_with(prefix));
        lines.map(str::to_owned).collect()
    };
    let expected = |what: &str, end: &str| -> Vec<String> {
        (0..500).map(|n| format!("{what} {n}{end}")).collect()
    };
    assert_eq!(of("out"), expected("out", " \x1b[2J"));
    assert_eq!(of("err"), expected("err", ""));
    let shown = String::from_utf8(house.out.0.lock().unwrap().clone()).unwrap();
    let shown: Vec<&str> = shown.lines().collect();
    assert_eq!(shown, expected("cam: out", " \\x1b[2J"));
    let shown = String::from_utf8(house.err.0.lock().unwrap().clone()).unwrap();
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected("cam: err", ""));
}

#[test]
fn a_hanging_terminal_holds_up_nobody_and_files_may_be_off() {
    let house = House::new(Mood::Well);
    let (read_end, mut pipe) = house.fifo();
    let mirror = Mirror::Stderr;
    let open = OpenRun {
        awaited: None,
        id: PluginId::core(),
        run: Run(1),
        policy: NO_ROTATION,
        to_file: false,
        streams: vec![StreamSpec { read_end, mirror }],
    };
    let run = house.plane.open(open).unwrap();
    run.started(1);
    let hanging = house.err.0.clone();
    let hangs = hanging.lock().unwrap();
    let (lines, _, longest) = flood(&mut pipe, |n| n >= 5_000);
    assert!(longest < STALL, "{longest:?}");
    assert_eq!(close(&run).len(), 20);
    drop(hangs);
    let house = house.end().0;
    assert!(!house.log("core.log").exists());
    let shown = String::from_utf8(house.err.0.lock().unwrap().clone()).unwrap();
    let whole = shown.lines().filter(|l| l.starts_with("core: ")).count() as u64;
    let lost = dropped(&shown, "launcher").0;
    assert!(lost > 0);
    assert_eq!(whole + lost, lines);
}

#[test]
fn a_pipe_that_nobody_holds_is_still_read_to_its_end() {
    let house = House::new(Mood::Well);
    let (read_end, write_end) = nix::unistd::pipe().unwrap();
    let streams = vec![StreamSpec {
        read_end,
        mirror: Mirror::None,
    }];
    let run = house.open_with("cam", 1, NO_ROTATION, streams);
    run.started(1);
    let mut pipe = File::from(write_end);
    writeln!(pipe, "only this").unwrap();
    drop(pipe);
    wait_until("it is read", || !run.tail().is_empty());
    assert_eq!(close(&run), ["only this"]);
    let text = house.end().0.text("cam.log");
    assert_eq!(without_times(&text)[1], "only this");
}

#[test]
fn a_run_that_nobody_closes_is_kept_all_the_same() {
    let house = House::new(Mood::Well);
    let (run, mut pipe) = house.open("cam", 1, NO_ROTATION);
    writeln!(pipe, "waits in the pipe").unwrap();
    drop(run);
    let text = house.end().0.text("cam.log");
    assert_eq!(text, "waits in the pipe\n");
}

#[test]
fn an_own_line_begins_a_line_whoever_wrote_before() {
    let house = House::new(Mood::Well);
    std::fs::create_dir_all(house.log("")).unwrap();
    std::fs::write(house.log("cam.log"), "of a launcher that was kil").unwrap();
    let (run, _pipe) = house.open("cam", 1, NO_ROTATION);
    run.started(1);
    close(&run);
    let lines = without_times(&house.end().0.text("cam.log"));
    assert_eq!(
        lines[..2],
        ["of a launcher that was kil", "--- cam run 1 started, pid 1"]
    );
}

#[test]
fn the_own_log_is_written_and_rotated() {
    let house = House::new(Mood::Well);
    let policy = LogPolicy {
        max_size_bytes: 100,
        keep: 1,
    };
    let mut own: OwnLog = house.plane.own("launcher", policy);
    for n in 0..100 {
        writeln!(own.clone(), "line {n}").unwrap();
    }
    own.flush().unwrap();
    let house = house.end().0;
    assert!(house.text("launcher.log").ends_with("line 99\n"));
    assert!(house.log("launcher.log.1").exists() && !house.log("launcher.log.2").exists());
    writeln!(own, "nobody reads this any more").unwrap();
}

#[test]
fn a_plane_that_is_shut_down_still_answers() {
    let house = House::new(Mood::Well);
    let (run, mut pipe) = house.open("cam", 1, NO_ROTATION);
    run.started(1);
    writeln!(pipe, "hello").unwrap();
    wait_until("it is read", || !run.tail().is_empty());
    let _house = house.end();
    assert_eq!(close(&run), ["hello"]);
}

#[test]
fn many_runs_are_served() {
    let house = House::new(Mood::Well);
    let mut runs = Vec::new();
    for n in 0..200 {
        let (read_end, write_end) = nix::unistd::pipe().unwrap();
        let streams = vec![StreamSpec {
            read_end,
            mirror: Mirror::None,
        }];
        let run = house.open_with(&format!("p{n}"), 1, NO_ROTATION, streams);
        run.started(1);
        let mut pipe = File::from(write_end);
        writeln!(pipe, "I am {n}").unwrap();
        runs.push((run, pipe));
    }
    for (n, (run, _pipe)) in runs.iter().enumerate() {
        assert_eq!(close(run), [format!("I am {n}")]);
    }
    let house = house.end().0;
    for n in 0..200 {
        assert_eq!(house.text(&format!("p{n}.log")).lines().count(), 3);
    }
}
