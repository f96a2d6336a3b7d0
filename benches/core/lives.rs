//! Start, memory and end of a broker with clients; and what it costs when it has nothing to do.

use crate::brokers::{Broker, Brokers, Maker};
use crate::clock;
use crate::crowd::Crowd;
use crate::report::{Goal, Pairs, Report, Row, median, say};
use crate::usage::{Threads, Used, pss};
use anyhow::Result;
use std::time::Duration;

/// Until all that follows a login is done.
const SETTLE: Duration = Duration::from_millis(500);

/// Starts and ends both with so many clients, by turns.
pub fn measure(brokers: &Brokers, size: usize, rounds: usize, report: &mut Report) -> Result<()> {
    let [mut ready, mut memory, mut ends] = [Pairs::default(), Pairs::default(), Pairs::default()];
    for round in 0..rounds {
        say(&format!("{size} clients: start {} of {rounds}", round + 1));
        for maker in Maker::both(round) {
            let broker = brokers.start(maker)?;
            maker.of(&mut ready).push(broker.ready_after);
            let crowd = Crowd::gather(brokers, maker, size)?;
            clock::rest(SETTLE)?;
            maker.of(&mut memory).push(pss(broker.pid()?)?);
            maker.of(&mut ends).push(broker.stop()?);
            drop(crowd);
        }
    }
    let mut add = |measure, unit, pairs: &Pairs, goal| {
        report.add(Row {
            measure,
            unit,
            ours: median(&pairs.ours),
            bare: Some(median(&pairs.bare)),
            goal,
        });
    };
    if size == 0 {
        add("start to READY".to_owned(), "ms", &ready, Goal::None);
    }
    add(
        format!("PSS with {size} clients"),
        "MiB",
        &memory,
        Goal::None,
    );
    let goal = if size > 100 {
        Goal::None
    } else {
        Goal::Most(100.0)
    };
    add(
        format!("SIGTERM to the end, {size} clients"),
        "ms",
        &ends,
        goal,
    );
    Ok(())
}

/// Both at once, without and with clients.
pub fn idle(brokers: &Brokers, size: usize, seconds: u64, report: &mut Report) -> Result<()> {
    say(&format!("idle with {size} clients for {seconds} s"));
    let ours = brokers.start(Maker::Ours)?;
    let theirs = brokers.start(Maker::Mosquitto)?;
    let crowds = [
        Crowd::gather(brokers, Maker::Ours, size)?,
        Crowd::gather(brokers, Maker::Mosquitto, size)?,
    ];
    clock::rest(2 * SETTLE)?;
    let look = |broker: &Broker| Threads::of(broker.pid()?);
    let before = [look(&ours)?, look(&theirs)?];
    let begun = clock::now()?;
    clock::rest(Duration::from_secs(seconds))?;
    let time = clock::ms(begun, clock::now()?) / 1000.0;
    let used = [
        look(&ours)?.since(&before[0]),
        look(&theirs)?.since(&before[1]),
    ];
    let mut add = |what: &str, unit, of: fn(&Used) -> f64| {
        let [ours, theirs] = [0, 1].map(|at| of(&used[at]) / time);
        report.add(Row {
            measure: format!("idle with {size} clients: {what}"),
            unit,
            ours,
            bare: Some(theirs),
            goal: Goal::None,
        });
    };
    add("of one processor", "%", |used| used.processor * 100.0);
    add("wake-ups", "/s", |used| used.sleeps);
    ours.stop()?;
    theirs.stop()?;
    drop(crowds);
    Ok(())
}
