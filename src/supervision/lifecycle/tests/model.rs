//! A model of the world around one lifecycle: files that are missing, execs that fail, processes that die, ignore
//! signals and leave others behind, facts that come late or twice; and commands in between.
//!
//! Invariants that are held against every step: never two runs that live, no signal after the end is known, the wish is
//! that of the last command. And when the faults end: up when wished up, nothing left when wished down.

use super::*;
use crate::policy::{ClassPolicy, FailureClass};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const FOREVER_MS: u64 = 1_000 * 3_600 * 24 * 365;

#[derive(Debug, Clone, Copy)]
enum Look {
    Ready,
    Blocked,
    Foreign,
}

#[derive(Debug, Clone, Copy)]
enum Exec {
    Works,
    Busy,
    Missing,
    Fails,
}

/// What becomes of one try.
#[derive(Debug, Clone)]
struct Fate {
    look: Look,
    exec: Exec,
    /// How long each fact travels.
    latency_ms: u64,
    lives_ms: u64,
    status: ExitStatus,
    /// How long after the stop signal it ends; none = it ignores it.
    obeys_ms: Option<u64>,
    /// Whether others of its tree outlive it until they are signalled or killed.
    leaves_others: bool,
    /// When it says that it is ready, for [`ReadyRule::Told`].
    ready_ms: u64,
    /// Whether facts come twice.
    stutters: bool,
}

impl Fate {
    fn good() -> Self {
        Fate {
            look: Look::Ready,
            exec: Exec::Works,
            latency_ms: 1,
            lives_ms: FOREVER_MS,
            status: ExitStatus::Code(0),
            obeys_ms: Some(3),
            leaves_others: false,
            ready_ms: 10,
            stutters: false,
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Command(Event),
    Blow(Blow),
    Wait(u64),
}

#[derive(Debug)]
struct Process {
    fate: Fate,
    main_lives: bool,
    tree_lives: bool,
}

/// What the world has in store.
#[derive(Debug, Clone)]
enum Coming {
    Fact(Event),
    MainDies(Run),
    OthersDie(Run),
}

struct World {
    life: Lifecycle,
    now: MonoTime,
    fates: Vec<Fate>,
    tries: usize,
    present: Fate,
    coming: BTreeMap<(MonoTime, u64), Coming>,
    counter: u64,
    processes: BTreeMap<Run, Process>,
    spawning: Option<Run>,
    known_ended: BTreeSet<Run>,
    wish: Wish,
    /// Whether it feeds its watchdog in time.
    fed: bool,
}

impl World {
    fn new(rules: Rules, fates: Vec<Fate>) -> Self {
        World {
            life: Lifecycle::new(rules, Run(0), 7),
            now: at(0),
            fates,
            tries: 0,
            present: Fate::good(),
            coming: BTreeMap::new(),
            counter: 0,
            processes: BTreeMap::new(),
            spawning: None,
            known_ended: BTreeSet::new(),
            wish: Wish::Down,
            fed: false,
        }
    }

    fn live(&self) -> usize {
        self.processes.values().filter(|p| p.tree_lives).count()
    }

    fn later(&mut self, ms: u64, coming: Coming) {
        self.counter += 1;
        let due = self.now.after(Duration::from_millis(ms));
        self.coming.insert((due, self.counter), coming);
    }

    fn fact(&mut self, fate: &Fate, ms: u64, event: Event) {
        let latency = ms.saturating_add(fate.latency_ms);
        self.later(latency, Coming::Fact(event.clone()));
        if fate.stutters {
            self.later(latency + 5, Coming::Fact(event));
        }
    }

    fn step(&mut self, event: Event) -> Answer {
        if let Event::TreeEnded { run, .. } = &event {
            self.known_ended.insert(*run);
        }
        let step = checked_step(&mut self.life, self.now, event);
        for effect in step.effects {
            self.perform(effect);
        }
        step.answer
    }

    fn command(&mut self, event: Event) {
        let wished = if matches!(event, Event::Stop(_) | Event::KillNow) {
            Wish::Down
        } else if event == Event::Outdated {
            // Other settings are nobody's wish.
            self.wish
        } else {
            Wish::Up
        };
        let denied = matches!(self.step(event), Answer::Denied(_));
        // A stop that nothing can be done about is remembered all the same; a start is not.
        if !(denied && wished == Wish::Up) {
            self.wish = wished;
        }
        assert_eq!(self.life.wish(), self.wish);
    }

    fn blow(&mut self, blow: Blow) {
        let run = self.life.run();
        self.step(match blow {
            Blow::Watchdog => Event::WatchdogTripped { run },
            Blow::Limit => Event::LimitExceeded {
                run,
                text: "memory".to_owned(),
            },
            Blow::Dependency => Event::DependencyLost {
                on: PluginId::new("other").unwrap(),
            },
            Blow::Extend(ms) => Event::Extend {
                run,
                by: Duration::from_millis(ms),
            },
            Blow::Alive => Event::Alive { run },
            Blow::BusLost => Event::BusLost,
            Blow::BusBack => Event::BusBack,
            Blow::CauseGone => Event::CauseGone,
        });
        assert_eq!(self.life.wish(), self.wish);
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Prepare(ticket) => self.prepare(ticket),
            Effect::Spawn(run) => self.spawn(run),
            Effect::SignalTree(run) => {
                assert!(!self.known_ended.contains(&run), "signalled after its end");
                let process = &self.processes[&run];
                if let Some(ms) = process.fate.obeys_ms {
                    self.later(ms, Coming::MainDies(run));
                    self.later(ms + 1, Coming::OthersDie(run));
                }
            }
            Effect::KillTree(run) => {
                assert!(!self.known_ended.contains(&run), "killed after its end");
                self.later(1, Coming::MainDies(run));
                self.later(1, Coming::OthersDie(run));
            }
            Effect::ReportStarted { .. } | Effect::ReportEnded { .. } => {}
        }
    }

    fn prepare(&mut self, ticket: Ticket) {
        let fate = match self.fates.as_slice() {
            [] => Fate::good(),
            fates => fates[self.tries % fates.len()].clone(),
        };
        self.tries += 1;
        self.present = fate.clone();
        match fate.look {
            Look::Ready => self.fact(&fate, 0, Event::Prepared(ticket)),
            Look::Blocked => {
                let reason = BlockReason::Credentials("none".to_owned());
                self.fact(&fate, 0, Event::PrepareFailed(ticket, reason));
            }
            Look::Foreign => {
                let pid = i32::try_from(self.tries).unwrap();
                self.fact(&fate, 0, Event::ForeignFound { pid });
                self.fact(&fate, 2_000, Event::ForeignGone { pid });
            }
        }
    }

    fn spawn(&mut self, run: Run) {
        assert_eq!(self.live(), 0, "a run begins while another lives");
        assert_eq!(self.spawning, None, "two spawns at once");
        assert!(
            !self.processes.contains_key(&run),
            "a number was used again"
        );
        let fate = self.present.clone();
        let text = || "no".to_owned();
        let failure = match fate.exec {
            Exec::Works => None,
            Exec::Busy => Some(SpawnFailure::Busy(text())),
            Exec::Missing => Some(SpawnFailure::Missing(text())),
            Exec::Fails => Some(SpawnFailure::Failed(text())),
        };
        self.spawning = Some(run);
        match failure {
            Some(failure) => self.fact(&fate, 0, Event::SpawnFailed { run, failure }),
            None => {
                let process = Process {
                    fate: fate.clone(),
                    main_lives: true,
                    tree_lives: true,
                };
                self.processes.insert(run, process);
                self.fact(&fate, 0, Event::Spawned { run, pid: 1 });
                self.fact(&fate, fate.ready_ms, Event::Ready { run });
                // Its end is told only after its begin.
                self.later(fate.lives_ms + 10, Coming::MainDies(run));
            }
        }
    }

    fn main_dies(&mut self, run: Run) {
        let process = self.processes.get_mut(&run).unwrap();
        if !std::mem::replace(&mut process.main_lives, false) {
            return;
        }
        let (fate, status) = (process.fate.clone(), process.fate.status);
        if fate.leaves_others {
            self.fact(&fate, 0, Event::MainEnded { run, status });
        } else {
            process.tree_lives = false;
            self.fact(&fate, 0, Event::TreeEnded { run, status });
        }
    }

    fn others_die(&mut self, run: Run) {
        let process = self.processes.get_mut(&run).unwrap();
        if process.main_lives {
            process.fate.leaves_others = false;
        } else if std::mem::replace(&mut process.tree_lives, false) {
            let (fate, status) = (process.fate.clone(), process.fate.status);
            self.fact(&fate, 0, Event::TreeEnded { run, status });
        }
    }

    /// Lets time go by, from one thing to the next.
    fn wait(&mut self, ms: u64) {
        let end = self.now.after(Duration::from_millis(ms));
        for n in 0.. {
            assert!(n < 50_000, "it is tried again and again without pause");
            let coming = self.coming.first_key_value().map(|((due, _), _)| *due);
            let tick = self.life.next_deadline();
            let Some(next) = [coming, tick]
                .into_iter()
                .flatten()
                .min()
                .filter(|at| *at <= end)
            else {
                break;
            };
            self.now = self.now.max(next);
            if coming.is_some_and(|due| due <= next) {
                let (_, coming) = self.coming.pop_first().unwrap();
                match coming {
                    Coming::Fact(event) => {
                        if matches!(event, Event::Spawned { .. } | Event::SpawnFailed { .. }) {
                            self.spawning = None;
                        }
                        self.step(event);
                    }
                    Coming::MainDies(run) => self.main_dies(run),
                    Coming::OthersDie(run) => self.others_die(run),
                }
            } else {
                if self.fed {
                    let run = self.life.run();
                    self.step(Event::Alive { run });
                }
                self.step(Event::Tick);
            }
            assert_eq!(self.life.wish(), self.wish, "the wish changed by itself");
            assert!(self.live() <= 1, "two runs live");
        }
        self.now = end;
    }

    fn check_end(&self) {
        match self.wish {
            Wish::Up => {
                assert_eq!(
                    self.life.phase().name(),
                    PhaseName::Running,
                    "{:#?}",
                    self.life
                );
                assert_eq!(self.live(), 1);
            }
            Wish::Down => {
                assert_eq!(
                    self.life.phase().name(),
                    PhaseName::Stopped,
                    "{:#?}",
                    self.life
                );
                assert_eq!(self.live(), 0);
            }
        }
    }
}

fn status() -> impl Strategy<Value = ExitStatus> {
    prop_oneof![
        Just(ExitStatus::Code(0)),
        Just(ExitStatus::Code(1)),
        Just(KILLED),
        Just(ExitStatus::Unknown)
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    let look =
        prop_oneof![4 => Just(Look::Ready), 1 => Just(Look::Blocked), 1 => Just(Look::Foreign)];
    let exec = prop_oneof![
        6 => Just(Exec::Works),
        1 => Just(Exec::Busy),
        1 => Just(Exec::Missing),
        1 => Just(Exec::Fails)
    ];
    let lives = prop_oneof![0..300_u64, 300..90_000_u64, Just(FOREVER_MS)];
    let obeys = prop_oneof![2 => (0..7_000_u64).prop_map(Some), 1 => Just(None)];
    let ready = prop_oneof![0..200_u64, Just(FOREVER_MS)];
    (
        (look, exec, 0..10_u64, lives),
        (status(), obeys, any::<bool>(), ready, any::<bool>()),
    )
        .prop_map(
            |(
                (look, exec, latency_ms, lives_ms),
                (status, obeys_ms, leaves_others, ready_ms, stutters),
            )| Fate {
                look,
                exec,
                latency_ms,
                lives_ms,
                status,
                obeys_ms,
                leaves_others,
                ready_ms,
                stutters,
            },
        )
}

fn op() -> impl Strategy<Value = Op> {
    let command = prop_oneof![
        4 => Just(Event::Start),
        3 => Just(Event::Stop(StopCause::ByHand)),
        1 => Just(Event::Stop(StopCause::All)),
        1 => Just(Event::Outdated),
        2 => Just(Event::Restart),
        1 => Just(Event::KillNow),
    ];
    prop_oneof![
        3 => command.prop_map(Op::Command),
        2 => blow().prop_map(Op::Blow),
        2 => (0..20_u64).prop_map(Op::Wait),
        2 => (20..3_000_u64).prop_map(Op::Wait),
        1 => (3_000..200_000_u64).prop_map(Op::Wait),
    ]
}

/// What hits a run that lives, whichever it is by then.
#[derive(Debug, Clone, Copy)]
enum Blow {
    Watchdog,
    Limit,
    Dependency,
    Extend(u64),
    Alive,
    BusLost,
    BusBack,
    CauseGone,
}

fn blow() -> impl Strategy<Value = Blow> {
    prop_oneof![
        Just(Blow::Watchdog),
        Just(Blow::Limit),
        Just(Blow::Dependency),
        (0..100_000_u64).prop_map(Blow::Extend),
        Just(Blow::Alive),
        Just(Blow::BusLost),
        Just(Blow::BusBack),
        Just(Blow::CauseGone),
    ]
}

fn rules() -> impl Strategy<Value = Rules> {
    let by_bus = Rules {
        ready: ReadyRule::ToldByBus,
        ..steady()
    };
    let mut watched = Rules {
        watchdog: Some(Duration::from_secs(20)),
        ..told()
    };
    let follows = ClassPolicy {
        mode: Some(RestartMode::Always),
        ..ClassPolicy::default()
    };
    let classes = &mut watched.restart.classes;
    classes.insert(FailureClass::DependencyLost, follows);
    prop_oneof![
        Just(steady()),
        Just(told()),
        Just(by_bus),
        Just(watched),
        Just(Rules::default())
    ]
}

/// The shapes a failed start or short run can have.
#[derive(Debug, Clone, Copy)]
enum Short {
    ExecFails,
    Early(ExitStatus),
    Ends(ExitStatus, u64),
    EndsAndLeavesOthers(ExitStatus, u64),
    NeverReady,
}

fn short() -> impl Strategy<Value = Short> {
    prop_oneof![
        Just(Short::ExecFails),
        status().prop_map(Short::Early),
        (status(), 0..59_000_u64).prop_map(|(status, ms)| Short::Ends(status, ms)),
        (status(), 0..59_000_u64).prop_map(|(status, ms)| Short::EndsAndLeavesOthers(status, ms)),
        Just(Short::NeverReady),
    ]
}

fn fail(life: &mut Lifecycle, now: MonoTime, shape: Short) -> MonoTime {
    if let Short::ExecFails = shape {
        prepared(life, now);
        let (run, failure) = (life.run, SpawnFailure::Failed("no".to_owned()));
        checked_step(life, now, Event::SpawnFailed { run, failure });
        return now;
    }
    let run = bring_up(life, now);
    let ready = |life: &mut Lifecycle| checked_step(life, now, Event::Ready { run });
    let (then, status) = match shape {
        Short::Early(status) => (now, status),
        Short::Ends(status, ms) => {
            ready(life);
            (now.after(Duration::from_millis(ms)), status)
        }
        Short::EndsAndLeavesOthers(status, ms) => {
            ready(life);
            let then = now.after(Duration::from_millis(ms));
            checked_step(life, then, Event::MainEnded { run, status });
            // However long the others hang on: the run itself was short.
            (then.after(Duration::from_secs(100)), status)
        }
        Short::NeverReady => {
            let then = life.next_deadline().unwrap();
            checked_step(life, then, Event::Tick);
            (then, KILLED)
        }
        Short::ExecFails => unreachable!(),
    };
    checked_step(life, then, Event::TreeEnded { run, status });
    then
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_the_last_command_is_followed(
        rules in rules(),
        fates in prop::collection::vec(fate(), 1..6),
        ops in prop::collection::vec(op(), 1..40),
    ) {
        let mut world = World::new(rules, fates);
        for op in ops {
            match op {
                Op::Command(event) => world.command(event),
                Op::Blow(blow) => world.blow(blow),
                Op::Wait(ms) => world.wait(ms),
            }
        }
        world.fates = Vec::new();
        world.blow(Blow::BusBack);
        // Whatever is watched is fed from now on, and what was told before it was stopped is told again.
        world.fed = true;
        world.wait(3 * 3_600_000);
        world.check_end();
    }

    #[test]
    fn a_stop_in_the_midst_of_anything_leaves_nothing(
        rules in rules(),
        fates in prop::collection::vec(fate(), 1..4),
        before in 0..100_000_u64,
        by in prop_oneof![Just(Event::Stop(StopCause::Shutdown)), Just(Event::KillNow)],
    ) {
        let mut world = World::new(rules, fates);
        world.command(Event::Start);
        world.wait(before);
        world.command(by);
        // Grace of 5 s, a few rounds of SIGKILL, facts that travel.
        world.wait(10_000);
        prop_assert_eq!(world.live(), 0);
        world.check_end();
    }

    #[test]
    fn the_delay_grows_under_every_shape_of_short_run(shapes in prop::collection::vec(short(), 1..20)) {
        let mut life = Lifecycle::new(told(), Run(0), 1);
        checked_step(&mut life, at(0), Event::Start);
        let mut now = at(0);
        for (n, shape) in shapes.iter().enumerate() {
            now = fail(&mut life, now, *shape);
            let delay = life.next_deadline().map_or(Duration::ZERO, |next| next.since(now));
            let exponent = u32::try_from(n).unwrap().checked_sub(1);
            // After an exec that failed nothing is tried at once.
            let first = u64::from(matches!(shape, Short::ExecFails));
            let expected = exponent.map_or(first, |exponent| 2_u64.saturating_pow(exponent)).min(3_600);
            prop_assert_eq!(delay, Duration::from_secs(expected), "after {:?}", &shapes[..=n]);
            now = now.after(delay);
            checked_step(&mut life, now, Event::Tick);
        }
        // A run that is long enough ends the row.
        let run = bring_up(&mut life, now);
        checked_step(&mut life, now, Event::Ready { run });
        now = now.after(Duration::from_secs(60));
        checked_step(&mut life, now, Event::TreeEnded { run, status: KILLED });
        prop_assert_eq!(life.phase().name(), PhaseName::Preparing);
    }
}
