//! The stream of a connection that may not have logged in yet.
//!
//! Invariant: so long as it has not logged in, no more than its allowance is read from it, so that strangers cannot fill
//! the memory with packets that nobody asked for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connections::Connection;

/// What may be read along with the CONNECT: one read of more than that.
const SLACK: usize = 16 * 1024;

/// A stream of which a stranger has an allowance.
pub struct Metered<S> {
    stream: S,
    connection: Arc<Connection>,
    /// Bytes; none = it has logged in.
    left: Option<usize>,
}

impl<S> Metered<S> {
    /// Allows a CONNECT of `connect_bytes`.
    #[must_use]
    pub fn new(stream: S, connection: Arc<Connection>, connect_bytes: usize) -> Self {
        Metered {
            stream,
            connection,
            left: Some(connect_bytes.saturating_add(SLACK)),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let Some(left) = self.left else {
            return Poll::Ready(Ok(()));
        };
        if self.connection.is_logged_in() {
            self.left = None;
            return Poll::Ready(Ok(()));
        }
        self.left = left.checked_sub(buf.filled().len() - before);
        if self.left.is_none() {
            self.left = Some(0);
            let text = "too much before a login";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::connections::{Connections, Door};
    use crate::limits::Limits;

    #[tokio::test]
    async fn strangers_have_an_allowance_and_clients_have_none() {
        let connections = Connections::new(&Limits::default());
        for is_known in [false, true] {
            let connection = connections.open(Door::Local, Ipv4Addr::LOCALHOST.into());
            let (mut far, near) = tokio::io::duplex(1024);
            let mut near = Metered::new(near, Arc::clone(&connection), 100);
            let writer = tokio::spawn(async move {
                let _ = far.write_all(&vec![1; 2 * SLACK]).await;
            });
            near.read_exact(&mut vec![0; 100 + SLACK]).await.unwrap();
            if is_known {
                connections.log_in(&connection, "a", "a").unwrap();
            }
            let rest = near.read_exact(&mut vec![0; SLACK - 100]).await;
            assert_eq!(rest.is_ok(), is_known);
            assert_eq!(near.read(&mut [0]).await.is_ok(), is_known);
            drop(near);
            writer.await.unwrap();
        }
    }
}
