//! The table of clients in memory and on disk.
//!
//! Invariants:
//! - The file is either the old one or the new one (atomic replacement); one that cannot be read is never replaced.
//! - Changes that come together are written together, in order, by one writer; who needs to know that a change is on
//!   disk waits for it.
//! - Writing happens on a blocking thread; no lock is held meanwhile.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use creds::atomic::{self, AtomicError};
use thiserror::Error;
use tokio::sync::watch;

use crate::clients::Clients;
use crate::connections::lock;

/// Mode of the file: it holds password hashes.
const FILE_MODE: u32 = 0o600;
/// Mode of its folder.
const FOLDER_MODE: u32 = 0o700;
/// The most bytes read: some 100,000 clients.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// How long after a failed write the next is tried when nothing else changes.
const RETRY: Duration = Duration::from_secs(5);

/// Why the table cannot be had or kept.
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
    /// Reading or writing failed.
    #[error("the table of clients cannot be read or kept")]
    File {
        /// Which file, and at what.
        #[source]
        source: Arc<AtomicError>,
    },
    /// The core stops.
    #[error("the table of clients is closed")]
    Closed,
}

impl From<AtomicError> for StoreError {
    fn from(source: AtomicError) -> Self {
        StoreError::File {
            source: Arc::new(source),
        }
    }
}

/// Up to which change the file is current, or why the last try failed.
#[derive(Debug, Clone)]
struct Written {
    change: u64,
    result: Result<(), StoreError>,
}

/// The table of clients.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    table: Mutex<(Arc<Clients>, u64)>,
    changes: watch::Sender<u64>,
    written: watch::Sender<Written>,
}

impl Store {
    /// Reads the file at `path`; without one there are no clients. Blocks.
    ///
    /// # Errors
    /// The file is damaged or cannot be read, or its folder cannot be made.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        if let Some(folder) = path.parent() {
            atomic::create_folder(folder, FOLDER_MODE)?;
        }
        let clients = match atomic::read(path, MAX_BYTES) {
            Ok(bytes) => Clients::parse(&bytes).map_err(|fault| StoreError::Damaged {
                path: path.to_owned(),
                fault: Arc::new(fault),
            })?,
            Err(error) if error.is_missing() => Clients::default(),
            Err(error) => return Err(error.into()),
        };
        let now = Written {
            change: 0,
            result: Ok(()),
        };
        Ok(Store {
            path: path.to_owned(),
            table: Mutex::new((Arc::new(clients), 0)),
            changes: watch::Sender::new(0),
            written: watch::Sender::new(now),
        })
    }

    /// The table as it is now.
    #[must_use]
    pub fn now(&self) -> Arc<Clients> {
        Arc::clone(&lock(&self.table).0)
    }

    /// Changes the table and gives the change's number, for [`Store::kept`].
    pub fn change<T>(&self, change: impl FnOnce(&mut Clients) -> T) -> (T, u64) {
        let mut table = lock(&self.table);
        let (clients, number) = &mut *table;
        let result = change(Arc::make_mut(clients));
        *number += 1;
        let number = *number;
        drop(table);
        self.changes.send_replace(number);
        (result, number)
    }

    /// Waits until change `number` is on disk.
    ///
    /// # Errors
    /// It could not be written. It still counts, and is tried again.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn kept(&self, number: u64) -> Result<(), StoreError> {
        let mut written = self.written.subscribe();
        written
            .wait_for(|written| written.change >= number)
            .await
            .map_err(|_| StoreError::Closed)?
            .result
            .clone()
    }

    /// Writes what is changed, for ever.
    ///
    /// # Cancel safety
    /// Safe: a write that has begun is finished on its thread; a change may go unwritten.
    pub async fn keep(self: Arc<Self>) {
        let mut changes = self.changes.subscribe();
        changes.mark_changed();
        let mut failed = false;
        loop {
            let changed = async {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            if failed {
                // A disk that was full may have room again although nobody changes anything.
                let _ = tokio::time::timeout(RETRY, changed).await;
            } else {
                changed.await;
            }
            let (clients, change) = lock(&self.table).clone();
            if !failed && change == self.written.borrow().change {
                continue;
            }
            let path = self.path.clone();
            let writing = tokio::task::spawn_blocking(move || {
                atomic::write(&path, &clients.to_bytes(), FILE_MODE).map_err(StoreError::from)
            });
            let result = writing.await.unwrap_or(Err(StoreError::Closed));
            failed = result.is_err();
            if let Err(error) = &result {
                tracing::error!(
                    error = crate::chain(error),
                    "clients not written; tried again"
                );
            }
            self.written.send_replace(Written { change, result });
        }
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
        let store = Arc::new(Store::open(&path).unwrap());
        let keeper = tokio::spawn(Arc::clone(&store).keep());
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
        let again = Store::open(&path).unwrap();
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
        let store = Arc::new(Store::open(&path).unwrap());
        let keeper = tokio::spawn(Arc::clone(&store).keep());
        // A folder in the file's place fails for root too.
        std::fs::create_dir(&path).unwrap();
        let ((), first) = store.change(|clients| clients.add(client("a")));
        assert!(store.kept(first).await.is_err());
        std::fs::remove_dir(&path).unwrap();
        let ((), second) = store.change(|clients| clients.add(client("b")));
        store.kept(second).await.unwrap();
        assert_eq!(Store::open(&path).unwrap().now().count(), 2);
        keeper.abort();
    }

    #[test]
    fn a_damaged_file_is_an_error_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.passwd");
        std::fs::write(&path, r#"{"admin":{"cli"#).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(
            error.to_string().contains("hub.passwd is damaged"),
            "{error}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), r#"{"admin":{"cli"#);
    }
}
