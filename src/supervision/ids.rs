//! Names of plugins and numbers of runs.
//!
//! Invariant: a [`PluginId`] is addressable on every bus and never the name of an account that is not a plugin's (T46),
//! so it may be used as client id, topic level, file name and log name without further checks.

use std::fmt;
use thiserror::Error;

/// The longest id, in characters (spec §5).
pub const MAX_ID_CHARS: usize = 64;

/// Ids that belong to accounts and processes of the Hub itself (spec §5, T46).
pub const RESERVED_IDS: [&str; 4] = ["admin", "auth", "launcher", "core"];

/// Why a name cannot be a plugin's id (spec §5, T46).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// Nothing is there.
    #[error("the name is empty")]
    Empty,
    /// More than [`MAX_ID_CHARS`] characters.
    #[error("the name has {chars} characters, at most {MAX_ID_CHARS} are allowed")]
    TooLong {
        /// How many it has.
        chars: usize,
    },
    /// A character that breaks addressing on a bus.
    #[error("the name has the character {character:?}; allowed are A-Z a-z 0-9 _ and -")]
    BadCharacter {
        /// The first such character.
        character: char,
    },
    /// The name of an account of the Hub.
    #[error("the name '{name}' is reserved for the hub itself")]
    Reserved {
        /// The name.
        name: String,
    },
}

/// The id of a plugin: its file name, client id, log name and credential name (spec §1).
///
/// Made of 1 to 64 of `A-Z a-z 0-9 _ -` and not reserved, except for [`PluginId::core`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PluginId(String);

impl PluginId {
    /// Decides whether `name` may be a plugin's id.
    ///
    /// # Errors
    /// The first reason why it may not.
    pub fn new(name: &str) -> Result<Self, IdError> {
        if name.is_empty() {
            return Err(IdError::Empty);
        }
        if let Some(character) = name
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')))
        {
            return Err(IdError::BadCharacter { character });
        }
        if name.len() > MAX_ID_CHARS {
            return Err(IdError::TooLong { chars: name.len() });
        }
        if RESERVED_IDS.contains(&name) {
            return Err(IdError::Reserved {
                name: name.to_owned(),
            });
        }
        Ok(PluginId(name.to_owned()))
    }

    /// An id that reminds of a file's name, for examples: `weather` of `weather.py`.
    #[must_use]
    pub fn like(name: &str) -> Self {
        let stem = name.split('.').next().unwrap_or_default();
        let kept = |c: char| {
            if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') {
                Some(c)
            } else {
                None
            }
        };
        let text: String = stem.chars().filter_map(kept).take(MAX_ID_CHARS).collect();
        PluginId::new(&text).unwrap_or_else(|_| PluginId("my-plugin".to_owned()))
    }

    /// The id under which the core is kept and addressed (HP 1.5).
    #[must_use]
    pub fn core() -> Self {
        PluginId("core".to_owned())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PluginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for PluginId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// The number of a run (incarnation) of a plugin, from 1, for ever (spec §1). Zero means "never run".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Run(pub u64);

impl Run {
    /// The number of the run after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Run(self.0.saturating_add(1))
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_remind_of_the_file() {
        for (name, id) in [
            ("weather.py", "weather"),
            ("my meter.sh", "mymeter"),
            ("core.exe", "my-plugin"),
            (".x", "my-plugin"),
        ] {
            assert_eq!(PluginId::like(name).as_str(), id);
        }
    }

    #[test]
    fn names_that_break_addressing_are_refused() {
        for bad in [
            "", "a/b", "a+b", "a#", "a.b", "é", "a b", "core", "admin", "auth", "launcher",
        ] {
            assert!(PluginId::new(bad).is_err(), "{bad:?}");
        }
        assert!(PluginId::new(&"x".repeat(65)).is_err());
        for good in ["a", "zwavejs-cb", "A_9", &"x".repeat(64)] {
            assert_eq!(
                PluginId::new(good).map(|id| id.to_string()),
                Ok(good.to_owned())
            );
        }
    }
}
