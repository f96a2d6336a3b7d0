//! What was measured, as a table.

use std::fmt::Write as _;

/// Measured by turns, in milliseconds.
#[derive(Default)]
pub struct Pairs {
    /// What ours took.
    pub ours: Vec<f64>,
    /// What the baseline took.
    pub bare: Vec<f64>,
}

/// What is to be reached (spec §16).
#[derive(Clone, Copy)]
pub enum Goal {
    /// At most so many times the baseline.
    Times(f64),
    /// At most so much, in the measure's own unit.
    Most(f64),
    /// Nothing; shown to explain others.
    None,
}

/// A line of the table.
pub struct Row {
    /// What.
    pub measure: String,
    /// Of `ours` and `bare`.
    pub unit: &'static str,
    /// Ours.
    pub ours: f64,
    /// The baseline's, if there is one.
    pub bare: Option<f64>,
    /// What is to be reached.
    pub goal: Goal,
}

/// All lines, in the order they were measured.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// One more.
    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Shows everything, and below it what the table does not say itself.
    #[expect(clippy::print_stdout, reason = "the result")]
    pub fn print(&self, note: &str) {
        println!("{}\n\n{}\n\n{note}", conditions(), self.table());
    }
}

impl Report {
    fn table(&self) -> String {
        let header = ["measure", "ours", "baseline", "ratio", "goal", ""].map(str::to_owned);
        let mut rows = vec![header];
        rows.extend(self.rows.iter().map(Row::cells));
        let width = |column: usize| {
            let widths = rows.iter().map(|row| row[column].chars().count());
            widths.max().unwrap_or(0)
        };
        let widths: [usize; 6] = std::array::from_fn(width);
        let line = |row: &[String; 6]| {
            let cells = row.iter().zip(widths).enumerate();
            let cells = cells.map(|(column, (cell, width))| match column {
                1..=3 => format!("{cell:>width$}"),
                _ => format!("{cell:<width$}"),
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

impl Row {
    fn cells(&self) -> [String; 6] {
        let times = self.bare.map(|bare| self.ours / bare);
        let (goal, reached) = match self.goal {
            Goal::Times(most) => (format!("≤ {most} ×"), times.map(|times| times <= most)),
            Goal::Most(most) => (format!("≤ {most} {}", self.unit), Some(self.ours <= most)),
            Goal::None => (String::new(), None),
        };
        let verdict = match reached {
            Some(true) => "reached",
            Some(false) => "missed",
            None => "",
        };
        let value = |value| format!("{value:.2} {}", self.unit);
        [
            self.measure.clone(),
            value(self.ours),
            self.bare.map(value).unwrap_or_default(),
            times.map(|times| format!("{times:.2}")).unwrap_or_default(),
            goal,
            verdict.to_owned(),
        ]
    }
}

/// What the machine is like and how busy it was.
fn conditions() -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut text = format!("{processors} processors");
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    if let Some(load) = load.split(' ').next() {
        // Writing to a string cannot fail.
        let _ = write!(text, ", load {load}");
    }
    text
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which that part of them lies; 0 when there are none.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of a few thousand"
)]
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len().saturating_sub(1) as f64 * part).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}

/// Says how far it is.
#[expect(clippy::print_stderr, reason = "the table alone goes to stdout")]
pub fn say(text: &str) {
    eprintln!("{text}");
}
