//! The wall clock as a value.
//!
//! Invariant: arithmetic saturates, so no date in a file, however strange, can end the program.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00Z, negative before. The unit of JWT claims (RFC 7519) and of certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(pub i64);

impl UnixTime {
    /// No machine that runs this is older (the Hub's baseline, HP 0). A clock that says so was never set: boards
    /// without a battery start at 1970 or at the date of their image.
    pub const EARLIEST_PLAUSIBLE: UnixTime = UnixTime(1_698_364_800);

    /// This moment and `delay`, saturating.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        UnixTime(self.0.saturating_add(seconds(delay)))
    }

    /// This moment less `delay`, saturating.
    #[must_use]
    pub fn before(self, delay: Duration) -> Self {
        UnixTime(self.0.saturating_sub(seconds(delay)))
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: UnixTime) -> Duration {
        Duration::from_secs(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The same moment as the system's type; the epoch when the system cannot express it.
    #[must_use]
    pub fn to_system(self) -> SystemTime {
        let distance = Duration::from_secs(self.0.unsigned_abs());
        let moment = if self.0 < 0 {
            UNIX_EPOCH.checked_sub(distance)
        } else {
            UNIX_EPOCH.checked_add(distance)
        };
        moment.unwrap_or(UNIX_EPOCH)
    }
}

impl fmt::Display for UnixTime {
    /// For people, who cannot count seconds: `2026-11-25T03:12:44Z`; as a number beyond all years.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.0) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => write!(f, "Unix time {}", self.0),
        }
    }
}

impl From<SystemTime> for UnixTime {
    fn from(moment: SystemTime) -> Self {
        match moment.duration_since(UNIX_EPOCH) {
            Ok(since) => UnixTime(seconds(since)),
            Err(before) => UnixTime(seconds(before.duration()).saturating_neg()),
        }
    }
}

/// The moment at the share `renew_at` (0 to 1, others are clamped, NaN is 1) of the life from `start` to `end`.
#[must_use]
pub(crate) fn share_of_life(start: UnixTime, end: UnixTime, renew_at: f64) -> UnixTime {
    let share = if renew_at.is_nan() {
        1.0
    } else {
        renew_at.clamp(0.0, 1.0)
    };
    start.after(end.since(start).mul_f64(share))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_a_date() {
        assert_eq!(UnixTime(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(UnixTime(1_795_576_364).to_string(), "2026-11-25T03:12:44Z");
        let beyond = UnixTime(i64::MAX).to_string();
        assert_eq!(beyond, format!("Unix time {}", i64::MAX));
    }

    #[test]
    fn the_ends_of_time_saturate() {
        for time in [i64::MIN, -1, 0, 1, i64::MAX].map(UnixTime) {
            let _ = time.to_system();
            assert!(time.after(Duration::MAX) >= time);
            assert!(time.before(Duration::MAX) <= time);
            assert_eq!(time.since(time), Duration::ZERO);
            for share in [f64::NAN, -1.0, 0.0, 0.5, 1.0, f64::INFINITY] {
                let _ = share_of_life(UnixTime(i64::MIN), time, share);
            }
        }
        assert_eq!(UnixTime::from(UnixTime(-5).to_system()), UnixTime(-5));
    }

    #[test]
    fn two_thirds_of_a_life() {
        assert_eq!(
            share_of_life(UnixTime(100), UnixTime(400), 0.5),
            UnixTime(250)
        );
        assert_eq!(
            share_of_life(UnixTime(400), UnixTime(100), 0.5),
            UnixTime(400)
        );
    }
}
