//! What is wrong with a configuration file, in words for its author (spec §18).
//!
//! Invariants: each problem has a line and a column, both from 1; a list of problems is sorted by them; what the file says is
//! shown shortened and without control characters, since it goes to a terminal.

use std::fmt;
use std::path::{Path, PathBuf};

/// The longest piece of the file that is shown, in characters.
const MAX_SHOWN: usize = 64;

/// The most problems of a file that are kept; one more line then says how many there are beyond.
pub const MAX_PROBLEMS: usize = 200;

/// A place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl Place {
    /// The beginning of the file; also the place of what concerns it as a whole.
    pub const START: Place = Place { line: 1, column: 1 };

    /// The place right after `before`, the text from the beginning of the file.
    #[must_use]
    pub fn after(before: &str) -> Self {
        let mut place = Place::START;
        let mut chars = before.chars().peekable();
        while let Some(c) = chars.next() {
            if c == '\n' || (c == '\r' && chars.peek() != Some(&'\n')) {
                place.line += 1;
                place.column = 1;
            } else {
                place.column += 1;
            }
        }
        place
    }
}

/// Where in the tree of keys, as text: `plugins.owserver.args[2]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPath(String);

impl KeyPath {
    /// The file as a whole.
    #[must_use]
    pub fn top() -> Self {
        KeyPath(String::new())
    }

    /// The value of a key below this.
    #[must_use]
    pub fn key(&self, name: &str) -> Self {
        let simple = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '<');
        let name = if !name.is_empty() && name.chars().all(simple) {
            shortened(name)
        } else {
            quoted(name)
        };
        match self.0.as_str() {
            "" => KeyPath(name),
            above => KeyPath(format!("{above}.{name}")),
        }
    }

    /// An item of the list at this, counted from 0.
    #[must_use]
    pub fn item(&self, index: usize) -> Self {
        KeyPath(format!("{}[{index}]", self.0))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_str() {
            "" => f.write_str("(file)"),
            path => f.write_str(path),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where in the file.
    pub place: Place,
    /// Where in the tree.
    pub path: KeyPath,
    /// What is wrong.
    pub wrong: String,
    /// What would be right.
    pub expected: String,
    /// The word that was probably meant.
    pub nearest: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column } = self.place;
        let (path, wrong, expected) = (&self.path, &self.wrong, &self.expected);
        write!(f, "{line}:{column}: {path}: {wrong}; expected {expected}")?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean {nearest}?"),
            None => Ok(()),
        }
    }
}

/// All that is wrong with a file: 1 to [`MAX_PROBLEMS`] + 1 problems, sorted by place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    file: PathBuf,
    problems: Vec<Problem>,
}

impl Problems {
    /// The problems of `file`, sorted; the same one twice is one.
    #[must_use]
    pub fn new(file: &Path, mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        if problems.len() > MAX_PROBLEMS {
            let place = problems.get(MAX_PROBLEMS).map_or(Place::START, |p| p.place);
            let more = problems.len() - MAX_PROBLEMS;
            problems.truncate(MAX_PROBLEMS);
            problems.push(Problem {
                place,
                path: KeyPath::top(),
                wrong: format!("has {more} more problems from here on"),
                expected: "those above to be mended first".to_owned(),
                nearest: None,
            });
        }
        Problems {
            file: file.to_owned(),
            problems,
        }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The problems.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.problems
    }

    /// The problems, a line each, as the operator reads them.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let file = self.file.display();
        self.problems.iter().map(move |p| format!("{file}:{p}"))
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, line) in self.lines().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            f.write_str(&line)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A piece of the file in quotes, shortened, without control characters.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("'{}'", shortened(text).escape_debug())
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The word that `word` was probably meant to be: a few letters away at most, case aside.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // Beyond this length nothing is near any known word, and comparing costs the product of the lengths.
    let word = Some(word.to_lowercase()).filter(|word| word.len() <= MAX_SHOWN)?;
    known
        .into_iter()
        .map(|known| (strsim::osa_distance(&word, &known.to_lowercase()), known))
        .filter(|(distance, known)| *distance <= known.len().min(word.len()).div_ceil(3))
        .min()
        .map(|(_, known)| known.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["logLevel", "logplugins", "stop", "start", "args", "env"];
        for (word, near) in [
            ("loglevel", Some("logLevel")),
            ("logLevle", Some("logLevel")),
            ("arg", Some("args")),
            ("stat", Some("start")),
            ("en", Some("env")),
            ("volume", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known).as_deref(), near, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(1_000_000), known), None);
    }

    #[test]
    fn paths_and_pieces_are_safe_to_show() {
        let path = KeyPath::top().key("plugins").key("a.b\u{1b}[2J").item(3);
        assert_eq!(path.to_string(), "plugins.'a.b\\u{1b}[2J'[3]");
        assert_eq!(KeyPath::top().to_string(), "(file)");
        assert_eq!(quoted(&"ä".repeat(70)).chars().count(), 67);
    }

    #[test]
    fn places_count_lines_and_characters() {
        assert_eq!(Place::after(""), Place::START);
        assert_eq!(Place::after("a\r\nä"), Place { line: 2, column: 2 });
        assert_eq!(Place::after("a\rb\n"), Place { line: 3, column: 1 });
    }
}
