//! A client of either broker: the same bytes to both.

use crate::wire::{self, Message, Packet};
use anyhow::{Context, Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How much is read at once.
const CHUNK: usize = 16 * 1024;

/// A connection to a broker.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Who logs in.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The login.
    pub name: &'a str,
    /// One for each connection.
    pub mqtt_id: &'a str,
    /// The token; none with a client certificate.
    pub password: Option<&'a str>,
}

/// A client.
pub struct Client {
    stream: Box<dyn Stream>,
    inbound: Vec<u8>,
    /// How much of it has been taken.
    taken: usize,
    outbound: Vec<u8>,
    last_id: u16,
}

impl Client {
    /// Logs in.
    pub async fn log_in(stream: Box<dyn Stream>, login: Login<'_>) -> Result<Client> {
        let mut client = Client {
            stream,
            inbound: Vec::with_capacity(CHUNK),
            taken: 0,
            outbound: Vec::new(),
            last_id: 0,
        };
        wire::connect(
            &mut client.outbound,
            login.mqtt_id,
            login.name,
            login.password,
        );
        match client.next().await? {
            Packet::ConnAck(0) => Ok(client),
            Packet::ConnAck(code) => bail!("login of {} is refused with {code:#x}", login.mqtt_id),
            Packet::SubAck(_) | Packet::PubAck | Packet::Publish { .. } => {
                bail!("no answer to a login")
            }
        }
    }

    /// Subscribes before anything is published.
    pub async fn subscribe(&mut self, filter: &str) -> Result<()> {
        let id = self.next_id();
        wire::subscribe(&mut self.outbound, id, filter);
        match self.next().await? {
            Packet::SubAck(1) => Ok(()),
            Packet::SubAck(code) => bail!("{filter} is refused with {code:#x}"),
            Packet::ConnAck(_) | Packet::PubAck | Packet::Publish { .. } => {
                bail!("no answer to a subscription")
            }
        }
    }

    fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    /// Sends a message, with the next look for packets at the latest.
    pub fn publish(&mut self, message: Message<'_>) {
        let id = self.next_id();
        wire::publish(&mut self.outbound, id, message);
    }

    /// The next packet; messages are acknowledged. What is to be sent is sent before anything is waited for.
    pub async fn next(&mut self) -> Result<Packet> {
        loop {
            let mut rest = self.inbound.get(self.taken..).unwrap_or_default();
            if let Some(packet) = wire::take(&mut rest)? {
                self.taken = self.inbound.len() - rest.len();
                if let Packet::Publish { id: Some(id), .. } = packet {
                    wire::acknowledge(&mut self.outbound, id);
                }
                return Ok(packet);
            }
            self.inbound.drain(..self.taken);
            self.taken = 0;
            self.flush().await?;
            self.inbound.reserve(CHUNK);
            let read = self.stream.read_buf(&mut self.inbound).await?;
            if read == 0 {
                bail!("the broker closed the connection");
            }
        }
    }

    /// Sends what is to be sent.
    pub async fn flush(&mut self) -> Result<()> {
        if !self.outbound.is_empty() {
            let sent = self.stream.write_all(&self.outbound).await;
            sent.context("cannot send")?;
            self.outbound.clear();
            self.stream.flush().await?;
        }
        Ok(())
    }

    /// Only listens until the broker closes the connection, and then does so too.
    pub async fn stay(mut self) {
        while self.next().await.is_ok() {}
    }
}
