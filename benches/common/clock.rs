//! Time, and waiting that Ctrl-C ends.
//!
//! Invariant: whoever waits here learns of Ctrl-C as an error, so that everything is cleaned up on the way out.

use anyhow::{Context, Result, bail};
use nix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything takes; reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(300);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Nanoseconds of the clock that programs stamp with (`CLOCK_MONOTONIC`).
pub fn now() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).context("cannot read the clock")?;
    let time = Duration::from(time);
    Ok(u64::try_from(time.as_nanos())?)
}

/// Milliseconds from one time to a later one.
#[expect(
    clippy::cast_precision_loss,
    reason = "a year of nanoseconds is exact to a microsecond"
)]
pub fn ms(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e6
}

/// From here on Ctrl-C ends waiting instead of the process.
pub fn listen_for_interrupts() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        if let Ok(runtime) = runtime
            && runtime.block_on(tokio::signal::ctrl_c()).is_ok()
        {
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
    });
}

/// Sleeps, in small parts.
pub fn rest(time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        if INTERRUPTED.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
    Ok(())
}

/// Looks every `pause` until there is a value.
pub fn eventually<T>(
    what: &str,
    pause: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = look()? {
            return Ok(value);
        }
        if INTERRUPTED.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        if Instant::now() > until {
            bail!("waited in vain until {what}");
        }
        std::thread::sleep(pause);
    }
}
