//! Stop of willing plugins.

use crate::home::Stopped;
use crate::report::{Goal, Report, Row, median};

/// By turns.
#[derive(Default)]
pub struct Stops {
    /// The hub's.
    pub ours: Vec<Stopped>,
    /// Milliseconds of a loop of kill, then of wait.
    pub bare: Vec<f64>,
}

/// Against loops of kill and of wait.
pub fn report(size: usize, label: &str, stops: &Stops, report: &mut Report) {
    let bare = Some(median(&stops.bare));
    let of = |time: fn(&Stopped) -> f64| median(&stops.ours.iter().map(time).collect::<Vec<_>>());
    let mut add = |what: &str, ours, goal| {
        report.add(Row {
            measure: format!("stop of {size}{label}, {what}"),
            unit: "ms",
            ours,
            bare,
            goal,
        });
    };
    add("trees gone", of(|stop| stop.trees), Goal::Times(2.0));
    let without_core = of(|stop| stop.trees + stop.after_core);
    add(
        "and the launcher, from the core's end",
        without_core,
        Goal::Times(3.0),
    );
    add(
        "launcher gone, core included",
        of(|stop| stop.whole),
        Goal::None,
    );
}
