//! The table of clients in memory and on disk.
//!
//! Invariant: a file that cannot be read is never replaced.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use creds::atomic::{self, AtomicError};
use thiserror::Error;

use crate::clients::Clients;
use crate::kept::{Keep, Kept};

/// Mode of the file's folder: the file holds password hashes.
const FOLDER_MODE: u32 = 0o700;

/// The table of clients.
pub type Store = Kept<Clients>;

impl Keep for Clients {
    const NAME: &'static str = "clients";
    /// Some 100,000 clients.
    const MAX_BYTES: u64 = 64 * 1024 * 1024;

    fn to_bytes(&self) -> Vec<u8> {
        Clients::to_bytes(self)
    }

    fn parse_foreign(bytes: &[u8]) -> Result<Self, String> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            // Some editors begin so; nobody wants to lose all clients that way.
            return Err("it is empty; write {} to remove all clients".to_owned());
        }
        Clients::parse(bytes).map_err(|fault| fault.to_string())
    }

    fn merge(&mut self, base: &Self, theirs: &Self) -> Vec<String> {
        self.take_over(base, theirs)
    }
}

/// Why the table cannot be had.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// The file is not what it should be. It is left as it is.
    #[error(
        "{path} is damaged ({fault}); restore it from a backup, or move it away to begin without clients"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and what.
        fault: Arc<serde_json::Error>,
    },
    /// It cannot be read, or its folder cannot be made.
    #[error("the table of clients cannot be read")]
    File {
        /// Which file, and at what.
        #[source]
        source: Arc<AtomicError>,
    },
}

impl From<AtomicError> for StoreError {
    fn from(source: AtomicError) -> Self {
        StoreError::File {
            source: Arc::new(source),
        }
    }
}

/// Reads the file at `path`; without one there are no clients. Blocks.
///
/// # Errors
/// The file is damaged or cannot be read, or its folder cannot be made.
pub fn open(path: &Path) -> Result<Store, StoreError> {
    if let Some(folder) = path.parent() {
        atomic::create_folder(folder, FOLDER_MODE)?;
    }
    let damaged = |fault| StoreError::Damaged {
        path: path.to_owned(),
        fault: Arc::new(fault),
    };
    match atomic::read(path, Clients::MAX_BYTES) {
        Ok(bytes) => {
            let clients = Clients::parse(&bytes).map_err(damaged)?;
            Ok(Store::new(path.to_owned(), clients, Some(&bytes)))
        }
        Err(error) if error.is_missing() => {
            Ok(Store::new(path.to_owned(), Clients::default(), None))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use bus::wire::ClientProfile;

    use super::*;

    fn client(id: &str) -> ClientProfile {
        ClientProfile {
            client_id: id.to_owned(),
            ..ClientProfile::default()
        }
    }

    #[tokio::test]
    async fn changes_are_on_disk_when_they_are_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth/hub.passwd");
        let store = Arc::new(open(&path).unwrap());
        let keeper = tokio::spawn(Arc::clone(&store).keep(|_| {}));
        let numbers: Vec<u64> = (0..100)
            .map(|n| {
                store
                    .change(|clients| clients.add(client(&format!("c{n}"))))
                    .1
            })
            .collect();
        for number in numbers {
            store.kept(number).await.unwrap();
        }
        let again = open(&path).unwrap();
        assert_eq!(again.now(), store.now());
        assert_eq!(again.now().count(), 100);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        keeper.abort();
    }

    #[tokio::test]
    async fn a_failed_write_is_reported_and_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth/hub.passwd");
        let store = Arc::new(open(&path).unwrap());
        let keeper = tokio::spawn(Arc::clone(&store).keep(|_| {}));
        // A folder in the file's place fails for root too.
        std::fs::create_dir(&path).unwrap();
        let ((), first) = store.change(|clients| clients.add(client("a")));
        assert!(store.kept(first).await.is_err());
        std::fs::remove_dir(&path).unwrap();
        let ((), second) = store.change(|clients| clients.add(client("b")));
        store.kept(second).await.unwrap();
        assert_eq!(open(&path).unwrap().now().count(), 2);
        keeper.abort();
    }

    #[test]
    fn a_damaged_file_is_an_error_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.passwd");
        std::fs::write(&path, r#"{"admin":{"cli"#).unwrap();
        let error = open(&path).unwrap_err();
        assert!(
            error.to_string().contains("hub.passwd is damaged"),
            "{error}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), r#"{"admin":{"cli"#);
    }
}
