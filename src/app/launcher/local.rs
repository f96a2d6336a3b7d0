//! The socket of local control (spec §3, §13).
//!
//! Invariant: it is made by the holder of the home's lock only, so whatever was there is nobody's any more.

use crate::app::paths::Folders;
use actors::local::LocalArgs;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::UnixListener;

/// The file of local control; taken away when it is dropped.
pub(super) struct LocalSocket(PathBuf);

impl LocalSocket {
    /// Listens. A launcher that cannot be steered from its own machine does everything else.
    pub(super) fn open(folders: &Folders) -> (Self, Option<LocalArgs>) {
        let path = folders.run.join(bus::local::SOCKET);
        let listener = os::local::listen(&path).and_then(UnixListener::from_std);
        let args = match listener {
            Ok(listener) => {
                let owner = os::local::own_uid();
                let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
                Some(LocalArgs {
                    listener: Arc::new(listener),
                    owner,
                    owner_name: os::local::user_name(owner, &passwd),
                })
            }
            Err(error) => {
                tracing::warn!(
                    "{} cannot be made: {error}; without it hubcli reaches this launcher over the bus only",
                    path.display()
                );
                None
            }
        };
        (LocalSocket(path), args)
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        if let Err(error) = os::local::remove(&self.0) {
            tracing::warn!("{} cannot be removed: {error}", self.0.display());
        }
    }
}
