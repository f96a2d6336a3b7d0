//! What is printed, and in which colours.
//!
//! Invariant: text from elsewhere passes [`escaped`] before it is printed for people.

use super::code::ExitCode;
use std::borrow::Cow;
use std::io::IsTerminal;

/// What a command prints, and how it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// On standard output.
    pub(super) out: String,
    /// On standard error.
    pub(super) err: String,
    pub(super) exit: ExitCode,
}

impl Said {
    pub(super) fn done(out: String) -> Self {
        Said {
            out,
            err: String::new(),
            exit: ExitCode::Done,
        }
    }
}

/// Whether colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    /// None.
    Plain,
    /// The terminal's own.
    Colours,
}

impl Paint {
    pub(super) fn of(stream: &impl IsTerminal) -> Self {
        if super::may_colour(stream, std::env::var_os("NO_COLOR")) {
            Paint::Colours
        } else {
            Paint::Plain
        }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        match self {
            Paint::Plain => text.to_owned(),
            Paint::Colours => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }

    pub(super) fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    pub(super) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(super) fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }
}

/// Text without control characters and without those that turn the direction of writing: each is shown by its number.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    let dangerous = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(dangerous) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c == '\t' {
            shown.push(' ');
        } else if dangerous(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_dangerous_reaches_a_terminal() {
        assert_eq!(escaped("plain é"), "plain é");
        assert_eq!(escaped("a\tb\u{1b}[31m\r\n"), r"a b\u{1b}[31m\u{d}\u{a}");
        assert_eq!(escaped("a\u{202e}b\u{9b}"), r"a\u{202e}b\u{9b}");
    }

    #[test]
    fn colours_are_only_there_when_wanted() {
        assert_eq!(Paint::Plain.red("x"), "x");
        assert_eq!(Paint::Colours.red("x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
