//! The launcher's own lines in a log (spec §11), without their line ends.
//!
//! Invariant: each is one line, whatever it is made of: causes and reasons are escaped.

use crate::escape::escape;
use jiff::Timestamp;
use std::time::Duration;
use supervision::Run;

/// Stands between the pieces of a split line.
pub(crate) const LINE_CONTINUES: &str = "--- line continues";

/// What had no room, until it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// How many lines, a torn one included.
    pub(crate) lines: u64,
    /// How many bytes, line ends included.
    pub(crate) bytes: u64,
    /// When the first one was dropped.
    pub(crate) since: Timestamp,
    /// Why.
    pub(crate) reason: String,
}

pub(crate) fn started(now: Timestamp, id: &str, run: Run, pid: i32) -> String {
    format!("--- {now:.3} {id} run {run} started, pid {pid}")
}

pub(crate) fn ended(now: Timestamp, id: &str, run: Run, cause: &str, lasted: Duration) -> String {
    let (cause, lasted) = (escape(cause), length(lasted));
    format!("--- {now:.3} {id} run {run} ended: {cause}, after {lasted}")
}

pub(crate) fn dropped(now: Timestamp, id: &str, what: &Dropped) -> String {
    let Dropped {
        lines,
        bytes,
        since,
        reason,
    } = what;
    let reason = escape(reason);
    format!("--- {now:.3} {id} dropped {lines} lines ({bytes} bytes) since {since:.3}: {reason}")
}

/// A duration for people: `250ms`, `12.345s`, `3m12s`, `2h5m`, `3d4h`; whole units are cut, not rounded.
fn length(lasted: Duration) -> String {
    let seconds = lasted.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0 => format!("{}ms", lasted.subsec_millis()),
        1..60 => format!("{seconds}.{:03}s", lasted.subsec_millis()),
        60..3600 => format!("{minutes}m{}s", seconds % 60),
        3600..86_400 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_have_the_form_of_the_specification() {
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        assert_eq!(
            started(at(1_700_000_000_000), "counter", Run(3), 42),
            "--- 2023-11-14T22:13:20.000Z counter run 3 started, pid 42"
        );
        assert_eq!(
            ended(
                at(7),
                "a",
                Run(1),
                "exit\ncode 1",
                Duration::from_millis(1500)
            ),
            "--- 1970-01-01T00:00:00.007Z a run 1 ended: exit\\ncode 1, after 1.500s"
        );
        let what = Dropped {
            lines: 2,
            bytes: 30,
            since: at(1),
            reason: "no space left on device".to_owned(),
        };
        assert_eq!(
            dropped(at(2), "a", &what),
            "--- 1970-01-01T00:00:00.002Z a dropped 2 lines (30 bytes) since 1970-01-01T00:00:00.001Z: \
             no space left on device"
        );
    }

    #[test]
    fn lengths_fit_their_size() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (12_345, "12.345s"),
            (192_999, "3m12s"),
            (7_500_000, "2h5m"),
            (273_600_000, "3d4h"),
        ] {
            assert_eq!(length(Duration::from_millis(ms)), text);
        }
    }
}
