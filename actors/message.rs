//! What the actors are told, and what they answer.
//!
//! Invariant: plain data; who sends a message needs nothing of the actor that understands it.

use crate::ports::{FileFacts, Round, Usage};
use crate::view::View;
use std::sync::Arc;
use supervision::lifecycle::{Event, StopCause};
use supervision::{PluginId, Run};
use tokio::sync::oneshot;

/// Whose wish it is when the launcher itself starts or stops something.
pub const LAUNCHER: &str = "launcher";

/// What a plugin's actor understands.
pub enum PluginMessage {
    /// Command with its author (a bus login, or `launcher`).
    Obey {
        /// What is wanted.
        order: Order,
        /// By whom.
        by: String,
        /// Gets the answer when the goal is reached or missed; dropped by an actor that crashes.
        reply: Option<oneshot::Sender<OrderResult>>,
    },
    /// Facts were posted to the seat.
    Look,
    /// A deadline may have come.
    Wake,
    /// The monitor sampled the tree of this run.
    Sampled(Round, Run, Usage),
    /// The last lines of this run are in.
    TailTaken(Run, Vec<String>),
    /// Its executable was found, changed or lost.
    FileSeen(Option<FileFacts>),
}

impl std::fmt::Debug for PluginMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PluginMessage::Obey { .. } => "Obey",
            PluginMessage::Look => "Look",
            PluginMessage::Wake => "Wake",
            PluginMessage::Sampled(..) => "Sampled",
            PluginMessage::TailTaken(..) => "TailTaken",
            PluginMessage::FileSeen(_) => "FileSeen",
        })
    }
}

/// What somebody wants of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Be up.
    Start,
    /// Be down.
    Stop(StopCause),
    /// Be up with a new run.
    Restart,
    /// Be down without grace.
    Kill,
}

impl Order {
    /// The same for the lifecycle.
    pub(crate) fn event(self) -> Event {
        match self {
            Order::Start => Event::Start,
            Order::Stop(cause) => Event::Stop(cause),
            Order::Restart => Event::Restart,
            Order::Kill => Event::KillNow,
        }
    }
}

/// Why an order was not carried out; the text is that of the reply (HP 1.10).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// It was tried and failed, or is not allowed.
    #[error("{0}")]
    Failed(String),
    /// It came too late.
    #[error("the launcher is stopping; nothing is started or changed any more")]
    Ending,
    /// Nobody answered; the actor is being restarted.
    #[error("'{id}' cannot be asked at the moment; try again")]
    Unanswered {
        /// The plugin.
        id: String,
    },
}

/// How an order went: the view afterwards, or why not.
pub type OrderResult = Result<Arc<View>, OrderError>;

/// Who of the tree an actor is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Part {
    /// Keeps the seats.
    Catalog,
    /// Measures.
    Monitor,
    /// Speaks with the bus.
    Bridge,
    /// Keeps credentials up.
    Renewal,
    /// Signals and systemd.
    Control,
    /// Commands over a socket of this machine.
    Local,
    /// Runs a plugin, or the core.
    Plugin(PluginId),
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Part::Catalog => f.write_str("catalog"),
            Part::Monitor => f.write_str("monitor"),
            Part::Bridge => f.write_str("bridge"),
            Part::Renewal => f.write_str("renewal"),
            Part::Control => f.write_str("control"),
            Part::Local => f.write_str("local control"),
            Part::Plugin(id) => write!(f, "actor of '{id}'"),
        }
    }
}

/// How the launcher ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Nothing is left.
    Clean,
    /// These did not end, not even when killed.
    LeftRunning(Vec<PluginId>),
    /// A part of the launcher crashed too often; what runs was left running.
    GaveUp(Part),
}

/// How fast everything is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// In order, with grace.
    Orderly,
    /// At once.
    Kill,
}

/// What root understands.
#[derive(Debug)]
pub enum RootMessage {
    /// The catalog has looked; the first time this lets the hub be brought up.
    Inventoried,
    /// A seat wants an actor.
    Seated(PluginId),
    /// A seat is gone; its actor goes too.
    Unseated(PluginId),
    /// Everything that starts with the launcher has been told to.
    BroughtUp,
    /// The launcher is to end. Once more means [`Haste::Kill`].
    End(Haste),
    /// Everything has ended, or will not.
    WoundDown(Ending),
}
