//! A line of output that somebody waits for.
//!
//! Invariants: only whole lines are looked at, each cut at [`LOOKED_AT`] bytes; who waits is told at most once, on the drain
//! thread, so he must only hand on; after that, and where nobody waits, it costs nothing.

use crate::pattern::LinePattern;
use memchr::memchr_iter;
use std::fmt;

/// So much of a line is looked at.
const LOOKED_AT: usize = 4096;

/// What is waited for, and who is told.
pub struct Awaited {
    pattern: LinePattern,
    found: Box<dyn FnOnce() + Send>,
    /// By stream, the beginning of the line that has no end yet.
    open: [Vec<u8>; 2],
}

impl Awaited {
    /// Calls `found` when a line has the pattern; never waits there.
    #[must_use]
    pub fn new(pattern: LinePattern, found: impl FnOnce() + Send + 'static) -> Self {
        Awaited {
            pattern,
            found: Box::new(found),
            open: Default::default(),
        }
    }

    /// Looks at what stream `stream` has said; gives itself back while the line has not come.
    pub(crate) fn look(mut self, stream: usize, bytes: &[u8]) -> Option<Self> {
        let Some(open) = self.open.get_mut(stream) else {
            return Some(self);
        };
        let mut from = 0;
        for end in memchr_iter(b'\n', bytes) {
            add(open, bytes.get(from..end).unwrap_or_default());
            from = end + 1;
            let line = open.strip_suffix(b"\r").unwrap_or(open);
            if self.pattern.is_in(line) {
                (self.found)();
                return None;
            }
            open.clear();
        }
        add(open, bytes.get(from..).unwrap_or_default());
        Some(self)
    }
}

fn add(open: &mut Vec<u8>, bytes: &[u8]) {
    let room = LOOKED_AT.saturating_sub(open.len());
    open.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
}

impl fmt::Debug for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Awaited")
            .field("pattern", &self.pattern)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn the_first_whole_line_that_has_it_is_told_once() {
        for (pattern, said, told_at) in [
            ("^up$", &[(0, "u"), (1, "up"), (0, "p\r\n")][..], Some(2)),
            (
                "^up$",
                &[(0, "not up\nnor this\n"), (1, "up\nup\n")],
                Some(1),
            ),
            ("up", &[(0, "up")], None),
            ("^up", &[(0, "no "), (0, "up\nx")], None),
            ("b$", &[(0, "a\nb\nc")], Some(0)),
        ] {
            let count = Arc::new(AtomicUsize::new(0));
            let found = count.clone();
            let mut awaited = Some(Awaited::new(
                LinePattern::new(pattern).unwrap(),
                move || {
                    found.fetch_add(1, Ordering::Relaxed);
                },
            ));
            let mut at = None;
            for (index, (stream, text)) in said.iter().enumerate() {
                awaited = awaited.and_then(|a| a.look(*stream, text.as_bytes()));
                if awaited.is_none() && at.is_none() {
                    at = Some(index);
                }
            }
            assert_eq!(at, told_at, "{pattern} {said:?}");
            assert_eq!(
                count.load(Ordering::Relaxed),
                usize::from(told_at.is_some())
            );
        }
    }

    #[test]
    fn an_endless_line_is_bounded() {
        let mut awaited = Awaited::new(LinePattern::new("z").unwrap(), || {});
        for _ in 0..100 {
            awaited = awaited.look(0, &[b'y'; 1000]).unwrap();
        }
        assert!(awaited.open[0].capacity() <= 2 * LOOKED_AT);
    }
}
