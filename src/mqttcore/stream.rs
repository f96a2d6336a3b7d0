//! The stream between a client and the broker library (crates-mqtt §10, `W`).
//!
//! Invariants:
//! - The library sees every PUBLISH and every will of a client with a number (see
//!   [`Stamp`](crate::packet::Stamp)); the client never sees one.
//! - Of several copies of one message for overlapping subscriptions the client gets the first; the others are answered
//!   to the library as the client would have done. A copy of higher quality than those before, or one that names its
//!   subscription, is no duplicate (MQTT 5 §3.3.4); nor is a kept message that comes for a new subscription (§3.8.4).
//! - What the library writes is one whole packet; it is taken whole and kept until the client has it.
//! - After a DISCONNECT or a refusing CONNACK the stream is shut down once the client has that.
//! - After the cut every read and write fails at once.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use mqtt5::broker::transport::WebSocketTransport;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::backlog::Latest;
use crate::connections::Connection;
use crate::memory::Memory;
use crate::numbers::Numbers;
use crate::packet::{
    CONNACK, CONNECT, DISCONNECT, Header, Numbered, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL,
    Parsed, Reply, SUBSCRIBE, packet_size_at,
};
use crate::room;

const READ_CHUNK: usize = 8 * 1024;
/// How long a refused client may take to read why.
const LINGER: Duration = Duration::from_secs(1);

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
    /// The client takes no more for now.
    stalled: bool,
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
            stalled: false,
        }
    }

    /// A client that says nothing and gets nothing costs nothing.
    fn let_go(&mut self) {
        for buffer in [&mut self.received, &mut self.ready, &mut self.pending] {
            if buffer.is_empty() {
                *buffer = BytesMut::new();
            }
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
        if let PUBACK | PUBREC | PUBREL | PUBCOMP = header.kind() {
            match Reply::parse(&self.received, header) {
                Parsed::Done(reply) => self.note_reply(header.kind(), reply),
                Parsed::More => return false,
                Parsed::Bad => {}
            }
        }
        // What is too big is refused by its header: nothing of it is kept here.
        if matches!(header.kind(), PUBLISH | CONNECT) && header.body <= self.numbers.max_packet {
            let stamp = &self.numbers.stamp;
            let number = self.numbers.next();
            match stamp.number(&self.received, header, number) {
                Parsed::Done(numbered) => {
                    self.note_message(header, &numbered, number);
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

    /// What a message of the client tells of its backlog.
    fn note_message(&self, header: Header, numbered: &Numbered, number: u64) {
        if header.kind() != PUBLISH {
            return;
        }
        let backlog = &self.connection.backlog;
        backlog.coming(Latest {
            number,
            bytes: header.body,
            properties: numbered.properties,
            is_retained: header.is_retained(),
        });
        // Until the client releases it the library keeps it.
        if let Some(id) = numbered.packet_id.filter(|_| header.qos() == 2)
            && !backlog.hold(id, header.body)
        {
            room::give_up(&self.connection);
        }
    }

    /// What the client's answer tells of its backlog.
    fn note_reply(&self, kind: u8, reply: Reply) {
        let backlog = &self.connection.backlog;
        match kind {
            PUBREL => backlog.released(reply.packet_id),
            PUBREC if !reply.is_error => {}
            _ => backlog.acknowledged(reply.packet_id),
        }
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
            PUBREC => {
                // What was refused is not kept.
                if let Parsed::Done(reply) = Reply::parse(packet, header)
                    && reply.is_error
                {
                    self.connection.backlog.released(reply.packet_id);
                }
                self.pending.put_slice(packet);
            }
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
            let acknowledged = copy.packet_id.map(|id| (id, copy.bytes.len()));
            self.connection.backlog.written(copy.number, acknowledged);
            self.pending.put_slice(&copy.bytes);
            return;
        }
        let Some(id) = copy.packet_id else {
            return;
        };
        if copy.qos == 2 {
            self.memory.released.insert(id);
        }
        self.answer(if copy.qos == 2 { PUBREC } else { PUBACK } << 4, id);
    }

    /// Answers the library in the client's name.
    fn answer(&mut self, first: u8, id: u16) {
        self.answers.put_u8(first);
        self.answers.put_u8(2);
        self.answers.put_u16(id);
    }

    fn take_release(&mut self, packet: &[u8]) {
        if let Some(&[high, low]) = packet.get(2..4) {
            let id = u16::from_be_bytes([high, low]);
            if self.memory.released.remove(&id) {
                self.answer(PUBCOMP << 4, id);
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

    fn note_stall(&mut self, is_stalled: bool) {
        if self.stalled != is_stalled {
            self.stalled = is_stalled;
            self.connection.backlog.stall(is_stalled);
        }
    }

    fn deliver(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(cx))?;
        let Some(raw) = &mut self.raw else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        // A stream that gathers takes what is written, and stalls here.
        let flushed = Pin::new(&mut *raw).poll_flush(cx);
        self.note_stall(flushed.is_pending());
        ready!(flushed)?;
        let Some(raw) = &mut self.raw else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
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
            let mut chunk = [const { MaybeUninit::uninit() }; READ_CHUNK];
            let mut chunk = ReadBuf::uninit(&mut chunk);
            match Pin::new(raw).poll_read(cx, &mut chunk) {
                Poll::Pending => {
                    this.let_go();
                    return this.wait(cx);
                }
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
        let drained = this.drain(cx);
        this.note_stall(drained.is_pending());
        match drained {
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
        let delivered = this.deliver(cx);
        this.note_stall(delivered.is_pending());
        match delivered {
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
