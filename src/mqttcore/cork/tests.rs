use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

/// Counts its writes.
struct Counted {
    stream: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn corked(size: usize) -> (DuplexStream, Corked, Outlet, Arc<AtomicUsize>) {
    let (client, stream) = tokio::io::duplex(size);
    let writes = Arc::new(AtomicUsize::new(0));
    let counted = Counted {
        stream,
        writes: Arc::clone(&writes),
    };
    let (corked, outlet) = cork(Box::new(counted));
    (client, corked, outlet, writes)
}

async fn write(stream: &mut Corked, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

#[tokio::test]
async fn what_is_written_in_one_turn_goes_out_at_once_and_wherever_the_task_waits() {
    let (mut client, mut stream, outlet, writes) = corked(1024);
    let run = async move {
        for _ in 0..10 {
            write(&mut stream, b"0123456789").await.unwrap();
        }
        // Not the stream is waited for.
        std::future::pending::<()>().await;
    };
    let task = tokio::spawn(Uncorking::new(run, outlet));
    let mut all = [0; 100];
    let read = tokio::time::timeout(Duration::from_secs(20), client.read_exact(&mut all));
    read.await.unwrap().unwrap();
    assert_eq!(all, *b"0123456789".repeat(10));
    assert_eq!(writes.load(Ordering::Relaxed), 1);
    task.abort();
}

#[tokio::test]
async fn a_client_that_does_not_read_is_waited_for_as_soon_as_enough_is_gathered() {
    const PART: usize = 1000;
    let (mut client, mut stream, outlet, _) = corked(1);
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let run = async move {
        for _ in 0..100 {
            write(&mut stream, &[7; PART]).await.unwrap();
            count.fetch_add(PART, Ordering::Relaxed);
        }
        stream.shutdown().await.unwrap();
    };
    let task = tokio::spawn(Uncorking::new(run, outlet));
    let mut all = vec![0; PART];
    client.read_exact(&mut all).await.unwrap();
    assert!(written.load(Ordering::Relaxed) <= FULL + 3 * PART);
    client.read_to_end(&mut all).await.unwrap();
    assert_eq!(all.len(), 100 * PART);
    task.await.unwrap();
}

#[tokio::test]
async fn what_is_left_at_the_end_is_let_out_by_the_shutdown() {
    let (mut client, mut stream, outlet, _) = corked(1024);
    let run = async {
        write(&mut stream, b"last").await.unwrap();
    };
    Uncorking::new(run, outlet).await;
    stream.shutdown().await.unwrap();
    let mut all = String::new();
    client.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "last");
}

#[tokio::test]
async fn what_came_before_a_failure_is_read_and_writes_fail_after_it() {
    let (mut client, mut stream, outlet, _) = corked(1024);
    client.write_all(b"goodbye").await.unwrap();
    drop(client);
    let run = async {
        write(&mut stream, b"x").await.unwrap();
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "goodbye");
        assert!(write(&mut stream, b"y").await.is_err());
        assert!(stream.shutdown().await.is_err());
    };
    Uncorking::new(run, outlet).await;
}
