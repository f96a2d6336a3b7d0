//! The model based test on real processes: commands, reloads and faults at random, many a second, against what must be.
//!
//! Each process of a plugin holds the plugin's lock for as long as it lives, so a second run of one betrays itself, and so
//! does one that is told of as stopped. Checked as well: every request is answered, what was stopped stays so (also over a
//! launcher that is killed), the last command counts, and nothing is left.
//!
//! Invariant: the choices follow from a seed, which a failure shows; when the machine keeps time alike, so does the run.

use crate::chance::Chance;
use crate::hub::{Home, Hub, PATIENCE, eventually, signal_pid};
use serde_json::Value;
use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Those that are commanded.
const IDS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// Those that only the file says something of.
const FILED: [&str; 2] = ["x", "y"];

/// Blows in a round; the commands go on as long.
const BLOWS: usize = 60;

/// So much of what happened is told of a plugin.
const TRACE: usize = 30;

/// What an answer may take: 8 s by the protocol, and some for a busy machine.
const ANSWERED: Duration = Duration::from_secs(20);

const STOP: i32 = 19;
const CONT: i32 = 18;
const HUP: i32 = 1;

/// Behaves as its mode says, which is another one now and then.
const SCRIPT: &str = r#"
id=$(basename "$0")
exec 9>>"$HIVEOT_HOME/$id.lock"
flock -n -E 77 9
case $? in
0) ;;
77) echo "$id: $HIVEOT_RUN" >>"$HIVEOT_HOME/doubled"; exit 77 ;;
*) exit 1 ;; # It was killed itself.
esac
case $(cat "$HIVEOT_HOME/$id.mode") in
deaf) trap '' TERM; while :; do sleep 0.3; done ;;
family) setsid sleep 1000 & sleep 1000 & wait ;;
orphan) (setsid sleep 1000 &) ; sleep 0.2 ;;
brief) sleep 0.15; exit 3 ;;
*) exec sleep 1000 ;;
esac
"#;

const MODES: [&str; 7] = [
    "plain", "plain", "plain", "deaf", "family", "orphan", "brief",
];

/// What is wished of a plugin, as far as it is known; none = a command for it is under way.
type Wish = Mutex<Option<bool>>;

struct Round {
    home: PathBuf,
    seed: u64,
    began: Instant,
    over: AtomicBool,
    commands: AtomicU64,
    blows: AtomicU64,
    traces: [Mutex<VecDeque<String>>; IDS.len()],
    wishes: [Wish; IDS.len()],
}

/// One line to a launcher's socket and its answer; none when there is no launcher, or no longer.
fn ask(home: &Path, line: &str) -> Option<Value> {
    let mut stream = UnixStream::connect(home.join("run/launcher.sock")).ok()?;
    stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
    stream.write_all(line.as_bytes()).ok()?;
    stream.write_all(b"\n").ok()?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).ok()?;
    serde_json::from_str(&answer).ok()
}

fn list(home: &Path) -> Option<Vec<Value>> {
    let answer = ask(home, r#"{"method":"list"}"#)?;
    answer["result"]["info"].as_array().cloned()
}

/// Whether nobody of a plugin lives. Its lock is not tried for that, as a run that begins would meet it.
fn is_free(home: &Path, id: &str) -> bool {
    let Ok(file) = fs::metadata(home.join(format!("{id}.lock"))) else {
        return true;
    };
    let inode = format!(":{} ", file.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    !locks
        .lines()
        .any(|line| line.contains("FLOCK") && line.contains(&inode))
}

impl Round {
    fn note(&self, of: usize, text: String) {
        let at = self.began.elapsed().as_millis();
        let mut trace = self.traces[of].lock().unwrap();
        if trace.len() == TRACE {
            trace.pop_front();
        }
        trace.push_back(format!("{at:>7} {text}"));
    }

    fn told(&self, of: usize) -> String {
        let trace = self.traces[of].lock().unwrap();
        let lines: Vec<_> = trace.iter().map(String::as_str).collect();
        format!(
            "MODEL_SEED={}: {}:\n{}",
            self.seed,
            IDS[of],
            lines.join("\n")
        )
    }

    /// Gives a command until it is taken; returns the phase it led to.
    fn command(&self, of: usize, method: &str, more: &str) -> String {
        let id = IDS[of];
        let line = format!(r#"{{"method":"{method}","args":{{"name":"{id}"{more}}}}}"#);
        let until = Instant::now() + PATIENCE;
        loop {
            let began = Instant::now();
            let answer = ask(&self.home, &line);
            let took = began.elapsed();
            self.commands.fetch_add(1, Ordering::Relaxed);
            self.note(
                of,
                format!("{line} took {took:?}: {}", summary(answer.as_ref())),
            );
            assert!(took < ANSWERED, "{line} took {took:?}; {}", self.told(of));
            if let Some(answer) = answer {
                let error = answer["error"].as_str().unwrap_or_default();
                let again = [
                    "at the moment",
                    "is stopping",
                    "busy",
                    "not found",
                    "already exists",
                ];
                if !again.iter().any(|text| error.contains(text)) {
                    return answer["result"]["info"]["Phase"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned();
                }
            }
            assert!(
                Instant::now() < until,
                "nobody takes {line}; {}",
                self.told(of)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Commands one plugin until the round is over, then for the last time.
    fn drive(&self, of: usize) {
        let mut chance = Chance::new(self.seed.wrapping_add(of as u64 + 1));
        while !self.over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(chance.next() % 40));
            match chance.below(10) {
                0..=2 => drop(self.start(of, "startPlugin", "")),
                3..=5 => self.stop(of, Duration::from_millis(chance.next() % 80)),
                6 => drop(self.start(of, "restartPlugin", "")),
                7 => drop(self.start(of, "startPlugin", r#","once":true"#)),
                8 => drop(self.command(of, "enablePlugin", "")),
                _ => fs::write(
                    self.home.join(format!("{}.mode", IDS[of])),
                    chance.of(&MODES),
                )
                .unwrap(),
            }
        }
        fs::write(self.home.join(format!("{}.mode", IDS[of])), "plain").unwrap();
        if chance.once_in(2) {
            self.stop(of, Duration::ZERO);
            *self.wishes[of].lock().unwrap() = Some(false);
        } else {
            self.start(of, "startPlugin", "");
            *self.wishes[of].lock().unwrap() = Some(true);
        }
    }

    fn start(&self, of: usize, method: &str, more: &str) -> String {
        self.command(of, method, more)
    }

    /// Stops a plugin; what is told of as stopped has nobody left, and stays so for a while.
    fn stop(&self, of: usize, watched: Duration) {
        let phase = self.command(of, "stopPlugin", "");
        if phase != "stopped" {
            return;
        }
        let id = IDS[of];
        assert!(
            is_free(&self.home, id),
            "{id} is told of as stopped, and lives; {}",
            self.told(of)
        );
        std::thread::sleep(watched);
        assert!(
            is_free(&self.home, id),
            "{id} was stopped and is back; {}",
            self.told(of)
        );
    }
}

fn summary(answer: Option<&Value>) -> String {
    match answer {
        None => "nobody answers".to_owned(),
        Some(answer) if answer["error"].is_string() => answer["error"].to_string(),
        Some(answer) => {
            let info = &answer["result"]["info"];
            format!("{} pid {} run {}", info["Phase"], info["PID"], info["Run"])
        }
    }
}

fn config(chance: &mut Chance, listed: [bool; FILED.len()]) -> String {
    let filed = FILED.iter().zip(listed).filter(|(_, is)| *is);
    let autostart: Vec<&str> = filed.map(|(id, _)| *id).collect();
    let mut text = format!(
        "corebin: mqttcore\ncreatePluginCred: false\nautostart: [{}]\n\
         restart: {{delay: 50ms, maxDelay: 300ms}}\nstop: {{grace: 300ms}}\nplugins:\n  z: {{}}\n",
        autostart.join(", ")
    );
    for id in IDS.iter().chain(&FILED) {
        match chance.below(4) {
            0 => {}
            1 => text.push_str(&format!("  {id}: {{args: [\"{}\"]}}\n", chance.below(3))),
            2 => text.push_str(&format!(
                "  {id}: {{stop: {{grace: {}ms}}}}\n",
                100 + chance.below(4) * 100
            )),
            _ => text.push_str(&format!(
                "  {id}: {{env: {{N: \"{}\"}}}}\n",
                chance.below(3)
            )),
        }
    }
    text
}

/// Writes the file as an editor would.
fn write_config(home: &Path, text: &str) {
    let part = home.join("config/.launcher.yaml.part");
    fs::write(&part, text).unwrap();
    fs::rename(part, home.join("config/launcher.yaml")).unwrap();
}

/// What happens to the hub from outside; returns what the file says last of those that only it says something of.
fn blows(hub: &mut Hub, round: &Round, chance: &mut Chance) -> [bool; FILED.len()] {
    let mut listed = [true, false];
    let mut frozen = Vec::new();
    for _ in 0..BLOWS {
        // Not a wait for something: the moment of the next blow is to be any.
        std::thread::sleep(Duration::from_millis(20 + chance.next() % 250));
        round.blows.fetch_add(1, Ordering::Relaxed);
        match chance.below(16) {
            0 => {
                hub.signal_launcher(9);
                hub.ended();
                hub.relaunch_unseen();
            }
            1 if chance.once_in(3) => {
                hub.signal_launcher(15);
                hub.ended();
                hub.relaunch_unseen();
            }
            1..=4 => {
                for is in &mut listed {
                    *is = chance.once_in(2);
                }
                write_config(&round.home, &config(chance, listed));
                reload(hub, &round.home);
            }
            5 => {
                write_config(&round.home, "autostart: {nonsense");
                reload(hub, &round.home);
                write_config(&round.home, &config(chance, listed));
                reload(hub, &round.home);
            }
            6..=7 => {
                let victims = hub.processes();
                if let Some(victim) = victims.get(chance.below(victims.len())) {
                    signal_pid(*victim, STOP);
                    frozen.push(*victim);
                }
            }
            _ => {
                let victims = hub.processes();
                for _ in 0..=chance.below(2) {
                    if let Some(victim) = victims.get(chance.below(victims.len())) {
                        signal_pid(*victim, 9);
                    }
                }
            }
        }
        if chance.once_in(4) {
            thaw(hub, &mut frozen);
        }
    }
    thaw(hub, &mut frozen);
    // Whatever of it was lost with a launcher: the last word of the file.
    write_config(&round.home, &config(chance, listed));
    reload(hub, &round.home);
    listed
}

/// Only those that are the hub's still: numbers are used again.
fn thaw(hub: &Hub, frozen: &mut Vec<i32>) {
    let live = hub.processes();
    for pid in frozen.drain(..).filter(|pid| live.contains(pid)) {
        signal_pid(pid, CONT);
    }
}

/// As systemd would: to a launcher that is ready for it.
fn reload(hub: &Hub, home: &Path) {
    eventually(&format!("the launcher answers\n{}", hub.account()), || {
        list(home)
    });
    hub.signal_launcher(HUP);
}

fn settled(hub: &Hub, round: &Round, listed: [bool; FILED.len()]) {
    let up = |of: usize| round.wishes[of].lock().unwrap().unwrap();
    let commanded = IDS.iter().enumerate().map(|(of, id)| (*id, up(of)));
    let expected: Vec<(&str, bool)> = commanded.chain(FILED.into_iter().zip(listed)).collect();
    let wrong = || {
        let Some(list) = list(&round.home) else {
            return vec!["the launcher does not answer".to_owned()];
        };
        let wrong = expected.iter().filter_map(|(id, up)| {
            let info = list.iter().find(|info| info["Name"] == *id);
            let phase = info.map_or("none", |info| info["Phase"].as_str().unwrap_or("none"));
            let right = if *up { "running" } else { "stopped" };
            let is_right = phase == right && is_free(&round.home, id) != *up;
            (!is_right).then(|| format!("{id} should be {right} and is {phase}"))
        });
        wrong.collect()
    };
    let until = Instant::now() + PATIENCE;
    loop {
        let wrong = wrong();
        if wrong.is_empty() {
            return;
        }
        if Instant::now() > until {
            let of = |id: &str| {
                IDS.iter()
                    .position(|one| wrong[0].starts_with(one) && id == *one)
            };
            let trace = IDS.iter().find_map(|id| of(id)).map(|of| round.told(of));
            panic!(
                "MODEL_SEED={}: {wrong:?}\n{}\n{}",
                round.seed,
                trace.unwrap_or_default(),
                hub.account()
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ends the commands, also when something goes wrong.
struct Over<'round>(&'round AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Commands and blows of one round.
fn run(seed: u64) -> (u64, Duration) {
    let mut chance = Chance::new(seed);
    let home = Home::new(&config(&mut chance, [true, false]));
    for id in IDS.iter().chain(&FILED) {
        home.plugin(id, SCRIPT);
        fs::write(home.path(format!("{id}.mode")), "plain").unwrap();
    }
    let mut hub = home.up();
    let round = Round {
        home: hub.path(""),
        seed,
        began: Instant::now(),
        over: AtomicBool::new(false),
        commands: AtomicU64::new(0),
        blows: AtomicU64::new(0),
        traces: Default::default(),
        wishes: Default::default(),
    };
    let listed = std::thread::scope(|scope| {
        for of in 0..IDS.len() {
            let round = &round;
            scope.spawn(move || round.drive(of));
        }
        let _over = Over(&round.over);
        blows(&mut hub, &round, &mut chance)
    });
    let operations = round.commands.load(Ordering::Relaxed) + round.blows.load(Ordering::Relaxed);
    let took = round.began.elapsed();
    settled(&hub, &round, listed);
    hub.pid("mqttcore");
    let doubled = fs::read_to_string(round.home.join("doubled")).unwrap_or_default();
    assert!(
        doubled.is_empty(),
        "MODEL_SEED={seed}: two runs at once: {doubled}\n{}",
        hub.account()
    );
    hub.down();
    (operations, took)
}

#[test]
fn whatever_is_asked_and_killed_the_last_command_counts() {
    let first = Chance::seed("MODEL_SEED");
    for seed in (0..number("MODEL_REAL_ROUNDS").unwrap_or(1)).map(|n| first.wrapping_add(n)) {
        let (operations, took) = run(seed);
        println!(
            "MODEL_SEED={seed}: {operations} operations in {took:?}: {:.0} a second",
            operations as f64 / took.as_secs_f64()
        );
    }
}
