//! The launcher's own socket on this machine (spec §13).
//!
//! Invariant: each request has a connection of its own, so none waits for the answer to another one.

use super::ask::Ask;
use super::exit::Failure;
use crate::app::paths::Folders;
use bus::local::{SOCKET, decode_reply, request_line};
use bus::rpc::{Reply, Request};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// As long as an answer may take over the bus.
const WITHIN: Duration = Duration::from_secs(10);

/// The socket of a home.
#[derive(Debug)]
pub(super) struct Local {
    path: PathBuf,
}

impl Local {
    pub(super) fn of(folders: &Folders) -> Local {
        Local {
            path: folders.run.join(SOCKET),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a launcher listens there, and lets us connect.
    pub(super) async fn answers(&self) -> bool {
        UnixStream::connect(&self.path).await.is_ok()
    }

    async fn exchange(&self, request: &Request) -> io::Result<Vec<u8>> {
        let (from, mut to) = UnixStream::connect(&self.path).await?.into_split();
        // Who is refused is told so and left before he has asked: then only the reading tells why.
        let sent = to.write_all(&request_line(request)).await;
        let mut line = Vec::new();
        let read = BufReader::new(from).read_until(b'\n', &mut line).await;
        if line.ends_with(b"\n") {
            return Ok(line);
        }
        sent?;
        read?;
        Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it ended the connection without an answer",
        ))
    }

    fn unreadable(error: &impl std::fmt::Display) -> Failure {
        Failure::failed(
            format!("the reply of the launcher cannot be read: {error}"),
            "are hubcli and launcher of the same version?",
        )
    }
}

impl Ask for Local {
    async fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        let place = self.path.display();
        let line = match tokio::time::timeout(WITHIN, self.exchange(request)).await {
            Ok(Ok(line)) => line,
            Ok(Err(error)) => {
                return Err(Failure::failed(
                    format!("no answer of the launcher over {place}: {error}"),
                    "did it end? see logs/launcher.log",
                ));
            }
            Err(_elapsed) => {
                return Err(Failure::failed(
                    format!("no answer of the launcher over {place} within 10 s"),
                    "it runs, but hangs: see logs/launcher.log",
                ));
            }
        };
        match decode_reply(&line) {
            Ok(Ok(payload)) => {
                Reply::decode(request.method(), &payload).map_err(|error| Local::unreadable(&error))
            }
            Ok(Err(text)) => Err(Failure::failed(
                text,
                "hubcli ls shows how all plugins fare",
            )),
            Err(error) => Err(Local::unreadable(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    /// Asks somebody who says `answer` to whoever connects, and hangs up without having read anything.
    async fn asked(answer: &'static [u8]) -> Result<Reply, Failure> {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join(SOCKET);
        let listener = UnixListener::bind(&path).unwrap();
        let launcher = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(answer).unwrap();
        });
        let local = Local { path };
        // Larger than what a socket takes of one who does not read, so that it is being written when it is refused.
        let args = bus::wire::NameArgs {
            name: "x".repeat(4 << 20),
        };
        let reply = local.ask(&Request::GetPlugin(args)).await;
        launcher.join().unwrap();
        reply
    }

    #[tokio::test]
    async fn who_is_refused_before_it_has_asked_learns_why() {
        let refused = asked(b"{\"error\":\"user 7 may not steer this launcher\"}\n").await;
        assert_eq!(
            refused.unwrap_err().text,
            "user 7 may not steer this launcher"
        );
        let silent = asked(b"").await.unwrap_err();
        assert!(
            silent.text.starts_with("no answer of the launcher over "),
            "{silent:?}"
        );
    }
}
