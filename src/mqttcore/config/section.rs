//! Takes the keys of a part of the file one by one, and notes whatever is wrong with them.
//!
//! Invariant: every key of the file is either taken or told to be unknown, so that all problems are known at once.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_yaml::{Mapping, Value};

/// How much of a value is shown, in characters.
const MAX_SHOWN: usize = 64;

/// Something wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// The keys that lead to it.
    path: Vec<String>,
    /// Whether the key itself is wrong rather than its value.
    is_key: bool,
    /// What is wrong, and what was expected.
    text: String,
}

impl Problem {
    /// `{file}:{line}:{column}: {key path}: {what is wrong}; expected {what}` (spec §18); `text` is the file's.
    pub(super) fn line(&self, file: &Path, text: &str) -> (usize, String) {
        let keys = self.path.join(".");
        let wanted = Place {
            path: &self.path,
            is_key: self.is_key,
        };
        let found = wanted
            .deserialize(serde_yaml::Deserializer::from_str(text))
            .err();
        // The place is that of the error which the search ends with.
        match found.and_then(|stop| stop.location()) {
            Some(at) => (
                at.index(),
                format!(
                    "{}:{}:{}: {keys}: {}",
                    file.display(),
                    at.line(),
                    at.column(),
                    self.text
                ),
            ),
            None => (0, format!("{}: {keys}: {}", file.display(), self.text)),
        }
    }
}

/// A value of a type that the file may have.
pub(super) trait FromYaml: Sized {
    /// What is expected, in words.
    const EXPECTED: &'static str;

    /// None = it is none.
    fn read(value: &Value) -> Option<Self>;
}

impl FromYaml for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(value: &Value) -> Option<Self> {
        // The original's reader takes the words of YAML 1.1, too.
        match value.as_str() {
            Some("yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y") => Some(true),
            Some("no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N") => Some(false),
            Some(_) | None => value.as_bool(),
        }
    }
}

impl FromYaml for u16 {
    const EXPECTED: &'static str = "a port, 0 to 65535";

    fn read(value: &Value) -> Option<Self> {
        value.as_u64()?.try_into().ok()
    }
}

impl FromYaml for u32 {
    const EXPECTED: &'static str = "a whole number of days";

    fn read(value: &Value) -> Option<Self> {
        value.as_u64()?.try_into().ok()
    }
}

impl FromYaml for String {
    const EXPECTED: &'static str = "text";

    fn read(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl FromYaml for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn read(value: &Value) -> Option<Self> {
        value.as_str().map(PathBuf::from)
    }
}

/// A part of the file.
pub(super) struct Section {
    path: Vec<String>,
    left: Mapping,
    known: Vec<&'static str>,
}

impl Section {
    /// The whole file; an empty one has no keys.
    pub(super) fn whole(value: Value, problems: &mut Vec<Problem>) -> Section {
        Section::of(Vec::new(), Some(value), problems)
    }

    fn of(path: Vec<String>, value: Option<Value>, problems: &mut Vec<Problem>) -> Section {
        let left = match value {
            None | Some(Value::Null) => Mapping::new(),
            Some(Value::Mapping(keys)) => keys,
            Some(other) => {
                problems.push(Problem {
                    path: path.clone(),
                    is_key: false,
                    text: format!("is {}; expected keys with values", shown(&other)),
                });
                Mapping::new()
            }
        };
        Section {
            path,
            left,
            known: Vec::new(),
        }
    }

    /// The part of this one under `key`.
    pub(super) fn part(&mut self, key: &'static str, problems: &mut Vec<Problem>) -> Section {
        let value = self.anything(key);
        Section::of(self.path_of(key), value, problems)
    }

    /// The value of `key`, whatever it is.
    pub(super) fn anything(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.left.remove(key).filter(|value| !value.is_null())
    }

    /// The value of `key`; none when it is not given, or wrong.
    pub(super) fn take<T: FromYaml>(
        &mut self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<T> {
        let value = self.anything(key)?;
        let read = T::read(&value);
        if read.is_none() {
            self.refuse(key, &shown(&value), T::EXPECTED, problems);
        }
        read
    }

    /// Puts the value of `key` into `to` when it is given and within `range`.
    pub(super) fn take_within<T: Copy + PartialOrd + fmt::Display + TryFrom<u64>>(
        &mut self,
        key: &'static str,
        to: &mut T,
        range: RangeInclusive<T>,
        problems: &mut Vec<Problem>,
    ) {
        let Some(value) = self.anything(key) else {
            return;
        };
        let read = value.as_u64().and_then(|number| T::try_from(number).ok());
        match read.filter(|number| range.contains(number)) {
            Some(number) => *to = number,
            None => {
                let expected = format!("a whole number, {} to {}", range.start(), range.end());
                self.refuse(key, &shown(&value), &expected, problems);
            }
        }
    }

    /// Notes that a value is none of those that can be.
    pub(super) fn refuse(
        &self,
        key: &str,
        found: &str,
        expected: &str,
        problems: &mut Vec<Problem>,
    ) {
        problems.push(Problem {
            path: self.path_of(key),
            is_key: false,
            text: format!("is {found}; expected {expected}"),
        });
    }

    /// Notes all keys that were not taken.
    pub(super) fn finish(self, problems: &mut Vec<Problem>) {
        for key in self.left.keys() {
            let name = key.as_str().map_or_else(|| shown(key), str::to_owned);
            let known = self.known.join(" ");
            let nearest = nearest(&name, &self.known)
                .map(|near| format!("; did you mean {near}?"))
                .unwrap_or_default();
            problems.push(Problem {
                path: self.path_of(&name),
                is_key: true,
                text: format!("is no known key; expected one of {known}{nearest}"),
            });
        }
    }

    fn path_of(&self, key: &str) -> Vec<String> {
        let mut path = self.path.clone();
        path.push(key.to_owned());
        path
    }
}

/// The known key that is a few letters away at most, case aside.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name = Some(name.to_lowercase()).filter(|name| name.len() <= MAX_SHOWN)?;
    known
        .iter()
        .map(|known| (strsim::osa_distance(&name, &known.to_lowercase()), *known))
        .filter(|(distance, known)| *distance <= known.len().min(name.len()).div_ceil(3))
        .min()
        .map(|(_, known)| known)
}

/// A value as it may be shown.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(on) => on.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a map".to_owned(),
        Value::Tagged(_) => "a value with a tag".to_owned(),
    }
}

/// A text in quotes, shortened, without control characters.
pub(super) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(MAX_SHOWN).collect();
    format!("'{}'", short.escape_debug())
}

/// Reads a file as far as a key and fails there, as the reader tells places in its errors only.
#[derive(Clone, Copy)]
struct Place<'p> {
    path: &'p [String],
    is_key: bool,
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("something else")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((wanted, rest)) = self.path.split_first() else {
            return Err(A::Error::custom("here"));
        };
        let name = Name {
            wanted,
            is_end: rest.is_empty() && self.is_key,
        };
        while let Some(is_it) = map.next_key_seed(name)? {
            if is_it {
                return map.next_value_seed(Place { path: rest, ..self });
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// A key of a map: whether it is the wanted one.
#[derive(Clone, Copy)]
struct Name<'p> {
    wanted: &'p str,
    is_end: bool,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        match (name == self.wanted, self.is_end) {
            (true, true) => Err(E::custom("here")),
            (is_it, _) => Ok(is_it),
        }
    }
}
