//! What a run tells of itself: facts for its actor, words for the view.
//!
//! Invariant: however much is told while the actor is busy, at most one fact of each kind and one nudge wait for it.

use super::{Posted, Seat, lock};
use crate::message::PluginMessage;
use os::told::{Doing, Said};
use std::sync::atomic::Ordering;
use supervision::Run;
use supervision::lifecycle::Event;

/// What a run says of itself, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Notified {
    doing: Option<Doing>,
    status: String,
}

impl Notified {
    fn add(&mut self, said: &Said) {
        self.doing = said.doing.or(self.doing);
        if let Some(status) = &said.status {
            self.status.clone_from(status);
        }
    }

    /// In one line.
    pub(super) fn text(&self) -> String {
        let doing = match self.doing {
            None | Some(Doing::Ready) => return self.status.clone(),
            Some(Doing::Reloading) => "reloading",
            Some(Doing::Stopping) => "stopping",
        };
        if self.status.is_empty() {
            return doing.to_owned();
        }
        format!("{doing}: {}", self.status)
    }
}

impl Seat {
    /// Takes in what a run told: facts for its actor, words for the view. However much is told while the actor is busy,
    /// at most one fact of each kind waits for it.
    pub(crate) fn take_in(&self, run: Run, said: Said) {
        {
            let mut state = self.state();
            if state.child.as_ref().is_some_and(|(live, _)| *live != run) {
                return;
            }
            state.notified.add(&said);
        }
        let mut posted = lock(&self.posted);
        for fact in facts(run, &said) {
            let kind = std::mem::discriminant(&fact);
            match posted.iter_mut().find_map(|waiting| match waiting {
                Posted::Event(event) if std::mem::discriminant(event) == kind => Some(event),
                Posted::Event(_) | Posted::ByFile { .. } => None,
            }) {
                Some(waiting) => *waiting = fact,
                None => posted.push_back(Posted::Event(fact)),
            }
        }
        drop(posted);
        if !self.nudged.swap(true, Ordering::AcqRel) {
            let _ = self.tell(PluginMessage::Look);
        }
    }

    /// The actor looks at what was posted: what is told from now on needs another nudge.
    pub(crate) fn looks(&self) {
        self.nudged.store(false, Ordering::Release);
    }
}

/// What the lifecycle is to know of it, in order.
fn facts(run: Run, said: &Said) -> impl Iterator<Item = Event> {
    let extend = said.extend.map(|by| Event::Extend { run, by });
    let every = said.every.map(|every| Event::WatchdogSet { run, every });
    let ready = said.ready.then_some(Event::Ready { run });
    let alive = said.alive.then_some(Event::Alive { run });
    let tripped = said.tripped.then_some(Event::WatchdogTripped { run });
    [extend, every, ready, alive, tripped].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn words_are_shown_and_facts_come_in_order() {
        let mut notified = Notified::default();
        assert_eq!(notified.text(), "");
        let mut tell = |message: &[u8]| {
            notified.add(&Said::read(message));
            notified.text()
        };
        assert_eq!(tell(b"READY=1\nSTATUS=up"), "up");
        assert_eq!(tell(b"RELOADING=1"), "reloading: up");
        assert_eq!(tell(b"READY=1\nSTATUS="), "");
        assert_eq!(tell(b"STOPPING=1"), "stopping");
        let run = Run(3);
        let said = Said::read(b"WATCHDOG=1\nEXTEND_TIMEOUT_USEC=5\nREADY=1");
        let by = Duration::from_micros(5);
        let wanted = [
            Event::Extend { run, by },
            Event::Ready { run },
            Event::Alive { run },
        ];
        assert_eq!(facts(run, &said).collect::<Vec<_>>(), wanted);
    }
}
