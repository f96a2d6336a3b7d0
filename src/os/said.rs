//! What a message to `NOTIFY_SOCKET` says (sd_notify(3)). Pure.
//!
//! Invariants: whatever is not understood says nothing and does no harm to what is; what is kept of a message is bounded.

use std::time::Duration;

/// So much of a status text is kept, in bytes.
pub const STATUS_BYTES: usize = 256;

/// Longer times mean the same as this one.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a program does, by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It is ready for what it is there for: `READY=1`.
    Ready,
    /// It reads its settings again: `RELOADING=1`.
    Reloading,
    /// It is about to end: `STOPPING=1`.
    Stopping,
}

/// What was said by one message, or by several: of each thing the last word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// `READY=1` was said, whatever came after it.
    pub ready: bool,
    /// What it does.
    pub doing: Option<Doing>,
    /// `STATUS=`: at most [`STATUS_BYTES`] of it; what is not UTF-8 is replaced. Not escaped.
    pub status: Option<String>,
    /// `WATCHDOG=1`: a sign of life.
    pub alive: bool,
    /// `WATCHDOG=trigger`: it says itself that it has failed.
    pub tripped: bool,
    /// `WATCHDOG_USEC=`: so often it will give a sign; zero = no more.
    pub every: Option<Duration>,
    /// `EXTEND_TIMEOUT_USEC=`: so much time it needs from now on.
    pub extend: Option<Duration>,
    /// `MAINPID=` was said, which has no effect here.
    pub main_pid: bool,
}

impl Said {
    /// Reads a message: `NAME=value` lines. As systemd does, one with a zero byte in it is not understood at all.
    #[must_use]
    pub fn read(message: &[u8]) -> Said {
        let message = message.strip_suffix(b"\0").unwrap_or(message);
        let mut said = Said::default();
        if message.contains(&0) {
            return said;
        }
        for line in message.split(|byte| *byte == b'\n') {
            let mut halves = line.splitn(2, |byte| *byte == b'=');
            if let (Some(name), Some(value)) = (halves.next(), halves.next()) {
                said.note(name, value);
            }
        }
        said
    }

    fn note(&mut self, name: &[u8], value: &[u8]) {
        match (name, value) {
            (b"READY", b"1") => {
                self.ready = true;
                self.doing = Some(Doing::Ready);
            }
            (b"RELOADING", b"1") => self.doing = Some(Doing::Reloading),
            (b"STOPPING", b"1") => self.doing = Some(Doing::Stopping),
            (b"STATUS", text) => self.status = Some(bounded(text)),
            (b"WATCHDOG", b"1") => self.alive = true,
            (b"WATCHDOG", b"trigger") => self.tripped = true,
            (b"WATCHDOG_USEC", number) => self.every = micros(number).or(self.every),
            (b"EXTEND_TIMEOUT_USEC", number) => self.extend = micros(number).or(self.extend),
            (b"MAINPID", _) => self.main_pid = true,
            // BARRIER and FDSTORE are answered by closing what came along.
            (_, _) => {}
        }
    }

    /// Whether nothing was said that means something here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Said::default()
    }

    /// Adds what was said later.
    pub fn add(&mut self, later: Said) {
        self.ready |= later.ready;
        self.alive |= later.alive;
        self.tripped |= later.tripped;
        self.main_pid |= later.main_pid;
        self.doing = later.doing.or(self.doing);
        self.every = later.every.or(self.every);
        self.extend = later.extend.or(self.extend);
        if later.status.is_some() {
            self.status = later.status;
        }
    }
}

/// Microseconds, written in digits; none for anything else.
fn micros(number: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(number).ok()?.trim_ascii();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // More than fits is for ever, as libsystemd's own "infinity" is.
    let micros = text.parse().unwrap_or(u64::MAX);
    Some(Duration::from_micros(micros).min(LONGEST))
}

fn bounded(text: &[u8]) -> String {
    let short = text.len() <= STATUS_BYTES;
    // What is cut away is more than a replacement adds.
    let mut kept = String::from_utf8_lossy(text.get(..STATUS_BYTES).unwrap_or(text)).into_owned();
    if !short || kept.len() > STATUS_BYTES {
        let room = STATUS_BYTES - '…'.len_utf8();
        kept.truncate(kept.floor_char_boundary(room));
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(change: impl FnOnce(&mut Said)) -> Said {
        let mut said = Said::default();
        change(&mut said);
        said
    }

    #[test]
    fn each_word_has_its_meaning() {
        let ready = said(|s| {
            s.ready = true;
            s.doing = Some(Doing::Ready);
        });
        let second = Duration::from_secs(1);
        for (message, wanted) in [
            ("READY=1", ready.clone()),
            ("READY=1\n", ready.clone()),
            ("\nREADY=1\0", ready.clone()),
            ("X=READY=1\nREADY=1\r\nREADY=10\n READY=1", Said::default()),
            ("READY=1\0STATUS=x", Said::default()),
            ("", Said::default()),
            ("=\n==\n=1", Said::default()),
            ("STATUS=a=b ", said(|s| s.status = Some("a=b ".to_owned()))),
            (
                "STATUS=a\nSTATUS=",
                said(|s| s.status = Some(String::new())),
            ),
            ("RELOADING=1", said(|s| s.doing = Some(Doing::Reloading))),
            ("STOPPING=1", said(|s| s.doing = Some(Doing::Stopping))),
            ("WATCHDOG=1", said(|s| s.alive = true)),
            ("WATCHDOG=trigger", said(|s| s.tripped = true)),
            ("WATCHDOG=2", Said::default()),
            ("WATCHDOG_USEC=1000000", said(|s| s.every = Some(second))),
            ("WATCHDOG_USEC=0", said(|s| s.every = Some(Duration::ZERO))),
            (
                "EXTEND_TIMEOUT_USEC=1000000",
                said(|s| s.extend = Some(second)),
            ),
            (
                "EXTEND_TIMEOUT_USEC=99999999999999999999",
                said(|s| s.extend = Some(LONGEST)),
            ),
            (
                "EXTEND_TIMEOUT_USEC=18446744073709551615",
                said(|s| s.extend = Some(LONGEST)),
            ),
            (
                "EXTEND_TIMEOUT_USEC=-1\nWATCHDOG_USEC=1s\nWATCHDOG_USEC=",
                Said::default(),
            ),
            ("MAINPID=1", said(|s| s.main_pid = true)),
            ("BARRIER=1\nFDSTORE=1\nFDNAME=x\nERRNO=2", Said::default()),
        ] {
            assert_eq!(Said::read(message.as_bytes()), wanted, "{message:?}");
        }
        let mut both = Said::read(b"READY=1\nSTATUS=up\nWATCHDOG_USEC=5");
        both.add(Said::read(b"RELOADING=1\nWATCHDOG=1"));
        assert!(both.ready && both.alive);
        assert_eq!(both.doing, Some(Doing::Reloading));
        assert_eq!(both.status.as_deref(), Some("up"));
        assert_eq!(both.every, Some(Duration::from_micros(5)));
    }

    #[test]
    fn a_status_is_bounded() {
        for text in [
            &b"\xff".repeat(300)[..],
            "ä".repeat(200).as_bytes(),
            &[b'x'; 4000],
        ] {
            let mut message = b"STATUS=".to_vec();
            message.extend_from_slice(text);
            let status = Said::read(&message).status.unwrap();
            assert!(
                status.len() <= STATUS_BYTES && status.ends_with('…'),
                "{status}"
            );
        }
        let fits = format!("STATUS={}", "x".repeat(STATUS_BYTES));
        assert_eq!(
            Said::read(fits.as_bytes()).status.unwrap().len(),
            STATUS_BYTES
        );
    }
}
