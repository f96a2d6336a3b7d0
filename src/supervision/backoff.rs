//! How long to wait before the next try.
//!
//! Invariants: a delay never exceeds the policy's `max_delay` (jitter included), never wraps, and only depends on the
//! rules for its class of failure, the number of failures in a row and the injected [`Jitter`] (spec §9).

use crate::policy::{BLOCKED_FIRST_DELAY, BLOCKED_MAX_DELAY, Delays};
use std::time::Duration;

/// A repeatable source of chance (splitmix64), so that many plugins that failed together do not come back together.
///
/// Seeded from outside; the same seed gives the same delays, which makes storms in tests repeatable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jitter {
    state: u64,
}

impl Jitter {
    /// A source that starts at `seed`.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Jitter { state: seed }
    }

    /// The next value, in `-1.0..1.0`.
    fn next(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        // 53 bits fill the mantissa, so the result is exact and below 1.
        let unit = (z >> 11) as f64 / (1_u64 << 53) as f64;
        unit.mul_add(2.0, -1.0)
    }
}

/// The delay before a restart, when `failures` starts or short runs in a row came before the one that just ended.
///
/// Zero failures give `first`; then `next`, `next·factor`, … up to `longest`, each varied by ± `jitter`.
#[must_use]
pub fn restart_delay(delays: &Delays, failures: u32, jitter: &mut Jitter) -> Duration {
    let base = match failures.checked_sub(1) {
        None => delays.first,
        Some(exponent) => grown(delays.next, delays.factor, exponent, delays.longest),
    };
    vary(base.min(delays.longest), delays.jitter, jitter).min(delays.longest)
}

/// The delay before a blocked start is tried again, after `attempts` tries that were blocked already.
#[must_use]
pub fn blocked_delay(attempts: u32, jitter: &mut Jitter) -> Duration {
    let base = grown(BLOCKED_FIRST_DELAY, 2.0, attempts, BLOCKED_MAX_DELAY);
    vary(base, 0.1, jitter).min(BLOCKED_MAX_DELAY)
}

/// `first·factor^exponent`, at most `max`; safe for any exponent and factor ≥ 1.
pub(crate) fn grown(first: Duration, factor: f64, exponent: u32, max: Duration) -> Duration {
    let exponent = i32::try_from(exponent).unwrap_or(i32::MAX);
    let seconds = first.as_secs_f64() * factor.max(1.0).powi(exponent);
    if seconds.is_finite() && seconds < max.as_secs_f64() {
        Duration::from_secs_f64(seconds)
    } else if first.is_zero() {
        Duration::ZERO
    } else {
        max
    }
}

/// `base` varied by ± `part` of itself.
pub(crate) fn vary(base: Duration, part: f64, jitter: &mut Jitter) -> Duration {
    if base.is_zero() {
        return base;
    }
    base.mul_f64(part.clamp(0.0, 1.0).mul_add(jitter.next(), 1.0).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{FailureClass, RestartPolicy};
    use proptest::prelude::*;

    #[test]
    fn delays_are_those_of_the_specification() {
        let policy = RestartPolicy {
            jitter: 0.0,
            ..RestartPolicy::default()
        };
        let mut jitter = Jitter::seeded(1);
        let seconds: Vec<u64> = (0..16)
            .map(|n| {
                restart_delay(&policy.of_class(FailureClass::Crash).delays, n, &mut jitter)
                    .as_secs()
            })
            .collect();
        assert_eq!(
            seconds,
            [
                0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600, 3600
            ]
        );
    }

    #[test]
    fn a_million_failures_do_not_wrap() {
        let policy = RestartPolicy::default();
        let mut jitter = Jitter::seeded(2);
        for failures in [1_000, 1_000_000, u32::MAX] {
            assert!(
                restart_delay(
                    &policy.of_class(FailureClass::Crash).delays,
                    failures,
                    &mut jitter
                ) >= Duration::from_secs(3240)
            );
        }
    }

    proptest! {
        #[test]
        fn a_delay_stays_in_its_range(failures: u32, seed: u64, part in 0.0..1.0_f64, factor in 1.0..10.0_f64) {
            let policy = RestartPolicy { jitter: part, factor, ..RestartPolicy::default() };
            let mut jitter = Jitter::seeded(seed);
            prop_assert!(restart_delay(&policy.of_class(FailureClass::Crash).delays, failures, &mut jitter) <= policy.max_delay);
            prop_assert!(blocked_delay(failures, &mut jitter) <= BLOCKED_MAX_DELAY);
        }

        #[test]
        fn jitter_is_within_its_part(seed: u64) {
            let policy = RestartPolicy::default();
            let delay = restart_delay(&policy.of_class(FailureClass::Crash).delays, 4, &mut Jitter::seeded(seed));
            prop_assert!(delay >= Duration::from_millis(7_200) && delay <= Duration::from_millis(8_800));
        }
    }
}
