//! Whether the wall clock was set.
//!
//! Invariants: from the first wait on no setting is missed; where the kernel does not tell of one (no descriptor left, a
//! program that fakes the clock) it is seen within half a minute, or a second while the clock was never set.

use creds::UnixTime;
use creds::clock::{Alarm, NEVER, Ring};
use os::readable::Readable;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::OnceCell;

/// How often it is looked whether the clock was set unseen.
const RARELY: Duration = Duration::from_secs(30);

/// The same while it was never set, and most likely will be soon.
const OFTEN: Duration = Duration::from_secs(1);

/// A clock that went by so much more or less than the time that passed was set; time servers that slow it down or speed it
/// up stay far below.
const LEAP: Duration = Duration::from_secs(5);

/// Tells when the wall clock is set.
#[derive(Default)]
pub(super) struct WallClock {
    /// With another descriptor of the same alarm, which is watched.
    alarm: OnceCell<(Alarm, Readable)>,
    seen: Mutex<Option<Seen>>,
}

/// Both clocks at one moment.
#[derive(Clone, Copy)]
struct Seen {
    wall: SystemTime,
    passed: Instant,
}

impl Seen {
    fn now() -> Self {
        Seen {
            wall: SystemTime::now(),
            passed: Instant::now(),
        }
    }

    /// Whether the wall clock was set between `before` and this moment.
    fn is_leap_from(self, before: Seen) -> bool {
        let passed = self.passed.saturating_duration_since(before.passed);
        match self.wall.duration_since(before.wall) {
            Ok(went) => went.abs_diff(passed) > LEAP,
            Err(back) => back.duration() + passed > LEAP,
        }
    }
}

impl WallClock {
    /// Waits until the wall clock is set. For one listener, within a runtime.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn was_set(&self) {
        tokio::select! {
            biased;
            () = self.is_told() => {}
            () = self.is_seen() => {}
        }
        *self.seen() = Some(Seen::now());
    }

    /// The kernel tells.
    async fn is_told(&self) {
        if let Err(error) = self.rings().await {
            tracing::debug!("the kernel does not tell when the clock is set: {error}");
            std::future::pending().await
        }
    }

    async fn rings(&self) -> io::Result<()> {
        let make = async || {
            let alarm = Alarm::new()?;
            let watched = Readable::new(alarm.as_fd().try_clone_to_owned()?)?;
            Ok::<_, io::Error>((alarm, watched))
        };
        let (alarm, watched) = self.alarm.get_or_try_init(make).await?;
        loop {
            let rung = watched.next(|| alarm.ring()).await?;
            alarm.set(NEVER)?;
            match rung {
                Ring::ClockSet => return Ok(()),
                Ring::Due => {}
            }
        }
    }

    /// The clock shows it.
    async fn is_seen(&self) {
        loop {
            let now = Seen::now();
            let before = self.seen().replace(now);
            if before.is_some_and(|before| now.is_leap_from(before)) {
                return;
            }
            let was_never_set = UnixTime::from(now.wall) < UnixTime::EARLIEST_PLAUSIBLE;
            tokio::time::sleep(if was_never_set { OFTEN } else { RARELY }).await;
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_goes_with_the_time_was_not_set() {
        let before = Seen::now();
        let after = |wall: SystemTime, seconds| Seen {
            wall,
            passed: before.passed + Duration::from_secs(seconds),
        };
        let second = Duration::from_secs(1);
        assert!(!after(before.wall + 30 * second, 30).is_leap_from(before));
        assert!(!after(before.wall + 33 * second, 30).is_leap_from(before));
        assert!(!after(before.wall - 2 * second, 1).is_leap_from(before));
        assert!(after(before.wall + 36 * second, 30).is_leap_from(before));
        assert!(after(before.wall, 6).is_leap_from(before));
        assert!(after(SystemTime::UNIX_EPOCH, 1).is_leap_from(before));
        assert!(after(before.wall + 3600 * second, 1).is_leap_from(before));
    }

    #[tokio::test]
    async fn a_clock_that_was_set_unseen_is_told_once() {
        let clock = WallClock::default();
        let moment = Duration::from_millis(50);
        let waited = tokio::time::timeout(moment, clock.was_set()).await;
        assert!(waited.is_err());
        *clock.seen() = Some(Seen {
            wall: SystemTime::UNIX_EPOCH,
            passed: Instant::now(),
        });
        clock.was_set().await;
        let waited = tokio::time::timeout(moment, clock.was_set()).await;
        assert!(waited.is_err());
    }
}
