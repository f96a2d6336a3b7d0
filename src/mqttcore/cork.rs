//! What the library writes for a client, gathered until its task has no more to do: one call of the kernel, or one TLS
//! record, for many packets.
//!
//! Invariants:
//! - What is gathered goes out when the task that runs the library has been polled and waits, whatever it waits for; so
//!   nothing stays behind.
//! - Whoever has read something waits for one turn more, as the tasks it woke have theirs meanwhile; who only delivers does
//!   not. So a request is on its way to its receiver before its sender hears that it was taken, and wakes nobody for that.
//! - No more than [`FULL`] and one packet are gathered; then the library waits for the client as it would without this.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::{Buf, BytesMut};
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::lock::lock;
use crate::stream::Raw;

/// What is gathered at most before it goes out, in bytes.
const FULL: usize = 16 * 1024;

struct Bottle {
    raw: Box<dyn Raw>,
    gathered: BytesMut,
    /// The raw stream may hold some of what it was given.
    unflushed: bool,
    /// Something was read since this was asked last.
    has_read: bool,
    failed: Option<io::ErrorKind>,
}

impl Bottle {
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(kind) = self.failed {
            return Poll::Ready(Err(kind.into()));
        }
        let drained = ready!(self.try_drain(cx));
        if let Err(error) = &drained {
            self.failed = Some(error.kind());
        }
        Poll::Ready(drained)
    }

    fn try_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            self.unflushed = true;
            let written = ready!(Pin::new(&mut self.raw).poll_write(cx, &self.gathered))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(written);
        }
        // A client that gets nothing costs nothing.
        self.gathered = BytesMut::new();
        if self.unflushed {
            ready!(Pin::new(&mut self.raw).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// A stream whose output is gathered.
pub struct Corked {
    bottle: Arc<Mutex<Bottle>>,
}

/// Lets out what a [`Corked`] has gathered.
pub struct Outlet {
    bottle: Arc<Mutex<Bottle>>,
}

/// A stream whose output is gathered, and what lets it out.
#[must_use]
pub fn cork(raw: Box<dyn Raw>) -> (Corked, Outlet) {
    let bottle = Arc::new(Mutex::new(Bottle {
        raw,
        gathered: BytesMut::new(),
        unflushed: false,
        has_read: false,
        failed: None,
    }));
    let outlet = Outlet {
        bottle: Arc::clone(&bottle),
    };
    (Corked { bottle }, outlet)
}

impl AsyncRead for Corked {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bottle = lock(&self.bottle);
        let before = buf.filled().len();
        let read = Pin::new(&mut bottle.raw).poll_read(cx, buf);
        bottle.has_read |= buf.filled().len() > before;
        read
    }
}

impl AsyncWrite for Corked {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut bottle = lock(&self.bottle);
        if let Some(kind) = bottle.failed {
            return Poll::Ready(Err(kind.into()));
        }
        if bottle.gathered.len() >= FULL {
            ready!(bottle.drain(cx))?;
        }
        bottle.gathered.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    /// What is gathered counts as flushed: it goes out when the task waits.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bottle = lock(&self.bottle);
        if bottle.gathered.len() >= FULL {
            return bottle.drain(cx);
        }
        Poll::Ready(bottle.failed.map_or(Ok(()), |kind| Err(kind.into())))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bottle = lock(&self.bottle);
        ready!(bottle.drain(cx))?;
        Pin::new(&mut bottle.raw).poll_shutdown(cx)
    }
}

impl Outlet {
    fn has_gathered(&self) -> bool {
        let bottle = lock(&self.bottle);
        bottle.failed.is_none() && (bottle.unflushed || !bottle.gathered.is_empty())
    }

    /// Whether something was read since this was asked last.
    fn has_read(&self) -> bool {
        std::mem::take(&mut lock(&self.bottle).has_read)
    }

    /// A failure is told to the next write; what the client sent before is read all the same.
    fn let_out(&self, cx: &mut Context<'_>) {
        // Pending: the task is woken when the client takes more.
        let _ = lock(&self.bottle).drain(cx);
    }
}

/// Tells whether what is run was woken, or only its turn to let out has come.
struct Bell {
    task: AtomicWaker,
    rang: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// Runs what writes to a [`Corked`], and lets out what was gathered whenever it waits.
pub struct Uncorking<F> {
    run: Pin<Box<F>>,
    outlet: Outlet,
    bell: Arc<Bell>,
    /// The others have had their turn since something was gathered.
    is_due: bool,
}

impl<F: Future> Uncorking<F> {
    /// `run` writes to the stream of `outlet`. What it leaves at its end is let out by the stream's shutdown.
    #[must_use]
    pub fn new(run: F, outlet: Outlet) -> Self {
        Uncorking {
            run: Box::pin(run),
            outlet,
            bell: Arc::new(Bell {
                task: AtomicWaker::new(),
                rang: AtomicBool::new(true),
            }),
            is_due: false,
        }
    }
}

impl<F: Future> Future for Uncorking<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.bell.task.register(cx.waker());
        let waker = Waker::from(Arc::clone(&this.bell));
        let mut inner = Context::from_waker(&waker);
        // Polling it costs as much as a message: not for the second of two turns.
        if this.bell.rang.swap(false, Ordering::AcqRel)
            && let Poll::Ready(output) = this.run.as_mut().poll(&mut inner)
        {
            return Poll::Ready(output);
        }
        let has_read = this.outlet.has_read();
        if !this.outlet.has_gathered() {
            this.is_due = false;
        } else if this.is_due || !has_read {
            // Both wait for the same socket, and it wakes only who asked last.
            this.outlet.let_out(&mut inner);
            this.is_due = false;
        } else {
            this.is_due = true;
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
