//! What a line must be like for somebody who waits for it.
//!
//! Invariants: matching costs time linear in the line (no backtracking); what a pattern may take is bounded when it is
//! made; two patterns are equal when they are written alike.

use regex::bytes::{Regex, RegexBuilder};
use thiserror::Error;

/// A pattern may be so long, in bytes.
const LONGEST: usize = 1024;

/// Its program may take so many bytes; room for a few Unicode classes.
const MOST_BYTES: usize = 256 * 1024;

/// A regular expression that is looked for within single lines (the `regex` crate's syntax). Clones share their memory.
#[derive(Debug, Clone)]
pub struct LinePattern(Regex);

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatternError {
    /// It would match the first line whatever it is.
    #[error("is empty")]
    Empty,
    /// It is beyond bounds, itself or what it stands for.
    #[error("is too large")]
    TooLarge,
    /// It cannot be read; the text says where and why, in one line.
    #[error("is no regular expression: {0}")]
    Syntax(String),
}

impl LinePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It is none, or a too large one.
    pub fn new(source: &str) -> Result<Self, PatternError> {
        if source.is_empty() {
            return Err(PatternError::Empty);
        }
        if source.len() > LONGEST {
            return Err(PatternError::TooLarge);
        }
        let made = RegexBuilder::new(source)
            .size_limit(MOST_BYTES)
            .dfa_size_limit(MOST_BYTES)
            .build();
        match made {
            Ok(regex) => Ok(LinePattern(regex)),
            Err(regex::Error::CompiledTooBig(_)) => Err(PatternError::TooLarge),
            Err(error) => Err(PatternError::Syntax(last_line(&error.to_string()))),
        }
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether a line, without its end, has it.
    #[must_use]
    pub fn is_in(&self, line: &[u8]) -> bool {
        self.0.is_match(line)
    }
}

impl PartialEq for LinePattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for LinePattern {}

/// The library draws a picture above the reason.
fn last_line(text: &str) -> String {
    let last = text.lines().next_back().unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_bounded_and_their_faults_are_told_in_one_line() {
        let good = LinePattern::new("^listening on [0-9]+$").unwrap();
        assert!(good.is_in(b"listening on 80"));
        assert!(!good.is_in(b"not listening on 80"));
        assert!(LinePattern::new("up").unwrap().is_in(b"\xff it is up"));
        assert_eq!(LinePattern::new(""), Err(PatternError::Empty));
        let large = Err(PatternError::TooLarge);
        assert_eq!(LinePattern::new(&"x".repeat(LONGEST + 1)), large);
        assert_eq!(LinePattern::new(r"\w{1000}{10}"), large);
        let wrong = LinePattern::new("a(b").unwrap_err().to_string();
        assert_eq!(wrong, "is no regular expression: unclosed group");
    }
}
