//! The last lines of a run, for the cause of its end (spec §11).
//!
//! Invariants: at most [`TAIL_LINES`] lines of at most [`KEPT_BYTES`] bytes; a read costs as much as the lines it can
//! leave here, not as it has.

use crate::TAIL_LINES;
use memchr::{memchr_iter, memrchr, memrchr_iter};
use std::collections::VecDeque;

/// So much of a line is kept: enough for a message, and 20 of them for an event on the bus.
const KEPT_BYTES: usize = 400;

#[derive(Debug, Default)]
pub(crate) struct Tail {
    lines: VecDeque<Line>,
    /// By stream, the line that has no end yet.
    open: Vec<Line>,
}

#[derive(Debug, Default)]
struct Line {
    head: Vec<u8>,
    cut: bool,
}

impl Line {
    fn add(&mut self, bytes: &[u8]) {
        let room = KEPT_BYTES - self.head.len();
        match bytes.get(..room) {
            Some(fits) if bytes.len() > room => {
                self.head.extend_from_slice(fits);
                self.cut = true;
            }
            Some(_) | None => self.head.extend_from_slice(bytes),
        }
    }

    fn clear(&mut self) {
        self.head.clear();
        self.cut = false;
    }

    fn text(&self) -> String {
        let mut head = self.head.as_slice();
        if !self.cut {
            head = head.strip_suffix(b"\r").unwrap_or(head);
            return String::from_utf8_lossy(head).into_owned();
        }
        // The cut may have gone through a character; half of it is no text.
        if let Err(error) = std::str::from_utf8(head)
            && error.error_len().is_none()
        {
            head = head.get(..error.valid_up_to()).unwrap_or(head);
        }
        format!("{}…", String::from_utf8_lossy(head))
    }
}

impl Tail {
    pub(crate) fn new(streams: usize) -> Self {
        Tail {
            lines: VecDeque::new(),
            open: std::iter::repeat_with(Line::default)
                .take(streams)
                .collect(),
        }
    }

    /// Takes note of what stream `stream` has said.
    pub(crate) fn push(&mut self, stream: usize, bytes: &[u8]) {
        let Some(open) = self.open.get_mut(stream) else {
            return;
        };
        let Some(last) = memrchr(b'\n', bytes) else {
            open.add(bytes);
            return;
        };
        let (body, rest) = bytes.split_at(last + 1);
        let ends = body.get(..last).unwrap_or_default();
        let mut begin = 0;
        if let Some(newline) = memrchr_iter(b'\n', ends).nth(TAIL_LINES - 1) {
            // More lines than are kept: what came before them, the open line too, is forgotten.
            begin = newline + 1;
            open.clear();
        }
        let mut from = begin;
        for length in memchr_iter(b'\n', body.get(begin..).unwrap_or_default()) {
            let line = body.get(from..begin + length).unwrap_or_default();
            from = begin + length + 1;
            open.add(line);
            let mut kept = if self.lines.len() >= TAIL_LINES {
                self.lines.pop_front().unwrap_or_default()
            } else {
                Line::default()
            };
            kept.clear();
            // The kept line takes the buffer's content, the buffer stays for the next line.
            kept.head.extend_from_slice(&open.head);
            kept.cut = open.cut;
            open.clear();
            self.lines.push_back(kept);
        }
        open.add(rest);
    }

    /// The lines, oldest first; lines without an end come last.
    pub(crate) fn lines(&self) -> Vec<String> {
        let open = self.open.iter().filter(|line| !line.head.is_empty());
        let all: Vec<&Line> = self.lines.iter().chain(open).collect();
        let skip = all.len().saturating_sub(TAIL_LINES);
        all.into_iter().skip(skip).map(Line::text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn long_lines_are_cut_and_strange_ones_are_text() {
        let mut tail = Tail::new(2);
        let mut long = "x".repeat(KEPT_BYTES - 1).into_bytes();
        long.extend_from_slice("ä and more\n".as_bytes());
        tail.push(0, &long);
        tail.push(0, b"\xff\x00\r\nno end");
        tail.push(1, b"other\nhalf");
        let lines = tail.lines();
        assert_eq!(lines[0], format!("{}…", "x".repeat(KEPT_BYTES - 1)));
        assert_eq!(lines[1..], ["\u{fffd}\0", "other", "no end", "half"]);
    }

    #[test]
    fn an_endless_line_is_bounded() {
        let mut tail = Tail::new(1);
        for _ in 0..100 {
            tail.push(0, &[b'y'; 100_000]);
        }
        assert_eq!(tail.lines(), [format!("{}…", "y".repeat(KEPT_BYTES))]);
    }

    proptest! {
        #[test]
        fn it_is_the_end_of_what_was_said(
            lines in prop::collection::vec("[a-z]{0,12}", 0..80),
            cuts in prop::collection::vec(1usize..200, 1..40),
            ended: bool,
        ) {
            let mut text = lines.join("\n");
            if ended { text.push('\n'); }
            let mut tail = Tail::new(1);
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                tail.push(0, now);
                rest = later;
            }
            let all: Vec<&str> = text.split_terminator('\n').collect();
            let expected = &all[all.len().saturating_sub(TAIL_LINES)..];
            prop_assert_eq!(tail.lines(), expected);
        }
    }
}
