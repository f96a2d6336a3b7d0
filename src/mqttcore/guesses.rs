//! Guessing passwords is slow: for each client, and from each address.
//!
//! Invariants:
//! - An attempt counts from its beginning, so that many at once gain nothing; one that succeeds is taken back.
//! - Who has logged in from an address before is slowed there by its own wrong passwords only: strangers cannot keep
//!   somebody out of a place that he comes from.
//! - Memory is bounded; what is forgotten first is what has been quiet longest.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::connections::network_of;
use crate::limits::Limits;
use crate::lock::lock;

/// Clients, addresses and pairs of both that are remembered.
const REMEMBERED: usize = 8192;
/// Wrong passwords are forgotten after so long without any.
const FORGET: Duration = Duration::from_secs(15 * 60);
/// An attempt that would have to wait longer is refused at once: its connection has little time.
const PATIENCE: Duration = Duration::from_secs(3);

/// An attempt that comes too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooEarly;

/// What wrong passwords are counted for. Names are of any length, so that their hashes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Guesser {
    /// Whoever tries this login.
    Login(u64),
    /// Whatever is tried from there.
    Address(IpAddr),
    /// This login from there.
    Both(u64, IpAddr),
}

/// What is known of a guesser.
#[derive(Debug, Clone, Copy)]
struct Count {
    wrong: u32,
    /// When the next attempt may be made.
    next: Instant,
    /// The last attempt.
    last: Instant,
}

#[derive(Debug, Default)]
struct Known {
    counts: HashMap<Guesser, Count>,
    /// Logins that succeeded, with the time of the last.
    good: HashMap<(u64, IpAddr), Instant>,
}

/// Counts wrong passwords.
#[derive(Debug)]
pub struct Guesses {
    hasher: RandomState,
    free: u32,
    address_free: u32,
    delay: Duration,
    most: Duration,
    known: Mutex<Known>,
}

/// An attempt that may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Not before.
    pub at: Instant,
    login: u64,
    address: IpAddr,
    /// It counts for the pair only.
    is_alone: bool,
}

impl Guesses {
    /// With nothing known.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Guesses {
            hasher: RandomState::new(),
            free: limits.free_guesses,
            address_free: limits.address_free_guesses,
            delay: limits.guess_delay,
            most: limits.guess_delay_max,
            known: Mutex::default(),
        }
    }

    /// Whether `login` may be tried from `address`, and when. Counts as wrong until [`Guesses::right`]. One that
    /// `has_no_password` at all cannot be guessed, and a plugin with a broken token shall slow only itself.
    ///
    /// # Errors
    /// Not soon enough; nothing is counted.
    pub fn begin(
        &self,
        login: &str,
        has_no_password: bool,
        address: IpAddr,
        now: Instant,
    ) -> Result<Attempt, TooEarly> {
        let login = self.hasher.hash_one(login);
        let address = network_of(address);
        let mut known = lock(&self.known);
        let attempt = Attempt {
            at: now,
            login,
            address,
            is_alone: has_no_password || known.good.contains_key(&(login, address)),
        };
        let guessers = attempt.guessers();
        let next = guessers.iter().flatten().filter_map(|guesser| {
            let count = known.counts.get(guesser)?;
            (now < count.last + FORGET).then_some(count.next)
        });
        let at = next.fold(now, Instant::max);
        if at > now + PATIENCE {
            return Err(TooEarly);
        }
        for guesser in guessers.into_iter().flatten() {
            let count = count_of(&mut known.counts, guesser, now);
            count.wrong += 1;
            count.last = at;
            // The other guesser's delay is not this one's.
            let delay = self.delay_after(guesser, count.wrong);
            if !delay.is_zero() {
                count.next = at + delay;
            }
        }
        Ok(Attempt { at, ..attempt })
    }

    /// The password was right.
    pub fn right(&self, attempt: &Attempt, now: Instant) {
        let mut known = lock(&self.known);
        for guesser in attempt.guessers().into_iter().flatten() {
            if let Some(count) = known.counts.get_mut(&guesser) {
                count.wrong = count.wrong.saturating_sub(1);
                let next = attempt.at + self.delay_after(guesser, count.wrong);
                count.next = count.next.min(next.max(now));
            }
        }
        if known.good.len() >= REMEMBERED
            && let Some(oldest) = oldest(&known.good, |at| *at)
        {
            known.good.remove(&oldest);
        }
        known.good.insert((attempt.login, attempt.address), now);
    }

    fn delay_after(&self, guesser: Guesser, wrong: u32) -> Duration {
        let free = match guesser {
            Guesser::Login(_) | Guesser::Both(..) => self.free,
            Guesser::Address(_) => self.address_free,
        };
        match wrong.checked_sub(free) {
            None | Some(0) => Duration::ZERO,
            Some(more) => self
                .delay
                .saturating_mul(1 << (more - 1).min(16))
                .min(self.most),
        }
    }
}

impl Attempt {
    fn guessers(&self) -> [Option<Guesser>; 2] {
        if self.is_alone {
            [Some(Guesser::Both(self.login, self.address)), None]
        } else {
            let login = Guesser::Login(self.login);
            [Some(login), Some(Guesser::Address(self.address))]
        }
    }
}

fn count_of(counts: &mut HashMap<Guesser, Count>, guesser: Guesser, now: Instant) -> &mut Count {
    if counts.len() >= REMEMBERED && !counts.contains_key(&guesser) {
        counts.retain(|_, count| now < count.last + FORGET);
        if counts.len() >= REMEMBERED
            && let Some(oldest) = oldest(counts, |count| count.last)
        {
            counts.remove(&oldest);
        }
    }
    let fresh = Count {
        wrong: 0,
        next: now,
        last: now,
    };
    let count = counts.entry(guesser).or_insert(fresh);
    if now >= count.last + FORGET {
        *count = fresh;
    }
    count
}

fn oldest<K: Copy + Eq + Hash, V>(map: &HashMap<K, V>, at: impl Fn(&V) -> Instant) -> Option<K> {
    map.iter()
        .min_by_key(|(_, value)| at(value))
        .map(|(key, _)| *key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: [u8; 4] = [10, 0, 0, 1];
    const AWAY: [u8; 4] = [10, 0, 0, 2];

    struct Bench {
        guesses: Guesses,
        now: Instant,
    }

    impl Bench {
        fn new() -> Bench {
            Bench {
                guesses: Guesses::new(&Limits {
                    address_free_guesses: 10,
                    ..Limits::default()
                }),
                now: Instant::now(),
            }
        }

        fn begin(&self, login: &str, from: [u8; 4]) -> Result<Attempt, TooEarly> {
            self.guesses.begin(login, false, from.into(), self.now)
        }

        /// Tries until it may not, and tells how often it might at once.
        fn wrong(&self, login: &str, from: [u8; 4]) -> usize {
            (0..1000)
                .take_while(|_| {
                    let attempt = self.begin(login, from);
                    attempt.is_ok_and(|attempt| attempt.at == self.now)
                })
                .count()
        }

        fn right(&self, login: &str, from: [u8; 4]) -> bool {
            let attempt = self.begin(login, from);
            attempt.is_ok_and(|attempt| {
                self.guesses.right(&attempt, self.now);
                attempt.at == self.now
            })
        }
    }

    #[test]
    fn a_login_is_slowed_from_wherever_it_is_tried_and_an_address_whatever_it_tries() {
        let bench = Bench::new();
        // The sixth is made at once, the seventh waits for it.
        assert_eq!(bench.wrong("joe", HOME), 6);
        assert_eq!(bench.wrong("joe", AWAY), 0, "the login");
        // With the seven above.
        assert_eq!(bench.wrong("jim", HOME), 4, "the address");
        assert_eq!(bench.wrong("jack", HOME), 0, "the address");
        assert_eq!(bench.wrong("jill", [10, 0, 0, 3]), 6, "neither");
        assert_eq!(bench.wrong("jack", [10, 0, 0, 4]), 5, "one was tried");
    }

    #[test]
    fn delays_double_up_to_the_most_and_are_forgotten() {
        let mut bench = Bench::new();
        let begun = bench.now;
        let mut made = 0;
        while bench.now < begun + Duration::from_secs(600) {
            while bench.begin("joe", HOME).is_ok() {
                made += 1;
            }
            bench.now += Duration::from_millis(500);
        }
        // 6 at once, then after 1, 2, 4, 8, 16 and then each 30 seconds.
        assert!((28..=32).contains(&made), "{made}");
        bench.now += FORGET + Duration::from_secs(60);
        assert_eq!(bench.wrong("joe", HOME), 6);
    }

    #[test]
    fn many_at_once_gain_nothing() {
        let bench = Bench::new();
        let attempts: Vec<_> = (0..100)
            .filter_map(|_| bench.begin("joe", HOME).ok())
            .collect();
        // Six at once, and those that wait 1 and 1 + 2 seconds.
        assert_eq!(attempts.len(), 8);
        assert_eq!(attempts[7].at, bench.now + Duration::from_secs(3));
    }

    #[test]
    fn who_was_here_before_is_not_kept_out_by_strangers() {
        let bench = Bench::new();
        assert!(bench.right("joe", HOME));
        assert_eq!(bench.wrong("joe", AWAY), 6);
        assert_eq!(bench.wrong("jim", HOME), 6);
        for _ in 0..100 {
            assert!(bench.right("joe", HOME), "right passwords cost nothing");
        }
        assert_eq!(bench.wrong("joe", HOME), 6, "but wrong ones do");
        assert!(!bench.right("joe", HOME));
    }

    #[test]
    fn a_right_password_does_not_pay_for_wrong_ones() {
        let bench = Bench::new();
        for _ in 0..5 {
            assert!(bench.begin("joe", HOME).is_ok());
            assert!(bench.right("mallory", HOME));
        }
        assert_eq!(bench.wrong("joe", HOME), 1);
    }

    #[test]
    fn a_broken_plugin_slows_itself_only() {
        let bench = Bench::new();
        let tries = |login| bench.guesses.begin(login, true, HOME.into(), bench.now);
        while tries("plugin").is_ok() {}
        assert!(tries("other").is_ok());
        assert_eq!(bench.wrong("joe", HOME), 6);
    }

    #[test]
    fn memory_is_bounded() {
        let bench = Bench::new();
        for n in 0..u32::try_from(REMEMBERED).unwrap() + 10 {
            let attempt = bench.begin(&n.to_string(), n.to_be_bytes());
            bench.guesses.right(&attempt.unwrap(), bench.now);
        }
        let known = lock(&bench.guesses.known);
        assert_eq!(known.counts.len(), REMEMBERED);
        assert_eq!(known.good.len(), REMEMBERED);
    }
}
