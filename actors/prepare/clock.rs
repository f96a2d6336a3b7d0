//! Whether the wall clock was set.
//!
//! Invariant: from the first wait on no setting is missed; without such an alarm (no descriptor left) nobody waits in
//! vain for anything else.

use creds::clock::{Alarm, NEVER, Ring};
use os::readable::Readable;
use std::io;
use std::os::fd::AsFd;
use tokio::sync::OnceCell;

/// Tells when the wall clock is set.
#[derive(Default)]
pub(super) struct WallClock {
    /// With another descriptor of the same alarm, which is watched.
    alarm: OnceCell<(Alarm, Readable)>,
}

impl WallClock {
    /// Waits until the wall clock is set. For one listener, within a runtime.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn was_set(&self) {
        if let Err(error) = self.rings().await {
            tracing::warn!(
                "it cannot be seen when the clock is set: {error}; credentials are then judged again at the next start"
            );
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
}
