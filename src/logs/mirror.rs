//! Copies lines to the launcher's own stdout and stderr: escaped, behind the plugin's id (spec §11).
//!
//! Invariants: what waits for a terminal is at most [`QUEUE_LIMIT`] bytes each; who mirrors never waits: without room a
//! line is dropped and counted; nothing reaches the terminal unescaped; lines are whole, or pieces of [`PIECE`] bytes.

use crate::escape::escape_into;
use crate::words::{self, Dropped};
use jiff::Timestamp;
use memchr::memchr;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// So much waits for one terminal.
const QUEUE_LIMIT: usize = 64 * 1024;

/// A longer line is shown in pieces.
const PIECE: usize = 4 * 1024;

/// Where the lines of a stream are copied to besides the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mirror {
    /// Nowhere.
    None,
    /// The launcher's stdout.
    Stdout,
    /// The launcher's stderr.
    Stderr,
}

/// Where the thread writes to.
pub(crate) type Sink = Box<dyn Write + Send>;

/// What waits for stdout and stderr.
#[derive(Debug, Default)]
pub(crate) struct Mirrors {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    out: Waiting,
    err: Waiting,
    /// The thread is to end when nothing waits.
    ending: bool,
}

#[derive(Debug, Default)]
struct Waiting {
    text: String,
    dropped: Option<Dropped>,
}

impl Mirrors {
    fn post(&self, to: Mirror, line: &str) {
        let mut state = self.lock();
        let waiting = match to {
            Mirror::None => return,
            Mirror::Stdout => &mut state.out,
            Mirror::Stderr => &mut state.err,
        };
        if waiting.text.len() + line.len() > QUEUE_LIMIT {
            let dropped = waiting.dropped.get_or_insert_with(|| Dropped {
                lines: 0,
                bytes: 0,
                since: Timestamp::now(),
                reason: "the terminal does not keep up".to_owned(),
            });
            dropped.lines = dropped.lines.saturating_add(1);
            dropped.bytes = dropped.bytes.saturating_add(line.len() as u64);
            return;
        }
        let was_empty = waiting.text.is_empty();
        waiting.text.push_str(line);
        drop(state);
        if was_empty {
            self.news.notify_one();
        }
    }

    /// The thread ends once it has written what waits.
    pub(crate) fn end(&self) {
        self.lock().ending = true;
        self.news.notify_one();
    }

    /// The thread's work: writes what comes until [`Mirrors::end`].
    pub(crate) fn run(&self, mut out: Sink, mut err: Sink) {
        loop {
            let mut state = self.lock();
            while state.out.is_quiet() && state.err.is_quiet() && !state.ending {
                state = self
                    .news
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let texts = (state.out.take(), state.err.take());
            let over = state.ending && texts.0.is_empty() && texts.1.is_empty();
            drop(state);
            if over {
                return;
            }
            // A closed stdout or stderr is no reason to stop anything: the lines are in the files.
            let _ = out.write_all(texts.0.as_bytes());
            let _ = err.write_all(texts.1.as_bytes());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn is_quiet(&self) -> bool {
        self.text.is_empty() && self.dropped.is_none()
    }

    fn take(&mut self) -> String {
        let mut text = std::mem::take(&mut self.text);
        if let Some(dropped) = self.dropped.take() {
            text.push_str(&words::dropped(Timestamp::now(), "launcher", &dropped));
            text.push('\n');
        }
        text
    }
}

/// One stream on its way to a terminal.
#[derive(Debug)]
pub(crate) struct LineMirror {
    to: Mirror,
    prefix: String,
    /// The begun line, at most [`PIECE`] bytes.
    begun: Vec<u8>,
    mirrors: Arc<Mirrors>,
}

impl LineMirror {
    pub(crate) fn new(to: Mirror, id: &str, mirrors: Arc<Mirrors>) -> Self {
        LineMirror {
            to,
            prefix: format!("{id}: "),
            begun: Vec::new(),
            mirrors,
        }
    }

    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = PIECE - self.begun.len();
            let reach = bytes.get(..room).unwrap_or(bytes);
            let newline = memchr(b'\n', reach);
            let (now, later) = bytes.split_at(newline.map_or(reach.len(), |at| at + 1));
            let line = newline.map_or(now, |at| now.get(..at).unwrap_or_default());
            self.begun.extend_from_slice(line);
            if newline.is_some() || self.begun.len() >= PIECE {
                self.show();
            }
            bytes = later;
        }
    }

    /// Shows a line that has no end.
    pub(crate) fn finish(&mut self) {
        if !self.begun.is_empty() {
            self.show();
        }
    }

    fn show(&mut self) {
        let text = self.begun.strip_suffix(b"\r").unwrap_or(&self.begun);
        let mut line = String::with_capacity(self.prefix.len() + text.len() + 1);
        line.push_str(&self.prefix);
        escape_into(&mut line, text);
        line.push('\n');
        self.mirrors.post(self.to, &line);
        self.begun.clear();
    }
}

/// Stdout and stderr without the locks and buffers of the standard library, which a hanging terminal would keep from all
/// others.
pub(crate) fn terminal() -> (Sink, Sink) {
    (Box::new(Raw(io::stdout())), Box::new(Raw(io::stderr())))
}

struct Raw<F>(F);

impl<F: std::os::fd::AsFd> Write for Raw<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match nix::unistd::write(&self.0, bytes) {
                // Somebody who shares the terminal made it non-blocking.
                Err(Errno::EAGAIN) => {
                    let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
                    poll(&mut fds, PollTimeout::NONE)?;
                }
                other => return Ok(other?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pushed: &[&[u8]]) -> String {
        let mirrors = Arc::new(Mirrors::default());
        let mut line = LineMirror::new(Mirror::Stderr, "cam", mirrors.clone());
        for bytes in pushed {
            line.push(bytes);
        }
        line.finish();
        let mut state = mirrors.lock();
        assert!(state.out.is_quiet());
        state.err.take()
    }

    #[test]
    fn lines_are_prefixed_escaped_and_whole() {
        assert_eq!(
            lines(&[b"on", b"e\r\n\ntw\x1bo\n", b"end"]),
            "cam: one\ncam: \ncam: tw\\x1bo\ncam: end\n"
        );
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let text = vec![b'x'; PIECE + 1];
        let (piece, rest) = ("x".repeat(PIECE), "x");
        assert_eq!(lines(&[&text]), format!("cam: {piece}\ncam: {rest}\n"));
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let mut text = b"0123456789\n".repeat(QUEUE_LIMIT / 16);
        text.extend_from_slice(b"a\nb\n");
        let shown = lines(&[&text]);
        assert!(shown.len() < QUEUE_LIMIT + 200);
        assert!(
            shown.contains(" launcher dropped 2 lines (14 bytes) since "),
            "{}",
            &shown[shown.len() - 200..]
        );
    }
}
