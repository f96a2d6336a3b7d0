//! What a reload does to each plugin: from what the file said, what it says now, and how everything is (spec §4, §9).
//!
//! Invariants:
//! - pure; each id comes once, the core first, then as `autostart` lists them, then by id;
//! - the hand goes before the file, and the plan says so wherever they disagree;
//! - what nothing was changed for keeps its run; nobody who is down is started but for having come into `autostart`.

#[cfg(test)]
mod tests;

use crate::PluginId;
use crate::hand::{ByHand, Setting, enabled};
use crate::lifecycle::{PhaseName, Wish};
use crate::order::start_order;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What is done with a plugin (spec §18).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// It becomes up.
    Start,
    /// It becomes down.
    Stop,
    /// It gets a new run.
    Restart,
    /// Its settings change in place; what runs keeps its pid.
    Update,
    /// Nothing.
    None,
}

impl Action {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Start => "start",
            Action::Stop => "stop",
            Action::Restart => "restart",
            Action::Update => "update",
            Action::None => "none",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The keys of a plugin that are other than before, as they are called in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those a process is made by: only a new one follows them.
    pub respawn: Vec<&'static str>,
    /// Those that are followed at once.
    pub in_place: Vec<&'static str>,
}

impl Changes {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.respawn.is_empty() && self.in_place.is_empty()
    }

    fn named(&self) -> String {
        let keys = self.respawn.iter().chain(&self.in_place);
        format!("changed: {}", keys.copied().collect::<Vec<_>>().join(", "))
    }
}

/// What decides whether it starts with the launcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enabling {
    /// It always does; for the core.
    Always,
    /// The file, unless a hand did.
    ByFile {
        /// Whether `autostart` listed it.
        was: bool,
        /// Whether it does now.
        is: bool,
        /// What was set by hand.
        hand: Option<ByHand>,
    },
}

/// How a plugin is before the reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// Whose.
    pub id: PluginId,
    /// Whether it starts with the launcher.
    pub enabling: Enabling,
    /// What is new for it.
    pub changes: Changes,
    /// Whether it should be up.
    pub wish: Wish,
    /// What it is doing.
    pub phase: PhaseName,
}

/// What is done with one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Whose.
    pub id: PluginId,
    /// What.
    pub action: Action,
    /// Why, in one line for people.
    pub why: String,
}

/// The plan; `autostart` is that of the new file. Of two entries of one id the later counts.
#[must_use]
pub fn plan(autostart: &[PluginId], present: &[Present]) -> Vec<Planned> {
    let by_id: BTreeMap<&PluginId, &Present> = present.iter().map(|one| (&one.id, one)).collect();
    let plugins: BTreeSet<PluginId> = by_id
        .values()
        .filter(|one| one.enabling != Enabling::Always)
        .map(|one| one.id.clone())
        .collect();
    let cores = by_id
        .values()
        .filter(|one| one.enabling == Enabling::Always)
        .map(|one| one.id.clone());
    cores
        .chain(start_order(autostart, &plugins))
        .filter_map(|id| by_id.get(&id).map(|one| one.planned()))
        .collect()
}

/// What the file and the hand together have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turned {
    On,
    Off,
    Not,
}

impl Present {
    fn planned(&self) -> Planned {
        let (action, why) = match self.turned() {
            Turned::On => self.turned_on(),
            Turned::Off => self.turned_off(),
            Turned::Not => self.changed(),
        };
        let mut words = vec![why];
        words.extend(self.disagreement());
        Planned {
            id: self.id.clone(),
            action,
            why: words.join("; "),
        }
    }

    fn turned(&self) -> Turned {
        match &self.enabling {
            Enabling::Always => Turned::Not,
            Enabling::ByFile { was, is, hand } => {
                let hand = hand.as_ref();
                match (enabled(hand, *was), enabled(hand, *is)) {
                    (Setting::Disabled, Setting::Enabled) => Turned::On,
                    (Setting::Enabled, Setting::Disabled) => Turned::Off,
                    (Setting::Enabled, Setting::Enabled)
                    | (Setting::Disabled, Setting::Disabled) => Turned::Not,
                }
            }
        }
    }

    fn turned_on(&self) -> (Action, String) {
        let listed = "now in autostart";
        if self.phase == PhaseName::Foreign {
            let way_out =
                "a copy runs that this launcher did not start: end it, then: hubcli start";
            return (
                Action::Update,
                format!("{listed}, but {way_out} {}", self.id),
            );
        }
        if !self.is_up() {
            return (Action::Start, listed.to_owned());
        }
        match self.changed() {
            (Action::Restart, why) => (Action::Restart, format!("{listed}; {why}")),
            (Action::Update, why) => (Action::Update, format!("{listed}; {why}")),
            (Action::Start | Action::Stop | Action::None, _) => {
                (Action::Update, format!("{listed}; it is up already"))
            }
        }
    }

    fn turned_off(&self) -> (Action, String) {
        let off = "no longer in autostart";
        match self.wish {
            Wish::Up => {
                let why = format!("{off}, and nobody enabled it by hand");
                (Action::Stop, why)
            }
            Wish::Down => (Action::Update, format!("{off}; it is down already")),
        }
    }

    /// What its changed settings do to it.
    fn changed(&self) -> (Action, String) {
        if self.changes.is_empty() {
            return (Action::None, "unchanged".to_owned());
        }
        let keys = self.changes.named();
        let waits = match (self.wish, self.phase) {
            (Wish::Up, PhaseName::Preparing | PhaseName::Starting | PhaseName::Running) => {
                if self.changes.respawn.is_empty() {
                    return (Action::Update, format!("{keys}; what runs keeps running"));
                }
                return (Action::Restart, keys);
            }
            (Wish::Up, PhaseName::Blocked | PhaseName::Backoff) => "it is tried again at once",
            (Wish::Up, PhaseName::Stopping | PhaseName::Killing) => "used when it starts again",
            (Wish::Up, PhaseName::Stopped | PhaseName::Foreign)
            | (
                Wish::Down,
                PhaseName::Stopped
                | PhaseName::Blocked
                | PhaseName::Preparing
                | PhaseName::Starting
                | PhaseName::Running
                | PhaseName::Stopping
                | PhaseName::Killing
                | PhaseName::Backoff
                | PhaseName::Foreign,
            ) => "used when it is started next",
        };
        (Action::Update, format!("{keys}; {waits}"))
    }

    /// Where the hand overrides the file, and how to let the file decide.
    fn disagreement(&self) -> Option<String> {
        let Enabling::ByFile { was, is, hand } = &self.enabling else {
            return None;
        };
        let hand = hand.as_ref()?;
        let (set, file, verb) = match (hand.setting, *is) {
            (Setting::Enabled, false) if *was => ("enabled", "no longer in autostart", "enable"),
            (Setting::Enabled, false) => ("enabled", "not in autostart", "enable"),
            (Setting::Disabled, true) if *was => ("disabled", "in autostart", "disable"),
            (Setting::Disabled, true) => ("disabled", "now in autostart", "disable"),
            (Setting::Enabled, true) | (Setting::Disabled, false) => return None,
        };
        let (who, id) = (&hand.who, &self.id);
        Some(format!(
            "{file}, but {set} by hand by {who}; to let the file decide: hubcli {verb} --default {id}"
        ))
    }

    /// Whether anything is done to keep it up.
    fn is_up(&self) -> bool {
        self.wish == Wish::Up && self.phase != PhaseName::Stopped
    }
}
