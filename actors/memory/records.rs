//! What the journals say: what a record is, and those of what lives now. Pure.
//!
//! Invariant: a record names a plugin and sets one thing of it, so records of different keys may be written in any
//! order and of one key only the newest counts.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::PathBuf;
use supervision::{PluginId, Run};

/// A record of a journal, and how it is taken into what the journal says as a whole.
pub(super) trait Record:
    Serialize + serde::de::DeserializeOwned + Clone + Send + 'static
{
    /// Whether it says anything after the machine was started anew; else the kernel's memory is disk enough.
    const OUTLIVES_BOOT: bool;
    /// What it is about.
    type Key: Ord + Send;
    /// What all records together say.
    type Book: Default + Send;
    /// What it is about.
    fn key(&self) -> Self::Key;
    /// Takes it in.
    fn enter(&self, book: &mut Self::Book);
    /// The fewest records that say the same as the book.
    fn all(book: &Self::Book) -> Vec<Self>;
    /// What is still to be written when `self` comes after one of the same key that is not on disk yet.
    fn after(self, _unwritten: &Self) -> Option<Self> {
        Some(self)
    }
    /// The form it is written in: the oldest that has it.
    fn form(&self) -> u64 {
        1
    }
    /// Whether it may wait a second for newer ones of its key.
    fn may_wait(&self) -> bool {
        false
    }
    /// Whether it holds at once, and is written when that becomes possible; else it holds once it is on disk.
    fn holds_at_once(&self) -> bool;
}

/// A run that lives, as its successor needs to know it (spec §12).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveRun {
    /// Whose.
    #[serde(with = "id_text")]
    pub id: PluginId,
    /// Number of the run.
    #[serde(with = "run_number")]
    pub run: Run,
    /// The mark in its environment, unlike that of any other run.
    pub marker: String,
    /// Its main process.
    pub pid: i32,
    /// When that started, in clock ticks since boot; with pid and boot id it is one process for ever.
    pub start_ticks: u64,
    /// The boot of the machine it lives in.
    pub boot_id: String,
    /// The FIFOs that take its output, none when an anonymous pipe does.
    pub fifos: Vec<PathBuf>,
    /// The cgroup that it has for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
}

/// A record of what lives: `{run}/private/records`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub(super) enum Live {
    /// A run began.
    Began(LiveRun),
    /// Nothing of it lives any more.
    Ended {
        /// Its marker.
        marker: String,
    },
}

impl Record for Live {
    const OUTLIVES_BOOT: bool = false;
    type Key = String;
    type Book = BTreeMap<String, LiveRun>;

    fn key(&self) -> String {
        match self {
            Live::Began(run) => run.marker.clone(),
            Live::Ended { marker } => marker.clone(),
        }
    }

    fn enter(&self, book: &mut Self::Book) {
        match self {
            Live::Began(run) => {
                book.insert(run.marker.clone(), run.clone());
            }
            Live::Ended { marker } => {
                book.remove(marker);
            }
        }
    }

    fn all(book: &Self::Book) -> Vec<Self> {
        book.values().cloned().map(Live::Began).collect()
    }

    /// A run that ended before its beginning was written needs no record at all.
    fn after(self, _unwritten: &Self) -> Option<Self> {
        match self {
            Live::Began(_) => Some(self),
            Live::Ended { .. } => None,
        }
    }

    fn holds_at_once(&self) -> bool {
        true
    }
}

/// Ids as text; the core's is one that [`PluginId::new`] refuses.
pub(super) mod id_text {
    use super::{Deserialize, Deserializer, PluginId, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(
        id: &PluginId,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(id.as_str())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<PluginId, D::Error> {
        let text = String::deserialize(from)?;
        let core = PluginId::core();
        if text == core.as_str() {
            return Ok(core);
        }
        PluginId::new(&text).map_err(serde::de::Error::custom)
    }
}

/// Runs as plain numbers.
mod run_number {
    use super::{Deserialize, Deserializer, Run, Serializer};

    pub(super) fn serialize<S: Serializer>(run: &Run, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(run.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Run, D::Error> {
        u64::deserialize(from).map(Run)
    }
}
