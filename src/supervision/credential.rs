//! Whose credentials are looked at next, while plugins run (spec §6).
//!
//! Invariants:
//! - at most [`AT_ONCE`] are under way, and nobody twice;
//! - what changes while somebody's are under way is not lost: they are looked at once more;
//! - nobody is taken before their time, and while nothing is due there is no deadline but the next one;
//! - those that were made together come due spread, and those that fail come back later each time, up to [`MAX_DELAY`].

use crate::MonoTime;
use crate::backoff::{Jitter, grown, vary};
use std::collections::BTreeMap;
use std::time::Duration;

/// So many are looked at, and renewed, at once: a day on which all are due is no burst for the bus.
pub const AT_ONCE: usize = 4;

/// The delay after a first failure; doubles up to [`MAX_DELAY`].
pub const FIRST_DELAY: Duration = Duration::from_secs(2);

/// A renewal that fails is tried at least this often.
pub const MAX_DELAY: Duration = Duration::from_secs(3600);

/// By up to this part of the time until they are due they are looked at later, but no later than by [`MAX_SPREAD`].
pub const SPREAD: f64 = 0.02;

/// See [`SPREAD`].
pub const MAX_SPREAD: Duration = Duration::from_secs(3600);

/// Who is in order is not looked at again sooner, whatever was said of when it is due, unless something changes.
pub const SOONEST: Duration = Duration::from_secs(5);

/// Part of a delay by which it varies to both sides.
const JITTER: f64 = 0.25;

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All is in order; to be looked at again after this time, or, without one, when something changes.
    InOrder(Option<Duration>),
    /// Something could not be renewed; it is tried again.
    Failed,
    /// It needs the bus, which is away: nothing to be tried until it is back.
    NeedsBus,
}

/// How it stands with one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Nothing is due until something changes.
    Rests,
    /// To be looked at, from then on.
    Waits { from: MonoTime },
    /// Being looked at; whether once more then, as something has changed since.
    UnderWay { again: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    state: State,
    /// How often in a row it failed.
    failures: u32,
}

/// Everybody whose credentials are kept up, by key.
#[derive(Debug, Clone)]
pub struct Renewals<K> {
    entries: BTreeMap<K, Entry>,
    under_way: usize,
    jitter: Jitter,
}

impl<K: Ord + Clone> Renewals<K> {
    /// Nobody yet; chance begins at `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Renewals {
            entries: BTreeMap::new(),
            under_way: 0,
            jitter: Jitter::seeded(seed),
        }
    }

    /// Keeps those of `key` up from now on; they were found in order a moment ago, and are due after `next`.
    pub fn found_in_order(&mut self, now: MonoTime, key: K, next: Option<Duration>) {
        // What is under way began before or after; it tells in either case what is on disk then.
        if self
            .entries
            .get(&key)
            .is_some_and(|entry| matches!(entry.state, State::UnderWay { .. }))
        {
            return;
        }
        let state = self.after(now, next);
        self.entries.insert(key, Entry { state, failures: 0 });
    }

    /// Keeps those of `key` up from now on; what there is of them is not known, so they are due.
    pub fn add(&mut self, now: MonoTime, key: K) {
        let entry = self.entries.entry(key).or_insert(Entry {
            state: State::Rests,
            failures: 0,
        });
        entry.state = changed(&entry.state, now);
    }

    /// Something of `key` has changed: due now. Nothing when it is not kept up.
    pub fn look_at(&mut self, now: MonoTime, key: &K) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.state = changed(&entry.state, now);
            entry.failures = 0;
        }
    }

    /// Something that all hang on has changed: all are due now.
    pub fn look_at_all(&mut self, now: MonoTime) {
        for entry in self.entries.values_mut() {
            entry.state = changed(&entry.state, now);
            entry.failures = 0;
        }
    }

    /// Those of `key` are kept up no more. What is under way goes on, and its outcome is not asked for.
    pub fn remove(&mut self, key: &K) {
        let removed = self.entries.remove(key);
        if removed.is_some_and(|entry| matches!(entry.state, State::UnderWay { .. })) {
            self.under_way = self.under_way.saturating_sub(1);
        }
    }

    /// Those that are due at `now` and may be looked at, the longest due first; they are under way from now on.
    pub fn take(&mut self, now: MonoTime) -> Vec<K> {
        let mut due: Vec<(MonoTime, K)> = self
            .entries
            .iter()
            .filter_map(|(key, entry)| match entry.state {
                State::Waits { from } if from <= now => Some((from, key.clone())),
                State::Waits { .. } | State::Rests | State::UnderWay { .. } => None,
            })
            .collect();
        due.sort();
        due.truncate(AT_ONCE.saturating_sub(self.under_way));
        for (_, key) in &due {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.state = State::UnderWay { again: false };
                self.under_way += 1;
            }
        }
        due.into_iter().map(|(_, key)| key).collect()
    }

    /// What came of those of `key`. Nothing when they are not under way.
    pub fn done(&mut self, now: MonoTime, key: &K, outcome: Outcome) {
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        let State::UnderWay { again } = entry.state else {
            return;
        };
        self.under_way = self.under_way.saturating_sub(1);
        let failures = entry.failures;
        let (state, failures) = match outcome {
            _ if again => (State::Waits { from: now }, 0),
            Outcome::InOrder(next) => (self.after(now, next), 0),
            Outcome::Failed => {
                let base = grown(FIRST_DELAY, 2.0, failures, MAX_DELAY);
                let delay = vary(base, JITTER, &mut self.jitter).min(MAX_DELAY);
                let from = now.after(delay);
                (State::Waits { from }, failures.saturating_add(1))
            }
            Outcome::NeedsBus => (State::Rests, 0),
        };
        self.entries.insert(key.clone(), Entry { state, failures });
    }

    /// When [`Renewals::take`] will have somebody; none as long as nothing comes due, or enough are under way.
    #[must_use]
    pub fn next_deadline(&self) -> Option<MonoTime> {
        if self.under_way >= AT_ONCE {
            return None;
        }
        let times = self.entries.values().filter_map(|entry| match entry.state {
            State::Waits { from } => Some(from),
            State::Rests | State::UnderWay { .. } => None,
        });
        times.min()
    }

    fn after(&mut self, now: MonoTime, next: Option<Duration>) -> State {
        let Some(next) = next else {
            return State::Rests;
        };
        let next = next.max(SOONEST);
        let spread = next.mul_f64(SPREAD).min(MAX_SPREAD);
        let later = vary(spread, 1.0, &mut self.jitter) / 2;
        State::Waits {
            from: now.after(next).after(later),
        }
    }
}

/// What becomes of a state when something has changed.
fn changed(state: &State, now: MonoTime) -> State {
    match state {
        State::Rests => State::Waits { from: now },
        State::Waits { from } => State::Waits {
            from: now.min(*from),
        },
        State::UnderWay { .. } => State::UnderWay { again: true },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const HOUR: Duration = Duration::from_secs(3600);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_origin(Duration::from_secs(seconds))
    }

    /// Takes whoever is due next, wherever that is.
    fn pass(all: &mut Renewals<u32>) -> (MonoTime, Vec<u32>) {
        let now = all.next_deadline().unwrap();
        let taken = all.take(now);
        assert!(!taken.is_empty());
        (now, taken)
    }

    #[test]
    fn without_anything_due_there_is_no_deadline() {
        let mut all = Renewals::seeded(1);
        assert_eq!(all.next_deadline(), None);
        all.found_in_order(at(0), 1, None);
        assert_eq!(all.next_deadline(), None);
        all.look_at(at(5), &2);
        assert_eq!(all.next_deadline(), None, "of that one nothing is known");
        all.look_at(at(5), &1);
        assert_eq!(all.next_deadline(), Some(at(5)));
        assert_eq!(all.take(at(5)), [1]);
        assert_eq!(all.next_deadline(), None);
        all.done(at(6), &1, Outcome::InOrder(None));
        assert_eq!(all.next_deadline(), None);
    }

    #[test]
    fn a_thousand_that_were_made_together_come_due_spread_and_few_at_once() {
        let mut all = Renewals::seeded(7);
        for key in 0..1_000 {
            all.found_in_order(at(0), key, Some(YEAR));
        }
        let (mut most, mut first, mut last) = (0, None, at(0));
        let mut seen = BTreeSet::new();
        while let Some(now) = all.next_deadline() {
            let taken = all.take(now);
            most = most.max(taken.len());
            first.get_or_insert(now);
            last = now;
            for key in taken {
                assert!(seen.insert(key));
                all.done(now, &key, Outcome::InOrder(None));
            }
        }
        assert_eq!(seen.len(), 1_000);
        assert!(first.unwrap() >= at(0).after(YEAR));
        let span = last.since(first.unwrap());
        assert!(span > HOUR / 2 && span <= HOUR, "{span:?}");
        assert!(most <= AT_ONCE);
    }

    #[test]
    fn what_is_due_at_once_however_often_it_is_looked_at_keeps_nobody_busy() {
        let mut all = Renewals::seeded(1);
        all.found_in_order(at(0), 1, Some(Duration::ZERO));
        let mut before = at(0);
        for _ in 0..10 {
            let (now, _) = pass(&mut all);
            assert!(now.since(before) >= SOONEST);
            before = now;
            all.done(now, &1, Outcome::InOrder(Some(Duration::ZERO)));
        }
    }

    #[test]
    fn what_changes_while_it_is_under_way_is_looked_at_once_more() {
        let mut all = Renewals::seeded(1);
        all.add(at(0), 1);
        assert_eq!(all.take(at(0)), [1]);
        all.look_at_all(at(1));
        all.look_at(at(1), &1);
        assert_eq!(all.take(at(1)), []);
        all.done(at(2), &1, Outcome::NeedsBus);
        assert_eq!(all.take(at(2)), [1]);
        all.done(at(3), &1, Outcome::NeedsBus);
        assert_eq!(all.next_deadline(), None);
    }

    #[test]
    fn who_is_removed_while_under_way_makes_room() {
        let mut all = Renewals::seeded(1);
        for key in 0..5 {
            all.add(at(0), key);
        }
        assert_eq!(all.take(at(0)), [0, 1, 2, 3]);
        assert_eq!(all.next_deadline(), None);
        all.remove(&2);
        all.done(at(1), &2, Outcome::Failed);
        assert_eq!(all.take(at(1)), [4]);
        // One that is back is known anew; the outcome of the look before is still one of it.
        all.remove(&0);
        all.add(at(1), 0);
        all.done(at(1), &0, Outcome::InOrder(None));
        all.done(at(1), &1, Outcome::InOrder(None));
        assert_eq!(all.take(at(1)), [0]);
    }

    #[test]
    fn failures_come_back_later_each_time_and_a_change_at_once() {
        let mut all = Renewals::seeded(3);
        all.add(at(0), 1);
        let mut before = at(0);
        let mut delays = Vec::new();
        for _ in 0..14 {
            let (now, _) = pass(&mut all);
            delays.push(now.since(before));
            before = now;
            all.done(now, &1, Outcome::Failed);
        }
        assert!(delays[..11].is_sorted(), "{delays:?}");
        assert!(delays[1] >= FIRST_DELAY / 2 && delays[1] <= FIRST_DELAY * 2);
        assert!(delays[13] > MAX_DELAY / 2 && delays[13] <= MAX_DELAY);
        all.look_at_all(before);
        assert_eq!(pass(&mut all).0, before);
        all.done(before, &1, Outcome::Failed);
        assert!(
            pass(&mut all).0.since(before) <= FIRST_DELAY * 2,
            "the count begins anew"
        );
    }

    #[derive(Debug, Clone)]
    enum Step {
        Found(u32, Option<u32>),
        Add(u32),
        LookAt(u32),
        LookAtAll,
        Remove(u32),
        Pass(u32),
        Done(usize, Outcome),
    }

    fn step() -> impl Strategy<Value = Step> {
        let outcome = prop_oneof![
            Just(Outcome::Failed),
            Just(Outcome::NeedsBus),
            proptest::option::of(0..1_000_u64)
                .prop_map(|after| Outcome::InOrder(after.map(Duration::from_secs))),
        ];
        prop_oneof![
            (0..8_u32, proptest::option::of(0..1_000_u32)).prop_map(|(k, d)| Step::Found(k, d)),
            (0..8_u32).prop_map(Step::Add),
            (0..8_u32).prop_map(Step::LookAt),
            Just(Step::LookAtAll),
            (0..8_u32).prop_map(Step::Remove),
            (0..500_u32).prop_map(Step::Pass),
            (0..8_usize, outcome).prop_map(|(n, o)| Step::Done(n, o)),
        ]
    }

    proptest! {
        /// Against the plain rules: few at once, nobody twice or before their time, nobody forgotten.
        #[test]
        fn whatever_happens_the_invariants_hold(seed: u64, steps in proptest::collection::vec(step(), 1..200)) {
            let mut all = Renewals::seeded(seed);
            let mut now = at(0);
            let mut under_way: BTreeSet<u32> = BTreeSet::new();
            let mut kept: BTreeSet<u32> = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Found(key, next) => {
                        all.found_in_order(now, key, next.map(|s| Duration::from_secs(s.into())));
                        kept.insert(key);
                    }
                    Step::Add(key) => {
                        all.add(now, key);
                        kept.insert(key);
                    }
                    Step::LookAt(key) => all.look_at(now, &key),
                    Step::LookAtAll => all.look_at_all(now),
                    Step::Remove(key) => {
                        all.remove(&key);
                        kept.remove(&key);
                        under_way.remove(&key);
                    }
                    Step::Pass(seconds) => now = now.after(Duration::from_secs(seconds.into())),
                    Step::Done(number, outcome) => {
                        if let Some(key) = under_way.iter().nth(number).copied() {
                            all.done(now, &key, outcome);
                            under_way.remove(&key);
                        }
                    }
                }
                let deadline = all.next_deadline();
                for key in all.take(now) {
                    prop_assert!(deadline.is_some_and(|at| at <= now), "{key} before its time");
                    prop_assert!(kept.contains(&key) && under_way.insert(key));
                }
                prop_assert!(under_way.len() <= AT_ONCE);
                prop_assert!(all.next_deadline().is_none_or(|at| at > now));
            }
            // In the end everybody has a turn again.
            for key in std::mem::take(&mut under_way) {
                all.done(now, &key, Outcome::NeedsBus);
            }
            all.look_at_all(now);
            let mut seen = BTreeSet::new();
            loop {
                let taken = all.take(now);
                if taken.is_empty() {
                    break;
                }
                for key in taken {
                    all.done(now, &key, Outcome::InOrder(None));
                    seen.insert(key);
                }
            }
            prop_assert_eq!(seen, kept);
            prop_assert_eq!(all.next_deadline(), None);
        }
    }
}
