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
        let mut stream = UnixStream::connect(&self.path).await?;
        stream.write_all(&request_line(request)).await?;
        let mut line = Vec::new();
        BufReader::new(stream).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line)
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
