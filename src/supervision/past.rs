//! What is kept of a plugin's past, so that the next launcher can still tell who wished what and why it ended (spec §12).
//!
//! Invariants: everything here is bounded ([`End::bounded`]); nothing in it decides anything but what is shown: the wish
//! at a launcher's start comes from what is enabled (spec §9).

use crate::lifecycle::Wish;
use crate::{ExitStatus, Run};

/// So many last lines are kept (spec §11).
pub const MAX_LINES: usize = 20;
/// So many bytes of one line.
const MAX_LINE_BYTES: usize = 512;
/// So many bytes of all lines of a plugin.
const MAX_TAIL_BYTES: usize = 4096;
/// So many bytes of any other text.
const MAX_TEXT_BYTES: usize = 1024;
/// What stands for what was cut off.
const CUT: &str = "…";

/// How the newest run that is over ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastExit {
    /// Its number.
    pub run: Run,
    /// How its main process ended.
    pub status: ExitStatus,
    /// In words.
    pub text: String,
    /// When, in Unix milliseconds.
    pub time_mse: i64,
}

/// The newest unasked end or failed start, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The run that ended; when exec failed, the number that was meant for it.
    pub run: Run,
    /// What happened, one line.
    pub text: String,
    /// When, in Unix milliseconds.
    pub time_mse: i64,
}

/// Whether a plugin was to be up, by whose wish and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastWish {
    /// The wish.
    pub wish: Wish,
    /// Whose; a bus login, or `launcher`.
    pub by: String,
    /// Since when, in Unix milliseconds.
    pub since_mse: i64,
    /// Unasked restarts since then.
    pub restarts: u32,
    /// Why it rests, one line; empty while it does not, or is wished up.
    pub rest: String,
}

/// How a plugin's newest runs ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct End {
    /// Of the newest run that is over.
    pub exit: Option<LastExit>,
    /// The newest unasked one.
    pub fault: Option<Fault>,
    /// The last lines of the run in `exit`, at most [`MAX_LINES`], oldest first.
    pub tail: Vec<String>,
}

/// All that is kept of a plugin beside its run number and what is set by hand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Past {
    /// None when nobody ever wished anything.
    pub wish: Option<PastWish>,
    /// Empty when no run ever ended.
    pub end: End,
}

impl Past {
    /// When it was changed last, in Unix milliseconds; 0 = never.
    #[must_use]
    pub fn newest_mse(&self) -> i64 {
        let wish = self.wish.as_ref().map(|wish| wish.since_mse);
        let exit = self.end.exit.as_ref().map(|exit| exit.time_mse);
        let fault = self.end.fault.as_ref().map(|fault| fault.time_mse);
        wish.into_iter().chain(exit).chain(fault).max().unwrap_or(0)
    }
}

impl PastWish {
    /// The wish that a launcher's start begins with, `None` when this one does not go on: one for being up goes on with its
    /// author, its time and the restarts since, in whatever launcher (spec §18, `Restarts`).
    #[must_use]
    pub fn going_on(self, wish: Wish) -> Option<PastWish> {
        (self.wish == wish).then_some(self)
    }

    /// The same, cut to what is kept.
    #[must_use]
    pub fn bounded(mut self) -> PastWish {
        cut(&mut self.by, MAX_TEXT_BYTES);
        cut(&mut self.rest, MAX_TEXT_BYTES);
        self
    }
}

impl End {
    /// The same, cut to what is kept: of the lines the newest.
    #[must_use]
    pub fn bounded(mut self) -> End {
        if let Some(exit) = &mut self.exit {
            cut(&mut exit.text, MAX_TEXT_BYTES);
        }
        if let Some(fault) = &mut self.fault {
            cut(&mut fault.text, MAX_TEXT_BYTES);
        }
        for line in &mut self.tail {
            cut(line, MAX_LINE_BYTES);
        }
        let mut bytes = 0;
        let newest = self.tail.iter().rev().take(MAX_LINES).take_while(|line| {
            bytes += line.len();
            bytes <= MAX_TAIL_BYTES
        });
        let kept = newest.count();
        self.tail.drain(..self.tail.len() - kept);
        self
    }
}

/// Shortens a text to `most` bytes, whole characters, and shows that it was.
fn cut(text: &mut String, most: usize) {
    if text.len() <= most {
        return;
    }
    let at = text.floor_char_boundary(most.saturating_sub(CUT.len()));
    text.truncate(at);
    text.push_str(CUT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_long_ones_cut_at_a_character() {
        let end = |tail: Vec<String>| End {
            tail,
            ..End::default()
        };
        let many: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        assert_eq!(end(many.clone()).bounded().tail, many[10..]);
        let long = end(vec!["é".repeat(2_000)]).bounded().tail;
        assert!(long[0].len() <= MAX_LINE_BYTES && long[0].ends_with("é…"));
        let wide: Vec<String> = (0..20).map(|n| format!("{n:0300}")).collect();
        let kept = end(wide.clone()).bounded().tail;
        assert_eq!(kept, wide[7..], "13 lines of 300 bytes are all that fit");
        let none = end(Vec::new()).bounded();
        assert_eq!(none, End::default());
    }

    #[test]
    fn texts_are_cut() {
        let exit = LastExit {
            run: Run(1),
            status: ExitStatus::Code(1),
            text: "x".repeat(5_000),
            time_mse: 7,
        };
        let fault = Fault {
            run: Run(2),
            text: "y".repeat(5_000),
            time_mse: 9,
        };
        let end = End {
            exit: Some(exit),
            fault: Some(fault),
            tail: Vec::new(),
        };
        let end = end.bounded();
        assert!(end.exit.as_ref().unwrap().text.len() <= MAX_TEXT_BYTES);
        assert!(end.fault.as_ref().unwrap().text.len() <= MAX_TEXT_BYTES);
        assert_eq!(Past { wish: None, end }.newest_mse(), 9);
    }

    #[test]
    fn only_a_wish_that_stays_the_same_goes_on() {
        let up = PastWish {
            wish: Wish::Up,
            by: "admin".to_owned(),
            since_mse: 5,
            restarts: 3,
            rest: String::new(),
        };
        assert_eq!(up.clone().going_on(Wish::Up), Some(up.clone()));
        assert_eq!(up.going_on(Wish::Down), None);
    }
}
