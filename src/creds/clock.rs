//! An alarm by the wall clock: "at this Unix time, or when somebody sets the clock", awaited and never polled.
//!
//! Invariants:
//! - Whoever sets the clock rings every alarm, whatever it is set to: nothing that was decided by a wrong clock outlives it
//!   (spec §6, boards without a battery). From [`Alarm::new`] on no such moment is missed, also none before the first
//!   [`Alarm::set`] or between a ring and the next one.
//! - A clock that is merely slowed down or sped up, as time servers do, rings nothing.
//! - The alarm does not read the clock; its owner judges by [`UnixTime`] after each ring.
//!
//! It is a descriptor that becomes readable: for `poll`, in a thread, or for any runtime.
//!
//! ```text
//! let alarm = Alarm::new()?;
//! loop {
//!     let now = UnixTime::from(SystemTime::now());     // first the alarm exists, then the clock is read
//!     let next = judge_everything(now);                // the earliest moment at which something becomes due
//!     alarm.set(next)?;
//!     loop {
//!         wait until it is readable;
//!         match alarm.ring()? {
//!             Some(Ring::Due | Ring::ClockSet) => break,
//!             None => {}                               // nothing after all
//!         }
//!     }
//! }
//! ```
//!
//! Something that stays due whatever is done about it needs a floor of its owner's: `set` in the past rings at once.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::time::UnixTime;

/// The latest moment an alarm can be set to, in 2255: the kernel counts nanoseconds in 63 bits.
pub const NEVER: UnixTime = UnixTime(9_000_000_000);

/// Why an alarm rang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// The moment has come.
    Due,
    /// The clock was set, or the machine slept: whatever was decided by the clock is to be judged again.
    ClockSet,
}

/// An alarm by the wall clock, set to [`NEVER`] at first.
#[derive(Debug)]
pub struct Alarm {
    timer: TimerFd,
    /// The clock was set while the alarm was, and nobody was told yet.
    missed: AtomicBool,
}

impl Alarm {
    /// Makes one. From now on it rings when the clock is set.
    ///
    /// # Errors
    /// No descriptor is left, or the kernel has no such timers.
    pub fn new() -> io::Result<Alarm> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let alarm = Alarm {
            timer: TimerFd::new(ClockId::CLOCK_REALTIME, flags)?,
            missed: AtomicBool::new(false),
        };
        alarm.set(NEVER)?;
        Ok(alarm)
    }

    /// Rings at `at`, in place of any earlier setting; at once when that has passed. Later than [`NEVER`] is [`NEVER`].
    ///
    /// # Errors
    /// The kernel refuses, which it has no reason for.
    pub fn set(&self, at: UnixTime) -> io::Result<()> {
        match self.arm(at) {
            // Armed, but the clock was set since the last ring, and this call was the one that was told.
            Err(Errno::ECANCELED) => {
                self.missed.store(true, Ordering::Release);
                Ok(self.arm(LONG_AGO).or_else(once_more)?)
            }
            result => Ok(result?),
        }
    }

    fn arm(&self, at: UnixTime) -> nix::Result<()> {
        // Zero would be no alarm at all.
        let at = TimeSpec::new(at.clamp(LONG_AGO, NEVER).0, 0);
        let flags =
            TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        self.timer.set(Expiration::OneShot(at), flags)
    }

    /// Whether it has rung since it was asked last; `None` when not. Never blocks.
    ///
    /// # Errors
    /// The kernel refuses, which it has no reason for.
    pub fn ring(&self) -> io::Result<Option<Ring>> {
        let rung = rung(nix::unistd::read(&self.timer, &mut [0; 8]))?;
        match rung {
            Some(ring) if !self.missed.swap(false, Ordering::AcqRel) => Ok(Some(ring)),
            Some(_) => Ok(Some(Ring::ClockSet)),
            None => Ok(None),
        }
    }
}

/// One second after the epoch: passed on every machine that has been up for a second.
const LONG_AGO: UnixTime = UnixTime(1);

/// Armed all the same.
fn once_more(error: Errno) -> nix::Result<()> {
    if error == Errno::ECANCELED {
        return Ok(());
    }
    Err(error)
}

/// What a read of the descriptor says (timerfd_create(2)).
fn rung(read: nix::Result<usize>) -> io::Result<Option<Ring>> {
    let error = match read {
        Ok(_) => return Ok(Some(Ring::Due)),
        Err(error) => error,
    };
    if error == Errno::ECANCELED {
        return Ok(Some(Ring::ClockSet));
    }
    if error == Errno::EAGAIN || error == Errno::EINTR {
        return Ok(None);
    }
    Err(error.into())
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

/// As runtimes want it.
impl AsRawFd for Alarm {
    fn as_raw_fd(&self) -> RawFd {
        self.timer.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn is_readable(alarm: &Alarm, within: Duration) -> bool {
        let mut fds = [PollFd::new(alarm.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::try_from(within).unwrap()).unwrap() == 1
    }

    #[test]
    fn it_rings_at_its_moment_and_once() {
        let alarm = Alarm::new().unwrap();
        assert_eq!(alarm.ring().unwrap(), None);
        let begun = Instant::now();
        let before = SystemTime::now();
        let at = UnixTime::from(before).after(Duration::from_secs(1));
        alarm.set(at).unwrap();
        assert_eq!(alarm.ring().unwrap(), None);
        assert!(is_readable(&alarm, Duration::from_secs(20)));
        assert_eq!(alarm.ring().unwrap(), Some(Ring::Due));
        assert!(UnixTime::from(SystemTime::now()) >= at && begun.elapsed().as_secs() < 20);
        assert_eq!(alarm.ring().unwrap(), None);
    }

    #[test]
    fn the_past_rings_at_once_and_the_end_of_time_never() {
        let alarm = Alarm::new().unwrap();
        for past in [i64::MIN, -1, 0, 1, 1_000_000_000].map(UnixTime) {
            alarm.set(past).unwrap();
            assert!(is_readable(&alarm, Duration::from_secs(20)), "{past:?}");
            assert_eq!(alarm.ring().unwrap(), Some(Ring::Due));
        }
        alarm.set(LONG_AGO).unwrap();
        alarm.set(UnixTime(i64::MAX)).unwrap();
        assert!(!is_readable(&alarm, Duration::ZERO));
        assert_eq!(alarm.ring().unwrap(), None);
    }

    #[test]
    fn a_clock_that_is_set_is_told_by_a_read() {
        assert_eq!(rung(Ok(8)).unwrap(), Some(Ring::Due));
        assert_eq!(rung(Err(Errno::ECANCELED)).unwrap(), Some(Ring::ClockSet));
        assert_eq!(rung(Err(Errno::EAGAIN)).unwrap(), None);
        assert!(rung(Err(Errno::EBADF)).is_err());
        assert!(once_more(Errno::ECANCELED).is_ok() && once_more(Errno::EINVAL).is_err());
    }

    #[test]
    fn a_clock_that_was_set_while_the_alarm_was_is_told_by_the_next_ring() {
        let alarm = Alarm::new().unwrap();
        // As `set` leaves it then.
        alarm.missed.store(true, Ordering::Release);
        alarm.arm(LONG_AGO).unwrap();
        assert_eq!(alarm.ring().unwrap(), Some(Ring::ClockSet));
        alarm.set(LONG_AGO).unwrap();
        assert_eq!(alarm.ring().unwrap(), Some(Ring::Due));
    }
}
