//! Configurations that were cut off, go in circles or have no end: refused in time with their place, and what was in
//! force stays (spec §4, §17). Single mistakes are e2e's.

use crate::hub::{Home, Hub};
use crate::means::complaint;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const SLEEPER: &str = "exec sleep 1000";

const GOOD: &str = "logLevel: info\ncreatePluginCred: false\nautostart: [first, second]\n\
                    plugins:\n  second: {requires: [first]}\n";

/// hubcli waits for an answer for so long; these answers come far sooner, also on a slow machine.
const IN_TIME: Duration = Duration::from_secs(8);

/// What a launcher may have needed at most to read whatever it was given, in kB.
const MUCH: u64 = 150 * 1024;

struct Running {
    hub: Hub,
    pids: [i32; 2],
}

impl Running {
    fn begin() -> Running {
        let home = Home::new(GOOD);
        home.plugin("first", SLEEPER);
        home.plugin("second", SLEEPER);
        let hub = home.launch();
        let pids = ["first", "second"].map(|id| hub.pid(id));
        Running { hub, pids }
    }

    fn file(&self) -> PathBuf {
        self.hub.path("config/launcher.yaml")
    }

    /// A reload of it is refused with all these parts, in time, and nothing else happens.
    fn refuses(&self, what: &str, text: &[u8], parts: &[&str]) {
        fs::write(self.file(), text).unwrap();
        for args in [&["reload"][..], &["reload", "--dry-run"]] {
            let since = Instant::now();
            let output = self.hub.hubcli(args);
            let took = since.elapsed();
            let said = complaint(&output);
            assert_eq!(output.status.code(), Some(1), "{what}: {said}");
            for part in parts.iter().copied().chain(["launcher.yaml"]) {
                assert!(said.contains(part), "{what}: no {part:?} in {said}");
            }
            assert!(
                said.len() < 20_000,
                "{what}: {} bytes are too much to read",
                said.len()
            );
            assert!(took < IN_TIME, "{what}: it took {took:?}");
        }
        assert_eq!(["first", "second"].map(|id| self.hub.pid(id)), self.pids);
        // A launcher that begins with it says the same, and begins nothing.
        let since = Instant::now();
        let output = self.hub.home.say(&["--check"]);
        assert_eq!(output.status.code(), Some(78), "{what}: {output:?}");
        assert!(since.elapsed() < IN_TIME, "{what}: {:?}", since.elapsed());
    }

    fn memory_was_bounded(&self) {
        let status = format!("/proc/{}/status", self.hub.launcher_pid());
        let status = fs::read_to_string(status).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.unwrap().trim().trim_end_matches(" kB");
        assert!(peak.parse::<u64>().unwrap() < MUCH, "{peak} kB");
    }

    /// And the file is followed again when it is good.
    fn end(self) {
        let good = format!("{GOOD}  first: {{env: {{A: b}}}}\n");
        fs::write(self.file(), good).unwrap();
        let said = self.hub.ok(&["reload"]);
        assert!(said.contains("first"), "{said}");
        self.hub.pid("second");
        self.hub.down();
    }
}

#[test]
fn half_written_configuration_is_refused_wherever_it_was_cut() {
    let running = Running::begin();
    // Where the beginning is a whole document, too, it is one; everywhere else it is not.
    for cut in [
        "autostart: [first",
        "autostart: [first, second]\nplugins:\n  second: {requ",
        "auto",
    ] {
        let at = GOOD.find(cut).unwrap() + cut.len();
        running.refuses(cut, &GOOD.as_bytes()[..at], &["launcher.yaml:"]);
    }
    // As a copy to a disk that was full, or a machine that lost its power, leaves it.
    let mut zeroes = GOOD.as_bytes().to_vec();
    zeroes[20..].fill(0);
    running.refuses("zeroes", &zeroes, &["launcher.yaml:"]);
    running.end();
}

#[test]
fn cyclic_configuration_is_refused_and_the_circle_shown() {
    let running = Running::begin();
    let circle = "plugins:\n  first: {requires: [second]}\n  second: {requires: [third]}\n  third: {requires: [first]}\n";
    running.refuses(
        "a circle of plugins",
        circle.as_bytes(),
        &["first", "second", "third", "launcher.yaml:", "->"],
    );
    let alone = "plugins:\n  first: {requires: [first]}\n";
    running.refuses(
        "a circle of one",
        alone.as_bytes(),
        &["first", "launcher.yaml:2:"],
    );
    let alias = "plugins: &all\n  first: *all\n";
    running.refuses("a circle of aliases", alias.as_bytes(), &["launcher.yaml:"]);
    running.end();
}

#[test]
fn huge_configuration_is_refused_in_time_and_within_bounds_of_memory() {
    let running = Running::begin();
    let size = 10 * 1024 * 1024;
    let filled = |piece: &str| piece.repeat(size / piece.len());
    let keys = |count: usize| -> String { (0..count).map(|n| format!("k{n}: {n}\n")).collect() };
    let bomb: String = (1..12)
        .map(|n| {
            format!(
                "a{n}: &a{n} [{}]\n",
                vec![format!("*a{}", n - 1); 9].join(", ")
            )
        })
        .collect();
    let huge: [(&str, Vec<u8>); 8] = [
        (
            "ten megabytes of a comment",
            filled("# nothing\n").into_bytes(),
        ),
        (
            "ten megabytes of a word",
            format!("logLevel: {}", filled("x")).into_bytes(),
        ),
        ("ten megabytes of keys", keys(size / 16).into_bytes()),
        ("ten megabytes of zeroes", vec![0; size]),
        ("thousands of unknown keys", keys(20_000).into_bytes()),
        (
            "a bomb of aliases",
            format!("a0: &a0 x\n{bomb}").into_bytes(),
        ),
        ("endless nesting", "[".repeat(200_000).into_bytes()),
        (
            "endless nesting of maps",
            "{a: ".repeat(100_000).into_bytes(),
        ),
    ];
    for (what, text) in huge {
        running.refuses(what, &text, &[]);
    }
    running.memory_was_bounded();
    running.end();
}

#[test]
fn a_configuration_without_end_or_that_is_no_file_is_refused() {
    let running = Running::begin();
    let file = running.file();
    let refused = |what: &str| {
        let since = Instant::now();
        let output = running.hub.hubcli(&["reload"]);
        let said = complaint(&output);
        assert_eq!(output.status.code(), Some(1), "{what}: {said}");
        assert!(said.contains("launcher.yaml"), "{what}: {said}");
        assert!(since.elapsed() < IN_TIME, "{what}");
        fs::remove_file(&file)
            .or_else(|_| fs::remove_dir(&file))
            .unwrap();
    };
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
    refused("a device without end");
    fs::create_dir(&file).unwrap();
    refused("a folder");
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    refused("a pipe that nobody writes to");
    std::os::unix::fs::symlink("launcher.yaml", &file).unwrap();
    refused("a link to itself");
    assert_eq!(
        ["first", "second"].map(|id| running.hub.pid(id)),
        running.pids
    );
    running.end();
}
