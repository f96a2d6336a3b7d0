//! The URL of a bus that was named to the launcher, left for those who look for it.
//!
//! Invariant: it is there only while the launcher that left it runs.

use crate::app::paths::Folders;
use bus::client::Endpoint;
use std::path::PathBuf;

/// The URL of a bus that was named to us, left for `hubcli`; taken away when it is dropped.
pub(super) struct BusUrl(PathBuf);

impl BusUrl {
    /// Leaves the URL; without one takes away what a predecessor left that was killed.
    pub(super) fn leave(folders: &Folders, named: Option<&Endpoint>) -> anyhow::Result<Self> {
        let left = BusUrl(folders.run.join(bus::hub::BUS_URL_FILE));
        match named {
            Some(url) => {
                let text = format!("{url}\n");
                creds::atomic::write(&left.0, text.as_bytes(), 0o644)?;
            }
            None => left.remove(),
        }
        Ok(left)
    }

    fn remove(&self) {
        match std::fs::remove_file(&self.0) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("{} cannot be removed: {error}", self.0.display()),
        }
    }
}

impl Drop for BusUrl {
    fn drop(&mut self) {
        self.remove();
    }
}
