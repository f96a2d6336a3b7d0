//! The list of plugins as a table (HP 1.22).
//!
//! Invariants: the original's columns keep their widths and places, ours follow to the right; a launcher that does not
//! know ours gets only the original's. On a terminal a line is at most as wide as it, by cutting the free texts.

use super::say::{Paint, escaped};
use bus::wire::{PluginInfo, UNKNOWN};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io::{self, IsTerminal};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Narrowest that a free text is cut to.
const LEAST_TEXT: usize = 12;
/// Width of what is left of the last error, in columns.
const FIXED: usize = 103;
/// Widest that the last error is padded to.
const MOST_ERROR: usize = 48;

/// How the table is laid out.
#[derive(Debug, Clone)]
pub(super) struct Style {
    pub(super) paint: Paint,
    /// Columns of the terminal; none = as wide as need be.
    pub(super) width: Option<usize>,
    /// Whether the terminal is told to cut lines at its edge.
    pub(super) nowrap: bool,
    /// Unix ms.
    pub(super) now_ms: i64,
    /// The zone of times.
    pub(super) zone: TimeZone,
}

impl Style {
    /// That of standard output.
    pub(super) fn of_this_terminal(nowrap: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        Style {
            paint: Paint::of(&io::stdout()),
            width: if terminal && !nowrap { width() } else { None },
            nowrap: nowrap && terminal,
            now_ms: Timestamp::now().as_millisecond(),
            zone: bus::wire::local_zone(),
        }
    }
}

impl Style {
    /// A point in time (Unix ms) in words; empty for 0 and beyond all years.
    pub(super) fn time(&self, ms: i64, format: &str) -> String {
        match Timestamp::from_millisecond(ms) {
            Ok(time) if ms != 0 => {
                let zoned = time.to_zoned(self.zone.clone());
                zoned.strftime(format).to_string()
            }
            Ok(_) | Err(_) => String::new(),
        }
    }

    /// For output that programs read.
    pub(super) fn for_programs() -> Self {
        Style {
            paint: Paint::Plain,
            width: None,
            nowrap: false,
            now_ms: Timestamp::now().as_millisecond(),
            zone: TimeZone::UTC,
        }
    }
}

/// The terminal's width as the shell exports it or the kernel knows it.
fn width() -> Option<usize> {
    let told = std::env::var("COLUMNS")
        .ok()
        .and_then(|text| text.parse().ok());
    told.or_else(|| comfy_table::Table::new().width().map(usize::from))
        .filter(|columns| *columns > 0)
}

/// The table, with its two header lines.
pub(super) fn list(plugins: &[PluginInfo], style: &Style) -> String {
    let ours = plugins.iter().any(|info| !info.phase.is_empty());
    let errors = plugins.iter().map(|info| shown(&info.status).width());
    let error_width = errors
        .max()
        .unwrap_or(0)
        .clamp("Last Error".len(), MOST_ERROR);
    let layout = Layout {
        ours,
        error_width,
        style,
    };
    let mut out = String::new();
    if style.nowrap {
        // The terminal's own switch, as the original uses it.
        out.push_str("\u{1b}[?7l");
    }
    for line in layout.header() {
        out.push_str(&style.paint.dim(line.trim_end()));
        out.push('\n');
    }
    for info in plugins {
        out.push_str(layout.row(info).trim_end());
        out.push('\n');
    }
    if plugins.iter().any(is_overridden) {
        let legend = "* set by hand, launcher.yaml says otherwise; hubcli enable --default NAME lets it decide";
        out.push_str(&style.paint.dim(&cut(legend, style.width)));
        out.push('\n');
    }
    if style.nowrap {
        out.push_str("\u{1b}[?7h");
    }
    out
}

/// What is wrong with the launcher itself, a line below the table; empty when nothing is.
pub(super) fn footer(launcher: &str, style: &Style) -> String {
    if launcher.is_empty() {
        return String::new();
    }
    let line = format!("! launcher: {}", shown(launcher));
    let cut = cut(&line, style.width);
    format!(
        "{}\n{}\n",
        style.paint.red(&cut),
        style.paint.dim("  hubcli why launcher tells more")
    )
}

/// Whether somebody set by hand what the file says otherwise.
fn is_overridden(info: &PluginInfo) -> bool {
    match info.set_by_hand.as_str() {
        "enabled" => !info.autostart,
        "disabled" => info.autostart,
        _ => false,
    }
}

struct Layout<'a> {
    ours: bool,
    error_width: usize,
    style: &'a Style,
}

impl Layout<'_> {
    fn header(&self) -> [String; 2] {
        let titles = [
            "Service",
            "Size",
            "Starts",
            "PID",
            "CPU",
            "Memory",
            "Status",
            "Since",
            "Last Error",
        ];
        let dashes = titles.map(|title| "-".repeat(title.len()));
        let ours = ["Phase", "Enabled", "Restarts", "Next", "Cause"];
        let our_dashes = ours.map(|title| "-".repeat(title.len()));
        [
            self.titles(titles, ours),
            self.titles(
                dashes.each_ref().map(String::as_str),
                our_dashes.each_ref().map(String::as_str),
            ),
        ]
    }

    fn titles(&self, left: [&str; 9], right: [&str; 5]) -> String {
        let [name, size, starts, pid, cpu, memory, status, since, error] = left;
        let mut line = format!(
            "{name:<25} {size:>7}   {starts:>6}   {pid:>7}   {cpu:>4}   {memory:>6}   {status:>7}   {since:<20} "
        );
        if self.ours {
            let [phase, enabled, restarts, next, cause] = right;
            let error = padded(error, self.error_width());
            line.push_str(&format!(
                "{error}   {phase:<9}   {enabled:<7}   {restarts:>8}   {next:<8}   {cause}"
            ));
        } else {
            line.push_str(error);
        }
        cut(&line, self.style.width)
    }

    /// How wide the last error may be, so that phase and cause are still to be seen.
    fn error_width(&self) -> usize {
        let Some(width) = self.style.width else {
            return self.error_width;
        };
        let room = width.saturating_sub(FIXED + 54);
        self.error_width.min(room.max(LEAST_TEXT))
    }

    fn row(&self, info: &PluginInfo) -> String {
        let mib = |bytes: i64| bytes / (1024 * 1024);
        let paint = self.style.paint;
        let (status, is_up) = if info.running {
            ("running", true)
        } else {
            ("stopped", false)
        };
        let left = format!(
            "{} {:>4} MB   {:>6}   {:>7}   {:>4}   {:>6}   ",
            padded(&shown(&info.name), 25),
            mib(info.size),
            info.start_count,
            info.pid,
            format!("{}%", info.cpu),
            format!("{} MB", mib(info.rss)),
        );
        let since = format!("   {:<20} ", self.since(info));
        let mut right = String::new();
        if self.ours {
            let error = clipped(&shown(&info.status), self.error_width());
            right.push_str(&format!(
                "{}   {:<9}   {:<7}   {:>8}   {:<8}   {}",
                padded(&error, self.error_width()),
                shown(&info.phase),
                self.enabled(info),
                if info.restarts == UNKNOWN {
                    String::new()
                } else {
                    info.restarts.to_string()
                },
                self.next(info),
                shown(&info.cause),
            ));
        } else {
            right.push_str(&shown(&info.status));
        }
        let plain = format!("{left}{status:>6}{since}{right}");
        if paint == Paint::Plain {
            return cut(&plain, self.style.width);
        }
        let painted = if is_up {
            paint.green(status)
        } else {
            self.painted_stop(info, status)
        };
        let line = cut(&plain, self.style.width);
        // Colours come last, as they take no room; the status stands at a place known by bytes.
        match (
            line.get(..left.len()),
            line.get(left.len() + status.len()..),
        ) {
            (Some(before), Some(after)) => format!("{before}{painted}{after}"),
            _ => line,
        }
    }

    /// What should run and does not is to be seen at once.
    fn painted_stop(&self, info: &PluginInfo, status: &str) -> String {
        match info.phase.as_str() {
            "backoff" | "blocked" | "foreign" => self.style.paint.red(status),
            "preparing" | "starting" | "stopping" | "killing" => self.style.paint.yellow(status),
            _ => self.style.paint.dim(status),
        }
    }

    /// Since when it runs, or since when it does not; empty = it never did.
    fn since(&self, info: &PluginInfo) -> String {
        let ms = if info.running {
            info.start_time_mse
        } else {
            info.stop_time_mse
        };
        self.style.time(ms, "%b %e %H:%M:%S.%3f")
    }

    /// Marked where the hand overrides the file.
    fn enabled(&self, info: &PluginInfo) -> &'static str {
        match (info.enabled, is_overridden(info)) {
            (true, false) => "yes",
            (true, true) => "yes*",
            (false, false) => "no",
            (false, true) => "no*",
        }
    }

    fn next(&self, info: &PluginInfo) -> String {
        if info.next_start_mse == 0 {
            return String::new();
        }
        in_words(info.next_start_mse.saturating_sub(self.style.now_ms))
    }
}

/// A time from now, short: `now`, `in 5s`, `in 12m`, `in 1h`.
pub(super) fn in_words(ms: i64) -> String {
    let seconds = ms.saturating_add(999) / 1000;
    match seconds {
        i64::MIN..=0 => "now".to_owned(),
        1..=99 => format!("in {seconds}s"),
        100..=5999 => format!("in {}m", seconds / 60),
        _ => format!("in {}h", seconds / 3600),
    }
}

fn shown(text: &str) -> String {
    escaped(text).into_owned()
}

/// Filled up with spaces to a width on the terminal.
pub(super) fn padded(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.width());
    format!("{text}{}", " ".repeat(missing))
}

fn cut(line: &str, width: Option<usize>) -> String {
    match width {
        Some(width) => clipped(line, width),
        None => line.to_owned(),
    }
}

/// At most `width` columns, with an ellipsis when something is missing.
fn clipped(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests;
