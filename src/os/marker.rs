//! The mark that every process of a run carries in its environment.
//!
//! Invariant: no two runs have the same marker, of whatever launcher: its last part is random.

use std::fmt;
use supervision::{PluginId, Run};

/// The variable that carries the [`Marker`] (spec §18).
pub const RUN_VARIABLE: &str = "HIVEOT_RUN";
/// The variable that carries the home of the hub a process belongs to (spec §18).
pub const HOME_VARIABLE: &str = "HIVEOT_HOME";

/// `{id}.{run}.{16 hex digits}`: by this a tree is recognised after double forks and by a successor (spec §18).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Marker {
    text: String,
    id: PluginId,
    run: Run,
}

impl Marker {
    /// The marker of a run. `random` comes from a good source: it tells apart the runs of several launchers.
    #[must_use]
    pub fn new(id: &PluginId, run: Run, random: u64) -> Self {
        Marker {
            text: format!("{id}.{run}.{random:016x}"),
            id: id.clone(),
            run,
        }
    }

    /// Reads a marker back from its text; `None` when it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Marker> {
        let (rest, random) = text.rsplit_once('.')?;
        let (id, run) = rest.rsplit_once('.')?;
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if random.len() != 16 || !random.chars().all(hex) {
            return None;
        }
        // A number has one spelling only, so that equal markers have equal texts.
        let number: u64 = run.parse().ok()?;
        if number.to_string() != run {
            return None;
        }
        let core = PluginId::core();
        let id = if id == core.as_str() {
            core
        } else {
            PluginId::new(id).ok()?
        };
        Some(Marker {
            text: text.to_owned(),
            id,
            run: Run(number),
        })
    }

    /// The marker as it stands in [`RUN_VARIABLE`].
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What tells it apart from all others, alone: for names that must be short.
    #[must_use]
    pub fn random_part(&self) -> &str {
        self.text.rsplit('.').next().unwrap_or_default()
    }

    /// Whose run it is.
    #[must_use]
    pub fn id(&self) -> &PluginId {
        &self.id
    }

    /// Which run it is.
    #[must_use]
    pub fn run(&self) -> Run {
        self.run
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for id in [PluginId::core(), PluginId::new("a-B_9").unwrap()] {
            let marker = Marker::new(&id, Run(7), 0xab);
            assert_eq!(marker.as_str(), format!("{id}.7.00000000000000ab"));
            assert_eq!(Marker::parse(marker.as_str()), Some(marker));
        }
    }

    #[test]
    fn what_is_no_marker_is_none() {
        for text in [
            "",
            "a",
            "a.1",
            "a.1.ab",
            ".1.00000000000000ab",
            "admin.1.00000000000000ab",
            "a/b.1.00000000000000ab",
            "a.+1.00000000000000ab",
            "a.01.00000000000000ab",
            "a.x.00000000000000ab",
            "a.1.00000000000000AB",
        ] {
            assert_eq!(Marker::parse(text), None, "{text:?}");
        }
    }
}
