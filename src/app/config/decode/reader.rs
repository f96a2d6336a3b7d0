//! Reads single values out of the tree and notes what is wrong with them.
//!
//! Invariant: a wrong value is noted once, leaves the default in place, and the reading goes on, so that one pass finds all.

use super::keys::Keys;
use crate::app::config::problem::{KeyPath, Place, Problem, nearest, quoted};
use crate::app::config::tree::{Entry, Node, Value};
use crate::app::config::values;
use crate::app::config::yaml::{Meaning, meaning, switch};
use std::ops::RangeInclusive;
use std::time::Duration;

/// A value with its place in the tree.
#[derive(Debug, Clone)]
pub struct At<'n> {
    /// The value.
    pub node: &'n Node,
    /// Its path.
    pub path: KeyPath,
}

/// Collects what is wrong.
#[derive(Debug, Default)]
pub struct Reader {
    pub problems: Vec<Problem>,
}

impl Reader {
    pub fn problem(
        &mut self,
        place: Place,
        path: &KeyPath,
        wrong: impl Into<String>,
        expected: impl Into<String>,
    ) {
        self.problems.push(Problem {
            place,
            path: path.clone(),
            wrong: wrong.into(),
            expected: expected.into(),
            nearest: None,
        });
    }

    /// The value is not what it should be.
    pub fn wrong_value(&mut self, at: &At<'_>, expected: impl Into<String>) {
        self.problem(at.node.place, &at.path, has(&at.node.value), expected);
    }

    /// The entries of a map; none when it is nothing or something else.
    pub fn entries<'n>(&mut self, at: &At<'n>, what: &str) -> &'n [Entry] {
        match &at.node.value {
            Value::Map(entries) => entries,
            Value::Plain(_) | Value::Quoted(_) | Value::List(_) => {
                if !is_nothing(at.node) {
                    self.wrong_value(at, what);
                }
                &[]
            }
        }
    }

    /// The items of a list; none when it is nothing or something else.
    pub fn items<'n>(&mut self, at: &At<'n>, what: &str) -> &'n [Node] {
        match &at.node.value {
            Value::List(items) => items,
            Value::Plain(_) | Value::Quoted(_) | Value::Map(_) => {
                if !is_nothing(at.node) {
                    self.wrong_value(at, what);
                }
                &[]
            }
        }
    }

    /// The known keys of a map that have a value, in order of the file; the others are noted.
    pub fn fields<'n, K: Copy + PartialEq>(
        &mut self,
        at: &At<'n>,
        keys: &Keys<K>,
    ) -> Vec<(K, At<'n>)> {
        let mut fields = Vec::new();
        let mut seen: Vec<(K, &Entry)> = Vec::new();
        for entry in self.entries(at, "key: value lines") {
            let path = at.path.key(&entry.key);
            let Some(key) = keys.find(&entry.key) else {
                self.unknown_key(entry, path, keys);
                continue;
            };
            if let Some((_, first)) = seen.iter().find(|(other, _)| *other == key) {
                let wrong = format!(
                    "means the same as {} in line {}",
                    first.key, first.place.line
                );
                self.problem(entry.place, &path, wrong, "one of the two");
                continue;
            }
            seen.push((key, entry));
            if !is_nothing(&entry.node) {
                let node = &entry.node;
                fields.push((key, At { node, path }));
            }
        }
        fields
    }

    fn unknown_key<K: Copy>(&mut self, entry: &Entry, path: KeyPath, keys: &Keys<K>) {
        let later = keys.later.contains(&entry.key.as_str());
        let (wrong, nearest) = if later {
            ("is not supported by this version", None)
        } else {
            ("is no known key", nearest(&entry.key, keys.spellings()))
        };
        let known: Vec<&str> = keys.spellings().collect();
        self.problems.push(Problem {
            place: entry.place,
            path,
            wrong: wrong.to_owned(),
            expected: format!("one of {}", known.join(" ")),
            nearest,
        });
    }

    /// Text, in quotes or not; a number or switch is taken as it is written. No text may have a zero byte, as it is for the
    /// system, which takes that for its end.
    pub fn text<'n>(&mut self, at: &At<'n>, expected: &str) -> Option<&'n str> {
        let text = text_of(at.node);
        match text {
            Some(text) if text.contains('\0') => {
                self.problem(at.node.place, &at.path, "has a zero byte in it", expected);
                None
            }
            Some(text) => Some(text),
            None => {
                self.wrong_value(at, expected);
                None
            }
        }
    }

    /// A switch.
    pub fn switch(&mut self, at: &At<'_>, into: &mut bool) {
        match plain(at.node).and_then(switch) {
            Some(on) => *into = on,
            None => self.wrong_value(at, "true or false"),
        }
    }

    /// A duration within `range`.
    pub fn duration(&mut self, at: &At<'_>, range: RangeInclusive<Duration>, into: &mut Duration) {
        let read = text_of(at.node).and_then(values::duration);
        match read.filter(|duration| range.contains(duration)) {
            Some(duration) => *into = duration,
            None => {
                let (from, to) = (range.start(), range.end());
                let (from, to) = (values::shown_duration(*from), values::shown_duration(*to));
                let expected = format!("a duration like 250ms, 5s, 2m or 1h, from {from} to {to}");
                self.wrong_value(at, expected);
            }
        }
    }

    /// A whole number within `range`.
    pub fn whole(&mut self, at: &At<'_>, range: RangeInclusive<u32>) -> Option<u32> {
        let read = match plain(at.node).map(meaning) {
            Some(Meaning::Whole(number)) => u32::try_from(number).ok(),
            Some(Meaning::Nothing | Meaning::Switch(_) | Meaning::Number(_) | Meaning::Text)
            | None => None,
        };
        let read = read.filter(|number| range.contains(number));
        if read.is_none() {
            let (from, to) = (range.start(), range.end());
            self.wrong_value(at, format!("a whole number from {from} to {to}"));
        }
        read
    }

    /// A number within `range`.
    pub fn number(&mut self, at: &At<'_>, range: RangeInclusive<f64>, into: &mut f64) {
        let read = match plain(at.node).map(meaning) {
            // Beyond 2^53 it is out of every range anyway.
            Some(Meaning::Whole(number)) => Some(number as f64),
            Some(Meaning::Number(number)) => Some(number),
            Some(Meaning::Nothing | Meaning::Switch(_) | Meaning::Text) | None => None,
        };
        match read.filter(|number| range.contains(number)) {
            Some(number) => *into = number,
            None => {
                let (from, to) = (range.start(), range.end());
                self.wrong_value(at, format!("a number from {from} to {to}"));
            }
        }
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, at: &At<'_>, words: &[(&str, T)]) -> Option<T> {
        let written = text_of(at.node);
        let found = words.iter().find(|(word, _)| Some(*word) == written);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.problems.push(Problem {
                place: at.node.place,
                path: at.path.clone(),
                wrong: has(&at.node.value),
                expected: format!("one of {}", known.join(" ")),
                nearest: written.and_then(|written| nearest(written, known)),
            });
        }
        found.map(|(_, meaning)| *meaning)
    }
}

/// Whether there is no value: as if the key were not there.
pub fn is_nothing(node: &Node) -> bool {
    plain(node).is_some_and(|text| meaning(text) == Meaning::Nothing)
}

/// The text of a scalar that is something.
pub fn text_of(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Quoted(text) => Some(text),
        Value::Plain(text) => Some(text.as_str()).filter(|_| !is_nothing(node)),
        Value::List(_) | Value::Map(_) => None,
    }
}

fn plain(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Plain(text) => Some(text),
        Value::Quoted(_) | Value::List(_) | Value::Map(_) => None,
    }
}

/// What a value is, for the reader of the problem.
fn has(value: &Value) -> String {
    match value {
        Value::Plain(text) if meaning(text) == Meaning::Nothing => "has no value".to_owned(),
        Value::Plain(text) | Value::Quoted(text) => format!("has the value {}", quoted(text)),
        Value::List(_) => "has a list".to_owned(),
        Value::Map(_) => "has a map".to_owned(),
    }
}
