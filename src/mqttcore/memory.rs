//! What a client got of late, to know a copy of it.
//!
//! Invariant: bounded; a message that was forgotten counts as new.

use std::collections::{BTreeSet, VecDeque};

use crate::packet::Header;

/// How many messages are remembered: copies of one are at most as far apart as there are publishers at work.
const REMEMBERED: usize = 512;

/// A message that a client got.
#[derive(Debug, Clone, Copy)]
struct Seen {
    number: u64,
    /// The highest quality of service it came with.
    qos: u8,
    /// How often the client had subscribed when it came last.
    subscribed: u64,
}

/// The messages a client got of late and the acknowledgements it owes for copies it did not get.
#[derive(Debug, Default)]
pub struct Memory {
    /// Oldest first.
    seen: VecDeque<Seen>,
    /// How often the client has subscribed.
    pub subscribed: u64,
    /// Packet ids of withheld copies of QoS 2, between PUBREC and PUBCOMP.
    pub released: BTreeSet<u16>,
}

impl Memory {
    /// Whether a copy adds nothing to what the client got; remembers it.
    pub fn is_duplicate(&mut self, number: u64, header: Header) -> bool {
        let (qos, subscribed) = (header.qos(), self.subscribed);
        if let Some(seen) = self.seen.iter_mut().rev().find(|one| one.number == number) {
            let is_asked_for = header.is_retained() && seen.subscribed < subscribed;
            let duplicate = seen.qos >= qos && !is_asked_for;
            seen.qos = seen.qos.max(qos);
            seen.subscribed = subscribed;
            return duplicate;
        }
        if self.seen.len() == REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back(Seen {
            number,
            qos,
            subscribed,
        });
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_bounded_and_forgets_the_oldest() {
        let mut memory = Memory::default();
        for number in 0..2 * REMEMBERED as u64 {
            assert!(!memory.is_duplicate(number, header(0x32)));
            assert!(memory.is_duplicate(number, header(0x32)));
        }
        assert_eq!(memory.seen.len(), REMEMBERED);
    }

    fn header(first: u8) -> Header {
        Header {
            first,
            header: 2,
            body: 9,
        }
    }

    #[test]
    fn a_kept_message_comes_again_for_a_new_subscription_only() {
        let (live, kept) = (header(0x32), header(0x33));
        let mut memory = Memory::default();
        assert!(!memory.is_duplicate(1, live));
        assert!(memory.is_duplicate(1, kept), "kept as it was published");
        memory.subscribed += 1;
        assert!(memory.is_duplicate(1, live));
        memory.subscribed += 1;
        assert!(!memory.is_duplicate(1, kept));
        assert!(memory.is_duplicate(1, kept));
    }
}
