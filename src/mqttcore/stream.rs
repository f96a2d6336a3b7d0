//! The stream between a client and the broker library (crates-mqtt §10, `W`).
//!
//! Invariants:
//! - The library sees every PUBLISH and every will of a client with a number (see [`Stamp`]); the client never sees one.
//! - Of several copies of one message for overlapping subscriptions the client gets the first; the others are answered
//!   to the library as the client would have done. A copy of higher quality than those before, or one that names its
//!   subscription, is no duplicate (MQTT 5 §3.3.4); nor is a kept message that comes for a new subscription (§3.8.4).
//! - What the library writes is one whole packet; it is taken whole and kept until the client has it.
//! - After a DISCONNECT or a refusing CONNACK the stream is shut down once the client has that.
//! - After the cut every read and write fails at once.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use mqtt5::broker::transport::WebSocketTransport;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::connections::Connection;
use crate::packet::{
    CONNACK, CONNECT, DISCONNECT, Header, PUBLISH, PUBREL, Parsed, SUBSCRIBE, Stamp, packet_size_at,
};

/// How many messages are remembered: copies of one are at most as far apart as there are publishers at work.
const REMEMBERED: usize = 512;
const READ_CHUNK: usize = 8 * 1024;
/// How long a refused client may take to read why.
const LINGER: Duration = Duration::from_secs(1);

/// Gives every message of a core its number.
#[derive(Debug)]
pub struct Numbers {
    /// Under which name numbers travel.
    pub stamp: Stamp,
    /// The largest packet that is numbered, in bytes.
    pub max_packet: usize,
    next: AtomicU64,
}

impl Numbers {
    /// Numbers under a random name; packets that are larger than `max_packet` are the library's to refuse.
    #[must_use]
    pub fn new(secret: u64, max_packet: usize) -> Self {
        Numbers {
            stamp: Stamp::new(secret),
            max_packet,
            next: AtomicU64::new(0),
        }
    }

    /// The next number.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// What a byte stream of a client can be.
pub trait Raw: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static> Raw for S {}

/// Which part of the client's stream comes next.
#[derive(Debug, Clone, Copy)]
enum Inward {
    /// The beginning of a packet.
    Boundary,
    /// So many bytes of a packet whose beginning the library has.
    Inside(usize),
    /// It is no MQTT: everything goes through, for the library to refuse.
    Unknown,
}

/// A message that a client got.
#[derive(Debug, Clone, Copy)]
struct Seen {
    number: u64,
    /// The highest quality of service it came with.
    qos: u8,
    /// How often the client had subscribed when it came last.
    subscribed: u64,
}

/// The messages a client got of late and the acknowledgements it owes for copies it did not get.
#[derive(Debug, Default)]
struct Memory {
    /// Oldest first.
    seen: VecDeque<Seen>,
    /// How often the client has subscribed.
    subscribed: u64,
    /// Packet ids of withheld copies of QoS 2, between PUBREC and PUBCOMP.
    released: BTreeSet<u16>,
}

impl Memory {
    /// Whether a copy adds nothing to what the client got; remembers it.
    fn is_duplicate(&mut self, number: u64, header: Header) -> bool {
        let (qos, subscribed) = (header.qos(), self.subscribed);
        if let Some(seen) = self.seen.iter_mut().rev().find(|one| one.number == number) {
            let is_asked_for = header.is_retained() && seen.subscribed < subscribed;
            let duplicate = seen.qos >= qos && !is_asked_for;
            seen.qos = seen.qos.max(qos);
            seen.subscribed = subscribed;
            return duplicate;
        }
        if self.seen.len() == REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back(Seen {
            number,
            qos,
            subscribed,
        });
        false
    }
}

/// A client's stream as the library gets it.
pub struct Stream {
    raw: Option<Box<dyn Raw>>,
    connection: Arc<Connection>,
    numbers: Arc<Numbers>,
    inward: Inward,
    /// From the client, not looked at yet.
    received: BytesMut,
    /// For the library.
    ready: BytesMut,
    /// Answers in the client's name, for the next packet boundary.
    answers: BytesMut,
    /// For the client.
    pending: BytesMut,
    memory: Memory,
    /// The last packet for the client has been taken.
    closing: bool,
    shut: bool,
}

impl Stream {
    /// Wraps a client's stream.
    #[must_use]
    pub fn new(raw: Box<dyn Raw>, connection: Arc<Connection>, numbers: Arc<Numbers>) -> Self {
        Stream {
            raw: Some(raw),
            connection,
            numbers,
            inward: Inward::Boundary,
            received: BytesMut::new(),
            ready: BytesMut::new(),
            answers: BytesMut::new(),
            pending: BytesMut::new(),
            memory: Memory::default(),
            closing: false,
            shut: false,
        }
    }

    fn broken(&self) -> io::Result<()> {
        if self.connection.cut.is_cut() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut"));
        }
        Ok(())
    }

    /// The cut may have come between the look at it and the registration of the waker.
    fn wait<T>(&self, cx: &Context<'_>) -> Poll<io::Result<T>> {
        self.connection.cut.wake_later(cx.waker());
        match self.broken() {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Moves what can be moved from `received` to `ready`; false when more bytes are needed first.
    fn advance(&mut self) -> bool {
        match self.inward {
            Inward::Unknown => {
                self.ready.unsplit(self.received.split());
                !self.ready.is_empty()
            }
            Inward::Inside(left) => {
                let now = left.min(self.received.len());
                self.ready.unsplit(self.received.split_to(now));
                self.inward = match left - now {
                    0 => Inward::Boundary,
                    rest => Inward::Inside(rest),
                };
                now > 0
            }
            Inward::Boundary if !self.answers.is_empty() => {
                self.ready.unsplit(self.answers.split());
                true
            }
            Inward::Boundary => self.begin_packet(),
        }
    }

    fn begin_packet(&mut self) -> bool {
        let header = match Header::parse(&self.received) {
            Parsed::Done(header) => header,
            Parsed::More => return false,
            Parsed::Bad => {
                self.inward = Inward::Unknown;
                return true;
            }
        };
        if header.kind() == SUBSCRIBE {
            self.memory.subscribed += 1;
        }
        // What is too big is refused by its header: nothing of it is kept here.
        if matches!(header.kind(), PUBLISH | CONNECT) && header.body <= self.numbers.max_packet {
            let stamp = &self.numbers.stamp;
            match stamp.number(&self.received, header, self.numbers.next()) {
                Parsed::Done(numbered) => {
                    self.received.advance(numbered.replaced);
                    self.ready.put_slice(&numbered.by);
                    self.inward = match numbered.follow {
                        0 => Inward::Boundary,
                        follow => Inward::Inside(follow),
                    };
                    return true;
                }
                Parsed::More => return false,
                Parsed::Bad => {}
            }
        }
        self.inward = Inward::Inside(header.header + header.body);
        true
    }

    /// Takes a packet of the library.
    fn take(&mut self, packet: &[u8]) {
        let whole = match Header::parse(packet) {
            Parsed::Done(header) if header.header + header.body == packet.len() => Some(header),
            Parsed::Done(_) | Parsed::More | Parsed::Bad => None,
        };
        let Some(header) = whole else {
            self.pending.put_slice(packet);
            return;
        };
        match header.kind() {
            PUBLISH => self.take_publish(packet, header),
            PUBREL => self.take_release(packet),
            CONNACK => self.take_answer(packet, header),
            DISCONNECT => self.take_goodbye(packet),
            _ => self.pending.put_slice(packet),
        }
    }

    fn take_publish(&mut self, packet: &[u8], header: Header) {
        let Some(copy) = self.numbers.stamp.read(packet, header) else {
            self.pending.put_slice(packet);
            return;
        };
        let duplicate = match copy.number {
            Some(number) if !copy.names_subscription => self.memory.is_duplicate(number, header),
            Some(_) | None => false,
        };
        if !duplicate {
            self.pending.put_slice(&copy.bytes);
            return;
        }
        let Some(id) = copy.packet_id else {
            return;
        };
        const PUBACK: u8 = 0x40;
        const PUBREC: u8 = 0x50;
        if copy.qos == 2 {
            self.memory.released.insert(id);
        }
        self.answer(if copy.qos == 2 { PUBREC } else { PUBACK }, id);
    }

    /// Answers the library in the client's name.
    fn answer(&mut self, first: u8, id: u16) {
        self.answers.put_u8(first);
        self.answers.put_u8(2);
        self.answers.put_u16(id);
    }

    fn take_release(&mut self, packet: &[u8]) {
        const PUBCOMP: u8 = 0x70;
        if let Some(&[high, low]) = packet.get(2..4) {
            let id = u16::from_be_bytes([high, low]);
            if self.memory.released.remove(&id) {
                self.answer(PUBCOMP, id);
                return;
            }
        }
        self.pending.put_slice(packet);
    }

    fn take_answer(&mut self, packet: &[u8], header: Header) {
        let from = self.pending.len();
        self.pending.put_slice(packet);
        let overhead = u32::try_from(self.numbers.stamp.overhead()).unwrap_or(0);
        if let Some(at) = packet_size_at(packet, header)
            && let Some(size) = self.pending.get_mut(from + at..from + at + 4)
            && let Ok(announced) = <[u8; 4]>::try_from(&*size)
        {
            let announced = u32::from_be_bytes(announced).saturating_sub(overhead);
            size.copy_from_slice(&announced.to_be_bytes());
        }
        let refused = packet.get(header.header + 1).is_some_and(|code| *code != 0);
        self.closing |= refused;
    }

    fn take_goodbye(&mut self, packet: &[u8]) {
        let from = self.pending.len();
        self.pending.put_slice(packet);
        let ours = Some(&(crate::connections::Why::ShuttingDown as u8));
        if packet.get(2) == ours
            && let Some(why) = self.connection.why()
            && let Some(reason) = self.pending.get_mut(from + 2)
        {
            *reason = why;
        }
        self.closing = true;
    }

    /// Gives the client what is pending.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let Some(raw) = &mut self.raw else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let written = ready!(Pin::new(raw).poll_write(cx, &self.pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn deliver(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(cx))?;
        let Some(raw) = &mut self.raw else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        ready!(Pin::new(&mut *raw).poll_flush(cx))?;
        if self.closing && !self.shut {
            // A client that is gone already has made the shutdown.
            let _ = ready!(Pin::new(raw).poll_shutdown(cx));
            self.shut = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            this.broken()?;
            if this.shut {
                return Poll::Ready(Ok(()));
            }
            if !this.ready.is_empty() {
                let now = buf.remaining().min(this.ready.len());
                buf.put_slice(&this.ready.split_to(now));
                return Poll::Ready(Ok(()));
            }
            if this.advance() {
                continue;
            }
            let Some(raw) = &mut this.raw else {
                return Poll::Ready(Ok(()));
            };
            this.received.reserve(READ_CHUNK);
            let mut chunk = [0; READ_CHUNK];
            let mut chunk = ReadBuf::new(&mut chunk);
            match Pin::new(raw).poll_read(cx, &mut chunk) {
                Poll::Pending => return this.wait(cx),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) if chunk.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => this.received.put_slice(chunk.filled()),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.broken()?;
        if this.closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        match this.drain(cx) {
            Poll::Pending => return this.wait(cx),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {}
        }
        this.take(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.broken()?;
        match this.deliver(cx) {
            Poll::Pending => this.wait(cx),
            Poll::Ready(result) => Poll::Ready(result),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closing = true;
        self.poll_flush(cx)
    }
}

impl WebSocketTransport for Stream {
    fn peer_addr(&self) -> mqtt5::Result<SocketAddr> {
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }
}

impl Drop for Stream {
    /// A client that was told something last and still sends would lose that to a reset when the socket is closed
    /// with its bytes unread (RFC 1122 §4.2.2.13): its stream is read to the end for a moment. TLS and a websocket say
    /// goodbye in any case: a browser takes an end without it for a fault.
    fn drop(&mut self) {
        if self.connection.cut.is_cut() {
            return;
        }
        let was_told = self.shut;
        let (Some(mut raw), Ok(runtime)) = (self.raw.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        runtime.spawn(async move {
            let mut rest = [0; 1024];
            let drain =
                async { while matches!(raw.read(&mut rest).await, Ok(read) if read > 0) {} };
            if was_told {
                let _ = tokio::time::timeout(LINGER, drain).await;
            }
            let _ = tokio::time::timeout(LINGER, raw.shutdown()).await;
        });
    }
}

#[cfg(test)]
mod tests;
