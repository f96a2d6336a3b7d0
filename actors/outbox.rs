//! What a seat has to tell, in order, held back while the last lines of a failed run are awaited.
//!
//! Invariants: what was put in comes out in that order, each once; it lies in the seat, so that a crash of the actor loses
//! none; at most [`HELD`] wait, then the first goes without its last lines.

use crate::happening::{Happening, TOLD_LINE, TOLD_LINES};
use std::collections::VecDeque;
use supervision::Run;

/// So many are held back at most.
const HELD: usize = 16;

/// What is to be told by one seat.
#[derive(Default)]
pub(crate) struct Outbox {
    held: VecDeque<(Happening, Option<Run>)>,
}

impl Outbox {
    /// To be told after all that was put in before.
    pub(crate) fn put(&mut self, happening: Happening) {
        self.held.push_back((happening, None));
    }

    /// As [`Outbox::put`], but not before the last lines of that run are in.
    pub(crate) fn put_with_tail(&mut self, happening: Happening, of: Run) {
        self.held.push_back((happening, Some(of)));
    }

    /// The last lines of a run are in.
    pub(crate) fn tail_is_in(&mut self, run: Run, tail: &[String]) {
        for (happening, awaited) in &mut self.held {
            if *awaited != Some(run) {
                continue;
            }
            *awaited = None;
            match happening {
                Happening::Plugin(change) => change.tail = told_lines(tail),
                Happening::Started { .. }
                | Happening::Stopped { .. }
                | Happening::Limit(_)
                | Happening::Launcher { .. } => {}
            }
        }
    }

    /// Nobody will tell the last lines any more.
    pub(crate) fn await_no_tails(&mut self) {
        for (_, awaited) in &mut self.held {
            *awaited = None;
        }
    }

    /// The next that may be told now.
    pub(crate) fn next(&mut self) -> Option<Happening> {
        let full = self.held.len() > HELD;
        match self.held.front() {
            Some((_, None)) => {}
            Some((_, Some(_))) if full => {}
            Some((_, Some(_))) | None => return None,
        }
        let next = self.held.pop_front();
        if self.held.is_empty() {
            self.held = VecDeque::new();
        }
        next.map(|(happening, _)| happening)
    }
}

/// The last of the lines, each cut.
fn told_lines(tail: &[String]) -> Vec<String> {
    let last = tail.get(tail.len().saturating_sub(TOLD_LINES)..);
    last.unwrap_or_default()
        .iter()
        .map(|line| {
            let end = line.floor_char_boundary(TOLD_LINE);
            line.get(..end).unwrap_or_default().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::happening::LauncherNews;

    fn note(text: &str) -> Happening {
        Happening::Launcher {
            what: LauncherNews::Started,
            text: text.to_owned(),
        }
    }

    fn texts(outbox: &mut Outbox) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(Happening::Launcher { text, .. }) = outbox.next() {
            texts.push(text);
        }
        texts
    }

    #[test]
    fn the_order_is_kept_while_last_lines_are_awaited() {
        let mut outbox = Outbox::default();
        outbox.put(note("a"));
        outbox.put_with_tail(note("b"), Run(1));
        outbox.put(note("c"));
        assert_eq!(texts(&mut outbox), ["a"]);
        outbox.tail_is_in(Run(2), &[]);
        assert!(texts(&mut outbox).is_empty());
        outbox.tail_is_in(Run(1), &[]);
        assert_eq!(texts(&mut outbox), ["b", "c"]);
        outbox.put_with_tail(note("d"), Run(3));
        outbox.await_no_tails();
        assert_eq!(texts(&mut outbox), ["d"]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut outbox = Outbox::default();
        outbox.put_with_tail(note("first"), Run(1));
        for _ in 0..HELD {
            outbox.put(note("later"));
        }
        assert_eq!(texts(&mut outbox).len(), HELD + 1);
    }

    #[test]
    fn few_and_short_lines_are_told() {
        let lines: Vec<String> = (0..9).map(|n| format!("{n}{}", "é".repeat(600))).collect();
        let told = told_lines(&lines);
        assert_eq!(told.len(), TOLD_LINES);
        assert!(told[0].starts_with('4') && told.iter().all(|line| line.len() <= TOLD_LINE));
        assert!(told_lines(&[]).is_empty());
    }
}
