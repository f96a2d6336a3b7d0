//! What systemd is told of us, and what of it no child may inherit.
//!
//! Invariants: without `NOTIFY_SOCKET` everything here does nothing and succeeds; our environment is never changed
//! (other threads read it), so [`is_ours_alone`] is asked when a child's environment is made.

use sd_notify::NotifyState;
use std::ffi::OsStr;
use std::io;
use std::time::Duration;

/// Variables by which systemd talks to us; a child that inherits them speaks in our name or waits for our descriptors.
pub const OURS_ALONE: [&str; 8] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDNAMES",
    "FDSTORE",
];

/// Whether a variable is one that no child may inherit from us.
#[must_use]
pub fn is_ours_alone(name: &OsStr) -> bool {
    OURS_ALONE.iter().any(|ours| name == OsStr::new(ours))
}

/// We are ready (READY=1).
///
/// # Errors
/// When the socket is given but does not take it.
pub fn ready() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready])
}

/// One line for `systemctl status` (STATUS=); line breaks become blanks.
///
/// # Errors
/// As [`ready`].
pub fn status(text: &str) -> io::Result<()> {
    let line = text.replace(['\n', '\r'], " ");
    sd_notify::notify(&[NotifyState::Status(&line)])
}

/// We read the configuration again (RELOADING=1 with the time, as `Type=notify-reload` wants); [`ready`] ends it.
///
/// # Errors
/// As [`ready`].
pub fn reloading() -> io::Result<()> {
    let now = NotifyState::monotonic_usec_now()?;
    sd_notify::notify(&[NotifyState::Reloading, now])
}

/// We are stopping (STOPPING=1).
///
/// # Errors
/// As [`ready`].
pub fn stopping() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Stopping])
}

/// We are alive (WATCHDOG=1).
///
/// # Errors
/// As [`ready`].
pub fn alive() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Watchdog])
}

/// How long systemd waits for [`alive`] before it kills us; `None` when it does not. Tell it twice in that time.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Helper;
    use std::os::unix::net::UnixDatagram;

    /// Not a test of its own: what systemd would start, started again by the test below.
    #[test]
    fn service() {
        if Helper::home().is_none() {
            return;
        }
        assert_eq!(watchdog(), Some(Duration::from_secs(2)));
        ready().unwrap();
        status("1 of 2\nrunning").unwrap();
        alive().unwrap();
        reloading().unwrap();
        stopping().unwrap();
    }

    #[tokio::test]
    async fn systemd_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let helper = Helper::start_with("notify::tests::service", folder.path(), |command| {
            command
                .env("NOTIFY_SOCKET", &path)
                .env("WATCHDOG_USEC", "2000000")
                .env_remove("WATCHDOG_PID");
        });
        helper.succeeds().await;
        socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 256];
        let mut told = String::new();
        while let Ok(length) = socket.recv(&mut buffer) {
            told.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
        let (before, after) = told.split_once("MONOTONIC_USEC=").unwrap();
        assert_eq!(
            before,
            "READY=1\nSTATUS=1 of 2 running\nWATCHDOG=1\nRELOADING=1\n"
        );
        assert!(after.ends_with("\nSTOPPING=1\n"), "{after}");
    }

    #[test]
    fn without_systemd_nothing_happens() {
        // Run by hand or by a build: nobody gave us a socket.
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            ready().unwrap();
            assert_eq!(watchdog(), None);
        }
    }

    #[test]
    fn what_is_ours_alone_is_known() {
        assert!(is_ours_alone(OsStr::new("NOTIFY_SOCKET")));
        assert!(!is_ours_alone(OsStr::new("HOME")));
    }
}
