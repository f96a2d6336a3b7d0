//! How the program ends, and how it says why it failed (spec §13, §18).
//!
//! Invariant: no failure without a hint.

use super::code::ExitCode;
use super::say::{Paint, Said, escaped};
use serde::Serialize;

/// Why it did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) exit: ExitCode,
    /// What went wrong, in the original's words where it has some.
    pub(super) text: String,
    /// What to do about it.
    pub(super) hint: String,
    /// More about it.
    pub(super) more: Box<More>,
}

/// What some failures have beside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct More {
    /// What goes before, on standard output, as the original does for `stop`.
    pub(super) out: String,
    /// How a plugin ended, a line each.
    pub(super) details: Vec<String>,
    /// The last lines of a plugin.
    pub(super) tail: Vec<String>,
}

impl Failure {
    pub(super) fn new(exit: ExitCode, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Failure {
            exit,
            text: text.into(),
            hint: hint.into(),
            more: Box::default(),
        }
    }

    pub(super) fn failed(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Failure::new(ExitCode::Failed, text, hint)
    }

    pub(super) fn usage(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Failure::new(ExitCode::Usage, text, hint)
    }

    /// What is printed of it.
    pub(super) fn said(&self, json: bool, paint: Paint) -> Said {
        let err = if json { self.json() } else { self.lines(paint) };
        Said {
            out: if json {
                String::new()
            } else {
                self.more.out.clone()
            },
            err,
            exit: self.exit,
        }
    }

    fn json(&self) -> String {
        #[derive(Serialize)]
        struct Shown<'a> {
            error: &'a str,
            hint: &'a str,
            #[serde(skip_serializing_if = "<[String]>::is_empty")]
            details: &'a [String],
            #[serde(skip_serializing_if = "<[String]>::is_empty")]
            tail: &'a [String],
        }
        let shown = Shown {
            error: &self.text,
            hint: &self.hint,
            details: &self.more.details,
            tail: &self.more.tail,
        };
        // A struct of texts is always JSON.
        let mut text = serde_json::to_string(&shown).unwrap_or_default();
        text.push('\n');
        text
    }

    fn lines(&self, paint: Paint) -> String {
        let mut lines = format!("{}  {}\n", paint.red("ERROR:"), escaped(&self.text));
        for detail in &self.more.details {
            lines.push_str(&format!("        {}\n", escaped(detail)));
        }
        for line in &self.more.tail {
            lines.push_str(&format!("        | {}\n", escaped(line)));
        }
        lines.push_str(&format!(
            "{}  {}\n",
            paint.dim("hint:"),
            escaped(&self.hint)
        ));
        lines
    }
}
