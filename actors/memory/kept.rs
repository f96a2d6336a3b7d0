//! The records of what is kept for ever: `{stores}/launcher/journal`. Pure.
//!
//! Invariants: run numbers and what is set by hand are never dropped; the pasts of plugins, which are only shown, are kept
//! of the newest [`MAX_PASTS`], so that plugins that come and go do not make the journal grow for ever.

use super::records::{Record, id_text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use supervision::hand::{ByHand, Setting};
use supervision::lifecycle::Wish;
use supervision::past::{End, Fault, LastExit, Past, PastWish};
use supervision::{ExitStatus, PluginId, Run};

/// Of so many plugins it is kept how they ended: four times what a launcher is made for.
pub(super) const MAX_PASTS: usize = 4096;

/// A record of what is kept for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Kept {
    /// The newest run of a plugin.
    Run {
        #[serde(with = "id_text")]
        id: PluginId,
        run: u64,
    },
    /// What somebody set.
    Hand {
        #[serde(with = "id_text")]
        id: PluginId,
        enabled: bool,
        who: String,
        when: i64,
    },
    /// What somebody set holds no more.
    Unhand {
        #[serde(with = "id_text")]
        id: PluginId,
    },
    /// Whether it was to be up; of form 2.
    Wish {
        #[serde(with = "id_text")]
        id: PluginId,
        up: bool,
        who: String,
        when: i64,
        #[serde(default, skip_serializing_if = "is_zero")]
        restarts: u32,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        rest: String,
    },
    /// How its newest runs ended; of form 2.
    End {
        #[serde(with = "id_text")]
        id: PluginId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit: Option<ExitOnDisk>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<FaultOnDisk>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tail: Vec<String>,
    },
}

/// A [`LastExit`] as the disk has it; neither code nor signal nor memory = unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExitOnDisk {
    run: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    core: bool,
    /// Killed for lack of it: bytes used and allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory: Option<(u64, u64)>,
    text: String,
    when: i64,
}

/// A [`Fault`] as the disk has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultOnDisk {
    run: u64,
    text: String,
    when: i64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde wants a function of a reference"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl From<LastExit> for ExitOnDisk {
    fn from(exit: LastExit) -> Self {
        let (code, signal, core, memory) = match exit.status {
            ExitStatus::Code(code) => (Some(code), None, false, None),
            ExitStatus::Signal {
                number,
                core_dumped,
            } => (None, Some(number), core_dumped, None),
            ExitStatus::OutOfMemory {
                used_bytes,
                limit_bytes,
            } => (None, None, false, Some((used_bytes, limit_bytes))),
            ExitStatus::Unknown => (None, None, false, None),
        };
        ExitOnDisk {
            run: exit.run.0,
            code,
            signal,
            core,
            memory,
            text: exit.text,
            when: exit.time_mse,
        }
    }
}

impl From<ExitOnDisk> for LastExit {
    fn from(exit: ExitOnDisk) -> Self {
        let status = match (exit.code, exit.signal, exit.memory) {
            (Some(code), _, _) => ExitStatus::Code(code),
            (None, Some(number), _) => ExitStatus::Signal {
                number,
                core_dumped: exit.core,
            },
            (None, None, Some((used_bytes, limit_bytes))) => ExitStatus::OutOfMemory {
                used_bytes,
                limit_bytes,
            },
            (None, None, None) => ExitStatus::Unknown,
        };
        LastExit {
            run: Run(exit.run),
            status,
            text: exit.text,
            time_mse: exit.when,
        }
    }
}

impl From<Fault> for FaultOnDisk {
    fn from(fault: Fault) -> Self {
        FaultOnDisk {
            run: fault.run.0,
            text: fault.text,
            when: fault.time_mse,
        }
    }
}

impl From<FaultOnDisk> for Fault {
    fn from(fault: FaultOnDisk) -> Self {
        Fault {
            run: Run(fault.run),
            text: fault.text,
            time_mse: fault.when,
        }
    }
}

/// What is kept for ever, as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Keepsakes {
    pub(super) runs: BTreeMap<PluginId, Run>,
    pub(super) hands: BTreeMap<PluginId, ByHand>,
    pub(super) pasts: BTreeMap<PluginId, Past>,
}

impl Keepsakes {
    /// The past of a plugin, to be changed; for a new one the oldest of too many goes.
    fn past(&mut self, id: &PluginId) -> &mut Past {
        if self.pasts.len() >= MAX_PASTS && !self.pasts.contains_key(id) {
            let oldest = self.pasts.iter().min_by_key(|(_, past)| past.newest_mse());
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                self.pasts.remove(&oldest);
            }
        }
        self.pasts.entry(id.clone()).or_default()
    }
}

impl Kept {
    /// The record of what is set by hand for a plugin.
    pub(super) fn hand(id: &PluginId, hand: Option<ByHand>) -> Self {
        let id = id.clone();
        match hand {
            Some(hand) => Kept::Hand {
                id,
                enabled: hand.setting == Setting::Enabled,
                who: hand.who,
                when: hand.when_mse,
            },
            None => Kept::Unhand { id },
        }
    }

    /// The record of a wish.
    pub(super) fn wish(id: &PluginId, wish: PastWish) -> Self {
        Kept::Wish {
            id: id.clone(),
            up: wish.wish == Wish::Up,
            who: wish.by,
            when: wish.since_mse,
            restarts: wish.restarts,
            rest: wish.rest,
        }
    }

    /// The record of how a plugin's newest runs ended.
    pub(super) fn end(id: &PluginId, end: End) -> Self {
        Kept::End {
            id: id.clone(),
            exit: end.exit.map(ExitOnDisk::from),
            fault: end.fault.map(FaultOnDisk::from),
            tail: end.tail,
        }
    }
}

/// What one record changes of the book; the key of what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    Run,
    Hand,
    Wish,
    End,
}

impl Record for Kept {
    const OUTLIVES_BOOT: bool = true;
    type Key = (About, PluginId);
    type Book = Keepsakes;

    fn key(&self) -> Self::Key {
        match self {
            Kept::Run { id, .. } => (About::Run, id.clone()),
            Kept::Hand { id, .. } | Kept::Unhand { id } => (About::Hand, id.clone()),
            Kept::Wish { id, .. } => (About::Wish, id.clone()),
            Kept::End { id, .. } => (About::End, id.clone()),
        }
    }

    fn enter(&self, book: &mut Keepsakes) {
        match self.clone() {
            Kept::Run { id, run } => {
                let newest = book.runs.entry(id).or_default();
                // A number once used is never used again (spec §1).
                *newest = (*newest).max(Run(run));
            }
            Kept::Hand {
                id,
                enabled,
                who,
                when,
            } => {
                let hand = ByHand {
                    setting: if enabled {
                        Setting::Enabled
                    } else {
                        Setting::Disabled
                    },
                    who,
                    when_mse: when,
                };
                book.hands.insert(id, hand);
            }
            Kept::Unhand { id } => {
                book.hands.remove(&id);
            }
            Kept::Wish {
                id,
                up,
                who,
                when,
                restarts,
                rest,
            } => {
                book.past(&id).wish = Some(PastWish {
                    wish: if up { Wish::Up } else { Wish::Down },
                    by: who,
                    since_mse: when,
                    restarts,
                    rest,
                });
            }
            Kept::End {
                id,
                exit,
                fault,
                tail,
            } => {
                book.past(&id).end = End {
                    exit: exit.map(LastExit::from),
                    fault: fault.map(Fault::from),
                    tail,
                };
            }
        }
    }

    fn all(book: &Keepsakes) -> Vec<Self> {
        let runs = book.runs.iter().map(|(id, run)| Kept::Run {
            id: id.clone(),
            run: run.0,
        });
        let hands = book
            .hands
            .iter()
            .map(|(id, hand)| Kept::hand(id, Some(hand.clone())));
        let wishes = book
            .pasts
            .iter()
            .filter_map(|(id, past)| past.wish.clone().map(|wish| Kept::wish(id, wish)));
        let ends = book
            .pasts
            .iter()
            .filter(|(_, past)| past.end != End::default() || past.wish.is_none())
            .map(|(id, past)| Kept::end(id, past.end.clone()));
        runs.chain(hands).chain(wishes).chain(ends).collect()
    }

    fn form(&self) -> u64 {
        match self {
            Kept::Run { .. } | Kept::Hand { .. } | Kept::Unhand { .. } => 1,
            Kept::Wish { .. } | Kept::End { .. } => 2,
        }
    }

    fn may_wait(&self) -> bool {
        match self {
            Kept::Run { .. } | Kept::Hand { .. } | Kept::Unhand { .. } => false,
            Kept::Wish { .. } | Kept::End { .. } => true,
        }
    }

    fn holds_at_once(&self) -> bool {
        match self {
            Kept::Run { .. } | Kept::Wish { .. } | Kept::End { .. } => true,
            Kept::Hand { .. } | Kept::Unhand { .. } => false,
        }
    }
}
