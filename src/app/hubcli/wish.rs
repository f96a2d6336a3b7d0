//! What the words of a command line ask for.
//!
//! Invariant: plain data.

/// An action of a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Act {
    pub(super) agent: String,
    pub(super) thing: String,
    pub(super) action: String,
    /// As it is sent; empty = none.
    pub(super) value: String,
}

/// Which events are shown; the empty word is any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listen {
    pub(super) agent: String,
    pub(super) thing: String,
    pub(super) name: String,
    /// Whether they are descriptions, shown as such.
    pub(super) things: bool,
    /// How many; none = without end.
    pub(super) count: Option<u64>,
}

/// What can be done with certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certs {
    /// Show all.
    View,
    /// Make a CA.
    Create {
        /// Its life.
        days: u32,
        /// Whether another one may be replaced.
        force: bool,
    },
}

/// What can be done with those who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum People {
    /// Show all.
    List,
    Add(NewUser),
    Remove(String),
    /// A new password for one.
    Password(String, Chosen),
    /// A role for one; the empty word is none.
    Role(String, String),
}

/// A user that is to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewUser {
    pub(super) id: String,
    /// For people.
    pub(super) name: String,
    /// The empty word is none.
    pub(super) role: String,
    pub(super) password: Chosen,
}

/// Where a new password comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chosen {
    /// Somebody types it, or it comes by standard input.
    ByPeople,
    ByChance,
}

/// What can be done with one plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Start,
    /// Without enabling it.
    StartOnce,
    Stop,
    Restart,
    Enable,
    Disable,
    /// What was set by hand.
    Forget,
}

impl Deed {
    pub(super) fn word(self) -> &'static str {
        match self {
            Deed::Start => "start",
            Deed::StartOnce => "start --once",
            Deed::Stop => "stop",
            Deed::Restart => "restart",
            Deed::Enable => "enable",
            Deed::Disable => "disable",
            Deed::Forget => "enable --default",
        }
    }
}
