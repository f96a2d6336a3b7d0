//! The diagram of the lifecycle in README is drawn from the lifecycle itself.
//!
//! Every state that can be reached is stepped with every event; what changes the phase's name becomes an arrow. When
//! README lags behind, this test fails; `UPDATE_DIAGRAM=1 cargo test --test diagram` redraws it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;
use supervision::lifecycle::{
    BlockReason, Event, Lifecycle, Phase, PhaseName, ReadyRule, Rules, SpawnFailure, StopCause,
    Ticket,
};
use supervision::policy::{ClassPolicy, FailureClass, RestartMode};
use supervision::{ExitStatus, MonoTime, PluginId, Run};

const BEGIN: &str = "<!-- lifecycle:begin -->\n";
const END: &str = "<!-- lifecycle:end -->";

/// What an event is called in the diagram.
fn label(event: &Event, from: PhaseName, to: PhaseName) -> &'static str {
    match event {
        Event::Start => "start",
        Event::Stop(_) => "stop",
        Event::Restart => "restart",
        Event::KillNow => "kill now",
        Event::Prepared(_) => "all is there",
        Event::PrepareFailed(..) => "something is missing",
        Event::Spawned { .. } => "process is there",
        Event::SpawnFailed {
            failure: SpawnFailure::Busy(_) | SpawnFailure::Missing(_),
            ..
        } => "file busy or gone",
        Event::SpawnFailed { .. } => "exec failed",
        Event::Ready { .. } => "ready",
        Event::MainEnded { .. } => "main process ended",
        Event::TreeEnded { .. } => "tree gone",
        Event::CauseGone => "cause gone",
        Event::Outdated => "settings changed",
        Event::ForeignFound { .. } => "foreign copy found",
        Event::ForeignGone { .. } => "foreign copy gone",
        Event::WatchdogTripped { .. } => "watchdog",
        Event::LimitExceeded { .. } => "limit exceeded",
        Event::DependencyLost { .. } => "required plugin lost",
        // These change no phase.
        Event::Alive { .. }
        | Event::Extend { .. }
        | Event::WatchdogSet { .. }
        | Event::BusLost
        | Event::BusBack => "",
        Event::Tick => match (from, to) {
            (PhaseName::Running, _) => "watchdog",
            (PhaseName::Starting, PhaseName::Running) => "has lived long enough",
            (PhaseName::Starting, _) => "not ready in time",
            (PhaseName::Stopping, _) => "grace is over",
            (_, _) => "time has come",
        },
    }
}

/// Every event that may be meant for this state.
fn events(life: &Lifecycle) -> Vec<Event> {
    let text = || "x".to_owned();
    let run = life.phase().live_run().unwrap_or(Run(0));
    let mut all = vec![
        Event::Start,
        Event::Stop(StopCause::ByHand),
        Event::Restart,
        Event::KillNow,
        Event::Spawned { run, pid: 1 },
        Event::Ready { run },
        Event::Alive { run },
        Event::WatchdogSet {
            run,
            every: Duration::from_secs(1),
        },
        Event::WatchdogTripped { run },
        Event::LimitExceeded { run, text: text() },
        Event::BusLost,
        Event::BusBack,
        Event::DependencyLost {
            on: PluginId::new("other").unwrap(),
        },
        Event::CauseGone,
        Event::Outdated,
        Event::ForeignFound { pid: 2 },
        Event::ForeignGone { pid: 2 },
        Event::Tick,
    ];
    let ticket = match life.phase() {
        Phase::Preparing { ticket, .. } => *ticket,
        Phase::Stopped { .. }
        | Phase::Blocked { .. }
        | Phase::Spawning { .. }
        | Phase::Proving { .. }
        | Phase::Running { .. }
        | Phase::Stopping { .. }
        | Phase::Killing { .. }
        | Phase::Backoff { .. }
        | Phase::Foreign { .. } => Ticket::default(),
    };
    all.push(Event::Prepared(ticket));
    all.push(Event::PrepareFailed(
        ticket,
        BlockReason::Credentials(text()),
    ));
    for failure in [SpawnFailure::Busy(text()), SpawnFailure::Failed(text())] {
        all.push(Event::SpawnFailed { run, failure });
    }
    let status = ExitStatus::Code(1);
    all.push(Event::MainEnded { run, status });
    all.push(Event::TreeEnded { run, status });
    all
}

/// States that differ in numbers and times only are one.
fn key(life: &Lifecycle) -> String {
    let digits = |c: char| c.is_ascii_digit();
    format!(
        "{:?} {:?} {}",
        life.phase(),
        life.wish(),
        life.restarts() > 0
    )
    .replace(digits, "")
}

type Arrows = BTreeMap<(PhaseName, PhaseName), BTreeSet<&'static str>>;

fn explore(rules: Rules, arrows: &mut Arrows) {
    let first = Lifecycle::new(rules, Run(0), 1);
    let mut seen = BTreeSet::from([key(&first)]);
    let mut open = VecDeque::from([first]);
    while let Some(before) = open.pop_front() {
        let now = before.next_deadline().unwrap_or(MonoTime::ORIGIN);
        for event in events(&before) {
            let mut life = before.clone();
            life.step(now, event.clone());
            let (from, to) = (before.phase().name(), life.phase().name());
            if from != to {
                arrows
                    .entry((from, to))
                    .or_default()
                    .insert(label(&event, from, to));
            }
            if seen.insert(key(&life)) {
                open.push_back(life);
            }
        }
    }
}

fn diagram() -> String {
    let mut arrows = Arrows::new();
    for mode in [RestartMode::Always, RestartMode::Never] {
        for ready in [
            ReadyRule::Lives(Duration::from_millis(100)),
            ReadyRule::Told,
        ] {
            let mut rules = Rules {
                ready,
                watchdog: Some(Duration::from_secs(30)),
                ..Rules::default()
            };
            rules.restart.mode = mode;
            let follows = ClassPolicy {
                mode: Some(mode),
                ..ClassPolicy::default()
            };
            let classes = &mut rules.restart.classes;
            classes.insert(FailureClass::DependencyLost, follows);
            explore(rules, &mut arrows);
        }
    }
    let mut text = "```mermaid\nstateDiagram-v2\n    [*] --> stopped\n".to_owned();
    for ((from, to), labels) in &arrows {
        let labels: Vec<&str> = labels.iter().copied().collect();
        writeln!(text, "    {from} --> {to}: {}", labels.join(" / ")).unwrap();
    }
    text + "```\n"
}

#[test]
fn readme_shows_the_lifecycle_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme
        .split_once(BEGIN)
        .expect("README has the begin marker");
    let (shown, after) = rest.split_once(END).expect("README has the end marker");
    let drawn = diagram();
    if std::env::var_os("UPDATE_DIAGRAM").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{drawn}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        shown, drawn,
        "README's diagram lags behind the lifecycle; redraw it: UPDATE_DIAGRAM=1 cargo test --test diagram"
    );
}

#[test]
fn the_diagram_reaches_every_phase() {
    let drawn = diagram();
    for name in [
        PhaseName::Stopped,
        PhaseName::Blocked,
        PhaseName::Preparing,
        PhaseName::Starting,
        PhaseName::Running,
        PhaseName::Stopping,
        PhaseName::Killing,
        PhaseName::Backoff,
        PhaseName::Foreign,
    ] {
        assert!(
            drawn.contains(&format!("--> {name}:")),
            "{name} is never reached:\n{drawn}"
        );
    }
    // No way leads past the end of the tree (T3).
    assert!(!drawn.contains("running --> stopped: stop"), "{drawn}");
    assert!(!drawn.contains("stopping --> running"), "{drawn}");
}
