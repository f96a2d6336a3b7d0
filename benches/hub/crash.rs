//! Plugins that end as soon as they are started: how fast they are started again, what that costs, and how `list` fares
//! meanwhile.

use crate::bare::{self, Crashing};
use crate::clock;
use crate::home::{Home, Hub, Settings};
use crate::list;
use crate::report::{Goal, Report, Row, median, quantile, say};
use crate::stamps::{Program, Stamps};
use crate::usage::Threads;
use anyhow::{Context, Result};
use std::time::Duration;

/// Nothing waits.
const AT_ONCE: Settings<'static> = Settings {
    // The default: a line for each phase would be told apart from what a start costs.
    log_level: "warning",
    hub: "restart: {firstDelay: 0s, delay: 0s, maxDelay: 0s}",
    plugin: "args: [end]",
};

/// Nothing is set.
const BY_DEFAULT: Settings<'static> = Settings { hub: "", ..AT_ONCE };

/// One of these is asked at a time, with so long a pause.
const PAUSE: Duration = Duration::from_millis(20);

/// The default delays grow, so the time that is looked at is part of what is measured: seven starts of each fall into it.
const BACKOFF_SECONDS: u64 = 60;

/// Of the kernel's tables, on all machines of today.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a hub did in a time.
struct Watched {
    starts: f64,
    seconds: f64,
    /// Seconds of processor time of the launcher, of it and all it waited for, and of the core.
    launcher: f64,
    with_children: f64,
    core: f64,
    /// Of `list`.
    asked: list::Asked,
}

/// With delays 0, against a loop that spawns anew what has ended.
pub fn at_once(
    size: usize,
    program: &Program,
    (rounds, seconds): (usize, u64),
    report: &mut Report,
) -> Result<()> {
    let home = Home::new(size, program, AT_ONCE)?;
    let mut bare = Vec::new();
    let mut ours = Vec::new();
    for round in 0..rounds {
        say(&format!(
            "{size} plugins that end at once: {} of {rounds}",
            round + 1
        ));
        bare.push(bare::crash_loop(&home, seconds)?);
        let hub = home.launch()?;
        home.stamps().wait_for(2 * size)?;
        let meanwhile = watch(&hub, || {
            list::ask_for(&hub, Duration::from_secs(seconds), PAUSE)
        })?;
        ours.push((meanwhile, quiet(&hub)?));
        hub.stop_without_stamps()?;
    }
    let ours_of = |value: fn(&Watched) -> f64| {
        median(&ours.iter().map(|(all, _)| value(all)).collect::<Vec<_>>())
    };
    let bare_of = |value: fn(&Crashing) -> f64| median(&bare.iter().map(value).collect::<Vec<_>>());
    let mut add = |what: &str, unit, ours, bare, goal| {
        report.add(Row {
            measure: format!("crash loop of {size}, {what}"),
            unit,
            ours,
            bare,
            goal,
        });
    };
    let time = bare_of(|all| all.seconds / all.starts * 1000.0);
    add(
        "time a start",
        "ms",
        ours_of(|all| all.seconds / all.starts * 1000.0),
        Some(time),
        // 0.7 times the starts of the same time.
        Goal::Times(1.43),
    );
    let cost = bare_of(|all| all.processor / all.starts * 1000.0);
    add(
        "launcher's own CPU a start",
        "ms",
        ours_of(|all| all.launcher / all.starts * 1000.0),
        Some(cost),
        Goal::Times(3.0),
    );
    let cost = bare_of(|all| (all.processor + all.children) / all.starts * 1000.0);
    add(
        "CPU a start with what is started",
        "ms",
        ours_of(|all| all.with_children / all.starts * 1000.0),
        Some(cost),
        Goal::None,
    );
    add(
        "core's CPU a start",
        "ms",
        ours_of(|all| all.core / all.starts * 1000.0),
        None,
        Goal::None,
    );
    let asked = ours.into_iter().map(|(all, quiet)| (all.asked, quiet));
    report_list(&format!("crash loop of {size}"), asked, report);
    Ok(())
}

/// With the default delays, from the first start of all on.
pub fn by_default(size: usize, program: &Program, report: &mut Report) -> Result<()> {
    let seconds = BACKOFF_SECONDS;
    say(&format!(
        "{size} plugins that end at once, by default: for {seconds} s"
    ));
    let home = Home::new(size, program, BY_DEFAULT)?;
    // Questions have a price of their own, so they are put to another hub.
    let hub = home.launch()?;
    home.stamps().wait_for(size)?;
    let watched = watch(&hub, || {
        clock::rest(Duration::from_secs(seconds))?;
        Ok(list::Asked::default())
    })?;
    hub.stop_without_stamps()?;
    let hub = home.launch()?;
    home.stamps().wait_for(size)?;
    let asked = list::ask_for(&hub, Duration::from_secs(seconds / 3), PAUSE)?;
    let quiet = quiet(&hub)?;
    hub.stop_without_stamps()?;
    let label = format!("crash loop of {size}, default backoff");
    report.add(Row {
        measure: format!("{label}, launcher for {seconds} s"),
        unit: "%",
        ours: watched.launcher / watched.seconds * 100.0,
        bare: None,
        goal: Goal::Most(1.0),
    });
    report.add(Row {
        measure: format!("{label}, starts"),
        unit: "/s",
        ours: watched.starts / watched.seconds,
        bare: None,
        goal: Goal::None,
    });
    report_list(&label, std::iter::once((asked, quiet)), report);
    Ok(())
}

/// What happens while something is done.
fn watch(hub: &Hub<'_>, act: impl FnOnce() -> Result<list::Asked>) -> Result<Watched> {
    let (launcher, core) = (hub.pid()?, hub.core_pid()?);
    let stamps: &Stamps = hub.home.stamps();
    let before = (
        Threads::of(launcher)?,
        Threads::of(core)?,
        stamps.read()?.len(),
    );
    let waited_for = with_children(launcher)?;
    let begun = clock::now()?;
    let asked = act()?;
    let seconds = clock::ms(begun, clock::now()?) / 1000.0;
    let starts = stamps.read()?.len() - before.2;
    Ok(Watched {
        starts: f64::from(u32::try_from(starts)?),
        seconds,
        launcher: Threads::of(launcher)?.since(&before.0).processor,
        with_children: with_children(launcher)? - waited_for,
        core: Threads::of(core)?.since(&before.1).processor,
        asked,
    })
}

/// Seconds of processor time of a process and of the children it waited for.
fn with_children(pid: i32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("a stat without a name")?;
    // utime, stime, cutime and cstime are fields 14 to 17; this begins with the third.
    let times = fields.split(' ').skip(11).take(4);
    let ticks = times.map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS_PER_SECOND)
}

/// How `list` fares once all are stopped.
fn quiet(hub: &Hub<'_>) -> Result<list::Asked> {
    hub.hubcli(&["stop", "all"])?;
    clock::rest(Duration::from_secs(1))?;
    list::ask_for(hub, Duration::from_secs(3), PAUSE)
}

fn report_list(
    label: &str,
    asked: impl Iterator<Item = (list::Asked, list::Asked)>,
    report: &mut Report,
) {
    let (mut meanwhile, mut quiet) = (list::Asked::default(), list::Asked::default());
    for (one, other) in asked {
        meanwhile.add(one);
        quiet.add(other);
    }
    for (name, part, goal) in [("p50", 0.5, Goal::None), ("p99", 0.99, Goal::Times(3.0))] {
        report.add(Row {
            measure: format!("{label}, list {name}, baseline its quiet time"),
            unit: "ms",
            ours: quantile(&meanwhile.took, part),
            bare: Some(quantile(&quiet.took, part)),
            goal,
        });
    }
    report.add(Row {
        measure: format!("{label}, list unanswered"),
        unit: "",
        ours: meanwhile.unanswered,
        bare: None,
        goal: Goal::Most(0.0),
    });
}
