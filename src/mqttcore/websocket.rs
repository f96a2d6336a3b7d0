//! MQTT in a websocket, as browsers speak it (MQTT 5 §6, RFC 6455).
//!
//! Invariants:
//! - Only who speaks the subprotocol `mqtt` gets in; the path does not matter.
//! - MQTT is in binary frames, cut in any way: the frames' borders mean nothing. An empty one is not the end.
//! - No frame and no message is bigger than a packet may be; a write is one frame.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::header::{HOST, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::stream::Raw;

const SUBPROTOCOL: &str = "mqtt";
const READ_BUFFER: usize = 8 * 1024;
/// A packet and its header may share a frame with small ones.
const SLACK: usize = 64 * 1024;

/// A websocket as a stream of bytes.
pub struct WebSocket<S> {
    frames: WebSocketStream<S>,
    /// Of the last message, not read yet.
    rest: Bytes,
}

impl<S: Raw> WebSocket<S> {
    /// Over an open websocket.
    #[must_use]
    pub fn new(frames: WebSocketStream<S>) -> Self {
        let rest = Bytes::new();
        WebSocket { frames, rest }
    }
}

/// Answers the upgrade. Also tells whether the page that opened it, if any, is of another host than the core:
/// a browser shows its user's certificate for any page, so that it says nothing about who is asking.
///
/// # Errors
/// No websocket, or another subprotocol.
///
/// # Cancel safety
/// When dropped, the connection is of no more use.
#[expect(
    clippy::result_large_err,
    reason = "the library's callback gives the refusal as its error"
)]
pub async fn accept<S: Raw>(stream: S, max_packet: usize) -> Result<(WebSocket<S>, bool), Error> {
    let mut foreign = false;
    let answer = |request: &Request, response: Response| {
        foreign = is_foreign(request.headers());
        agree(request, response)
    };
    let most = max_packet.saturating_add(SLACK);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(most))
        .max_frame_size(Some(most));
    let frames =
        tokio_tungstenite::accept_hdr_async_with_config(stream, answer, Some(config)).await?;
    Ok((WebSocket::new(frames), foreign))
}

#[expect(
    clippy::result_large_err,
    reason = "the library's callback gives the refusal as its error"
)]
fn agree(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let offered = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL);
    let knows_mqtt = offered
        .iter()
        .filter_map(|offer| offer.to_str().ok())
        .flat_map(|offer| offer.split(','))
        .any(|offer| offer.trim() == SUBPROTOCOL);
    if !knows_mqtt {
        let text = "the websocket's subprotocol must be mqtt\n".to_owned();
        let mut refusal = ErrorResponse::new(Some(text));
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        return Err(refusal);
    }
    let chosen = HeaderValue::from_static(SUBPROTOCOL);
    response
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, chosen);
    Ok(response)
}

/// Whether a page of another host than the core's opened the websocket; programs have no page.
fn is_foreign(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return false;
    };
    let page = origin.to_str().ok().and_then(|origin| {
        let (_, authority) = origin.split_once("://")?;
        Some(host_of(authority))
    });
    let asked = headers.get(HOST).and_then(|host| host.to_str().ok());
    match (page, asked.map(host_of)) {
        (Some(page), Some(asked)) => !page.eq_ignore_ascii_case(asked),
        (Some(_) | None, _) => true,
    }
}

/// Without the port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        Some(_) | None => authority,
    }
}

fn broken(error: Error) -> io::Error {
    if let Error::Io(error) = error {
        return error;
    }
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<S: Raw> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.frames).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                // The library answers pings.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(Message::Text(_))) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, "a text frame");
                    return Poll::Ready(Err(error));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let now = buf.remaining().min(self.rest.len());
        buf.put_slice(&self.rest[..now]);
        self.rest.advance(now);
        Poll::Ready(Ok(()))
    }
}

impl<S: Raw> AsyncWrite for WebSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut frames = Pin::new(&mut self.frames);
        ready!(frames.as_mut().poll_ready(cx)).map_err(broken)?;
        let message = Message::Binary(Bytes::copy_from_slice(buf));
        frames.start_send(message).map_err(broken)?;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.frames).poll_flush(cx).map_err(broken)
    }

    /// Says goodbye and that nothing follows; the client's goodbye can still be read.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // After the client's goodbye ours has been said.
        let _ = ready!(Pin::new(&mut self.frames).poll_close(cx));
        Pin::new(self.frames.get_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;

    use super::*;

    #[test]
    fn pages_of_another_host_are_foreign() {
        for (origin, host, foreign) in [
            (None, Some("hub:8884"), false),
            (Some("https://hub:8443"), Some("hub:8884"), false),
            (Some("https://HUB"), Some("hub:8884"), false),
            (Some("https://[fe80::1]:1"), Some("[fe80::1]"), false),
            (Some("https://hub.evil.org"), Some("hub:8884"), true),
            (Some("https://evil.org"), Some("hub:8884"), true),
            (Some("null"), Some("hub:8884"), true),
            (Some("https://hub"), None, true),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [(ORIGIN, origin), (HOST, host)] {
                if let Some(value) = value {
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
            assert_eq!(is_foreign(&headers), foreign, "{origin:?} {host:?}");
        }
    }

    async fn pair(protocol: &'static str) -> Option<(WebSocket<tokio::io::DuplexStream>, Client)> {
        let (near, far) = tokio::io::duplex(4096);
        let mut request = "ws://hub/any/path".into_client_request().unwrap();
        request
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        let (server, client) = tokio::join!(
            accept(near, 10_000),
            tokio_tungstenite::client_async(request, far)
        );
        assert_eq!(server.is_ok(), client.is_ok());
        let (client, response) = client.ok()?;
        assert_eq!(response.headers()[SEC_WEBSOCKET_PROTOCOL], SUBPROTOCOL);
        Some((server.unwrap().0, client))
    }

    type Client = WebSocketStream<tokio::io::DuplexStream>;

    #[tokio::test]
    async fn bytes_arrive_however_they_are_framed() {
        use futures_util::{SinkExt, StreamExt};
        assert!(pair("chat").await.is_none());
        let (mut server, mut client) = pair("chat, mqtt").await.unwrap();
        for frame in [&b"ab"[..], b"", b"c"] {
            let frame = Message::Binary(Bytes::copy_from_slice(frame));
            client.send(frame).await.unwrap();
        }
        client.send(Message::Ping(Bytes::new())).await.unwrap();
        client
            .send(Message::Binary(Bytes::from_static(b"def")))
            .await
            .unwrap();
        let mut read = [0; 6];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"abcdef");
        // More than the pipe holds, in both directions, is not lost.
        let long = vec![7; 9000];
        let write = async {
            server.write_all(&long).await.unwrap();
            server.shutdown().await.unwrap();
        };
        let read = async {
            let mut all = Vec::new();
            while let Some(Ok(message)) = client.next().await {
                if let Message::Binary(bytes) = &message {
                    all.extend_from_slice(bytes);
                }
            }
            all
        };
        let ((), all) = tokio::join!(write, read);
        assert_eq!(all, long);
        assert_eq!(server.read(&mut [0; 8]).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn what_is_no_mqtt_ends_it() {
        use futures_util::SinkExt;
        let (mut server, mut client) = pair("mqtt").await.unwrap();
        client.send(Message::text("x")).await.unwrap();
        assert!(server.read(&mut [0; 8]).await.is_err());
        let (mut server, mut client) = pair("mqtt").await.unwrap();
        let big = Message::Binary(vec![0; 10_000 + SLACK + 1].into());
        let (read, _) = tokio::join!(
            async {
                let read = server.read(&mut [0; 8]).await;
                drop(server);
                read
            },
            client.send(big)
        );
        assert!(read.is_err());
    }
}
