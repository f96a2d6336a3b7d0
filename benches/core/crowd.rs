//! Clients that are only there, each with one subscription.

use crate::brokers::{ANSWERER, Brokers, Maker};
use crate::client::{Client, Login};
use anyhow::{Context, Result};
use std::path::Path;
use std::thread::JoinHandle;
use tokio::net::UnixStream;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Clients, in a thread of their own; they leave when it is dropped.
pub struct Crowd {
    /// Dropped, it tells them to leave.
    leave: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// So many clients of a broker, logged in by its socket.
    pub fn gather(brokers: &Brokers, maker: Maker, size: usize) -> Result<Crowd> {
        let socket = brokers.socket(maker).to_owned();
        let token = brokers.token(ANSWERER)?;
        let (leave, left) = oneshot::channel();
        let (up, is_up) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                let mut clients = JoinSet::new();
                let result = join(&mut clients, &socket, &token, size).await;
                let joined = result.is_ok();
                // Nobody waits when the bench has failed already.
                let _ = up.send(result);
                if joined {
                    let _ = left.await;
                }
            });
        });
        let crowd = Crowd {
            leave: Some(leave),
            thread: Some(thread),
        };
        is_up.blocking_recv().context("the clients have ended")??;
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.leave.take();
        if let Some(thread) = self.thread.take() {
            // It has told already why it failed.
            let _ = thread.join();
        }
    }
}

async fn join(clients: &mut JoinSet<()>, socket: &Path, token: &str, size: usize) -> Result<()> {
    for number in 0..size {
        let mqtt_id = format!("{ANSWERER}-{number}");
        let stream = UnixStream::connect(socket).await;
        let stream = stream.with_context(|| format!("cannot reach {}", socket.display()))?;
        let login = Login {
            name: ANSWERER,
            mqtt_id: &mqtt_id,
            password: Some(token),
        };
        let mut client = Client::log_in(Box::new(stream), login).await?;
        client.subscribe(&format!("_INBOX/{mqtt_id}")).await?;
        clients.spawn(client.stay());
    }
    Ok(())
}
