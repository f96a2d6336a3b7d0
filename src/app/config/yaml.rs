//! What is left to serde_yaml: whether a text is YAML at all, and what a plain word means.
//!
//! Invariant: this is the only module that names serde_yaml, so that it can be replaced in one line. It gets documents
//! without aliases only, so that none can grow while it is read.

use super::problem::{KeyPath, Place, Problem};
use super::tree::GOOD_YAML;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// What a plain word means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Meaning {
    /// Nothing: empty, `~` or `null`.
    Nothing,
    /// A switch.
    Switch(bool),
    /// A whole number.
    Whole(i128),
    /// A number with a fraction or exponent; may be infinite or none.
    Number(f64),
    /// Text.
    Text,
}

/// What the plain word `text` means.
#[must_use]
pub fn meaning(text: &str) -> Meaning {
    if text.is_empty() {
        return Meaning::Nothing;
    }
    serde_yaml::from_str(text).unwrap_or(Meaning::Text)
}

/// What a plain word means where only a switch may be: also `yes no on off y n`, as the original's reader takes them.
#[must_use]
pub fn switch(text: &str) -> Option<bool> {
    match meaning(text) {
        Meaning::Switch(on) => Some(on),
        Meaning::Nothing | Meaning::Whole(_) | Meaning::Number(_) => None,
        Meaning::Text => match text {
            "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => Some(true),
            "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => Some(false),
            _ => None,
        },
    }
}

/// Whether serde_yaml takes the document as well.
#[must_use]
pub fn second_opinion(text: &str) -> Option<Problem> {
    let error = serde_yaml::from_str::<IgnoredAny>(text).err()?;
    let place = error.location().map_or(Place::START, |at| Place {
        line: at.line().max(1),
        column: at.column().max(1),
    });
    Some(Problem {
        place,
        path: KeyPath::top(),
        wrong: format!("is not YAML: {error}"),
        expected: GOOD_YAML.to_owned(),
        nearest: None,
    })
}

impl<'de> Deserialize<'de> for Meaning {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Meaning;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word")
    }

    fn visit_unit<E>(self) -> Result<Meaning, E> {
        Ok(Meaning::Nothing)
    }

    fn visit_bool<E>(self, on: bool) -> Result<Meaning, E> {
        Ok(Meaning::Switch(on))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Meaning, E> {
        Ok(Meaning::Whole(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Meaning, E> {
        Ok(Meaning::Whole(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Meaning, E> {
        Ok(Meaning::Number(number))
    }

    fn visit_str<E>(self, _text: &str) -> Result<Meaning, E> {
        Ok(Meaning::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Meaning, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Meaning::Text)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Meaning, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Meaning::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_what_yaml_says() {
        for (text, wanted) in [
            ("", Meaning::Nothing),
            ("~", Meaning::Nothing),
            ("null", Meaning::Nothing),
            ("true", Meaning::Switch(true)),
            ("FALSE", Meaning::Switch(false)),
            ("yes", Meaning::Text),
            ("5", Meaning::Whole(5)),
            ("-5", Meaning::Whole(-5)),
            ("0.25", Meaning::Number(0.25)),
            ("5s", Meaning::Text),
            ("a, b]", Meaning::Text),
        ] {
            assert_eq!(meaning(text), wanted, "{text:?}");
        }
        assert_eq!(switch("no"), Some(false));
        assert_eq!(switch("maybe"), None);
        assert_eq!(switch("1"), None);
    }
}
