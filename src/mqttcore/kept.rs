//! A value in memory and in its file.
//!
//! Invariants:
//! - The file is either the old one or the new one (atomic replacement).
//! - What somebody else wrote there is looked at before it is replaced: it is taken over, or set aside when it is of no
//!   use, and never lost.
//! - Changes that come together are written together, in order, by one writer; who needs to know that a change is on
//!   disk waits for it.
//! - Writing happens on a blocking thread; no lock is held meanwhile.

use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use creds::atomic::{self, AtomicError};
use thiserror::Error;
use tokio::sync::{Notify, watch as watched};

use crate::lock::lock;
use crate::watch;

/// Mode of the files: nobody else's business, as one holds password hashes.
const FILE_MODE: u32 = 0o600;
/// How long after a failed write the next is tried when nothing else changes.
const RETRY: Duration = Duration::from_secs(5);

/// How long a file rests after a change before it is read: editors write in several steps (HP 1.16).
const SETTLE: Duration = Duration::from_millis(50);

/// What can be kept.
pub trait Keep: Clone + PartialEq + Send + Sync + 'static {
    /// What the log calls it.
    const NAME: &'static str;
    /// The most bytes of a file that are read.
    const MAX_BYTES: u64;
    /// The content of its file.
    fn to_bytes(&self) -> Vec<u8>;
    /// What somebody else wrote into its file.
    ///
    /// # Errors
    /// Why it is of no use.
    fn parse_foreign(bytes: &[u8]) -> Result<Self, String>;
    /// Takes over what somebody else changed, from `base` to `theirs`; tells whose entries changed here.
    fn merge(&mut self, base: &Self, theirs: &Self) -> Vec<String>;
}

/// What the file holds, as far as is known here.
#[derive(Debug)]
struct OnDisk<T> {
    /// The value, and the hash of the bytes; none = there is no file.
    value: Arc<T>,
    hash: Option<u64>,
    /// The hash of bytes that are of no use, once that is said.
    refused: Option<u64>,
}

/// What a look at the file found.
enum Found<T> {
    AsKnown,
    Missing,
    Theirs { value: T, hash: u64 },
    Useless { why: String, hash: u64 },
}

fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Blocks.
fn look<T: Keep>(path: &Path, known: Option<u64>) -> Found<T> {
    let bytes = match atomic::read(path, T::MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(AtomicError::Missing { .. }) if known.is_none() => return Found::AsKnown,
        Err(AtomicError::Missing { .. }) => return Found::Missing,
        Err(error) => {
            let why = crate::chain(&error);
            let hash = hash_of(why.as_bytes());
            return Found::Useless { why, hash };
        }
    };
    let hash = hash_of(&bytes);
    if known == Some(hash) {
        return Found::AsKnown;
    }
    match T::parse_foreign(&bytes) {
        Ok(value) => Found::Theirs { value, hash },
        Err(why) => Found::Useless { why, hash },
    }
}

/// Moves a file that is of no use out of the way, so that it can be looked at and a new one be written.
///
/// # Errors
/// The system's answer.
pub fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(".bad");
    let aside = PathBuf::from(name);
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

/// Why a value is not on disk.
#[derive(Debug, Clone, Error)]
pub enum KeepError {
    /// Writing failed.
    #[error("a change cannot be kept")]
    File {
        /// Which file, and at what.
        #[source]
        source: Arc<AtomicError>,
    },
    /// The core stops.
    #[error("a change cannot be kept, as the core stops")]
    Closed,
}

impl From<AtomicError> for KeepError {
    fn from(source: AtomicError) -> Self {
        KeepError::File {
            source: Arc::new(source),
        }
    }
}

/// Up to which change the file is current, or why the last try failed.
#[derive(Debug, Clone)]
struct Written {
    change: u64,
    result: Result<(), KeepError>,
}

/// A value in memory and in its file.
#[derive(Debug)]
pub struct Kept<T> {
    path: PathBuf,
    value: Mutex<(Arc<T>, u64)>,
    on_disk: Mutex<OnDisk<T>>,
    changes: watched::Sender<u64>,
    written: watched::Sender<Written>,
    look: Notify,
}

impl<T: Keep> Kept<T> {
    /// `value` is what the file at `path` holds, or would; `bytes` are its content, where there is one.
    #[must_use]
    pub fn new(path: PathBuf, value: T, bytes: Option<&[u8]>) -> Self {
        let now = Written {
            change: 0,
            result: Ok(()),
        };
        let value = Arc::new(value);
        let on_disk = OnDisk {
            value: Arc::clone(&value),
            hash: bytes.map(hash_of),
            refused: None,
        };
        Kept {
            path,
            value: Mutex::new((value, 0)),
            on_disk: Mutex::new(on_disk),
            changes: watched::Sender::new(0),
            written: watched::Sender::new(now),
            look: Notify::new(),
        }
    }

    /// The value as it is now.
    #[must_use]
    pub fn now(&self) -> Arc<T> {
        Arc::clone(&lock(&self.value).0)
    }

    /// Changes the value and gives the change's number, for [`Kept::kept`].
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> (R, u64) {
        let mut value = lock(&self.value);
        let result = change(Arc::make_mut(&mut value.0));
        (result, self.changed(value))
    }

    /// The same for what may turn out to be no change; then there is no number, and nothing is written.
    pub fn change_if(&self, change: impl FnOnce(&mut T) -> bool) -> Option<u64> {
        let mut value = lock(&self.value);
        change(Arc::make_mut(&mut value.0)).then(|| self.changed(value))
    }

    fn changed(&self, mut value: MutexGuard<'_, (Arc<T>, u64)>) -> u64 {
        value.1 += 1;
        let number = value.1;
        drop(value);
        self.changes.send_replace(number);
        number
    }

    /// Waits until change `number` is on disk.
    ///
    /// # Errors
    /// It could not be written. It still counts, and is tried again.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn kept(&self, number: u64) -> Result<(), KeepError> {
        let mut written = self.written.subscribe();
        written
            .wait_for(|written| written.change >= number)
            .await
            .map_err(|_| KeepError::Closed)?
            .result
            .clone()
    }

    /// Writes what is changed, and looks at the file when [`Kept::watch`] says so, for ever. Calls `taken_over` with those
    /// whose entries somebody else changed, once the change counts.
    ///
    /// # Cancel safety
    /// Safe: a write that has begun is finished on its thread; a change may go unwritten.
    pub async fn keep(self: Arc<Self>, taken_over: impl Fn(Vec<String>) + Send) {
        let mut changes = self.changes.subscribe();
        changes.mark_changed();
        let mut failed = false;
        loop {
            let called = async {
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() {
                        std::future::pending::<()>().await;
                    },
                    () = self.look.notified() => {}
                }
            };
            if failed {
                // A disk that was full may have room again although nobody changes anything.
                let _ = tokio::time::timeout(RETRY, called).await;
            } else {
                called.await;
            }
            failed = self.round(failed, &taken_over).await.is_err();
        }
    }

    /// Looks at the file, and writes what is not on disk.
    async fn round(
        self: &Arc<Self>,
        failed: bool,
        taken_over: &(impl Fn(Vec<String>) + Send),
    ) -> Result<(), KeepError> {
        let known = lock(&self.on_disk).hash;
        let path = self.path.clone();
        let looking = tokio::task::spawn_blocking(move || look::<T>(&path, known));
        let found = looking.await.map_err(|_| KeepError::Closed)?;
        let mut useless = false;
        match found {
            Found::AsKnown => {}
            Found::Missing => {
                tracing::warn!("{} was removed; it is written again", self.path.display());
                lock(&self.on_disk).hash = None;
                self.changed(lock(&self.value));
            }
            Found::Theirs { value, hash } => {
                let changed = self.take_over(value, hash);
                if !changed.is_empty() {
                    let who = changed.join(", ");
                    tracing::info!("{} was changed from outside: {who}", self.path.display());
                    taken_over(changed);
                }
            }
            Found::Useless { why, hash } => {
                useless = true;
                self.say_useless(&why, hash);
            }
        }
        let (value, change) = lock(&self.value).clone();
        if !failed && change == self.written.borrow().change {
            return Ok(());
        }
        let result = self.write(value, useless).await;
        if let Err(error) = &result {
            tracing::error!(
                error = crate::chain(error),
                "{} not written; tried again",
                T::NAME
            );
        }
        let told = result.clone();
        self.written.send_replace(Written {
            change,
            result: told,
        });
        result
    }

    fn take_over(&self, theirs: T, hash: u64) -> Vec<String> {
        let theirs = Arc::new(theirs);
        let mut on_disk = lock(&self.on_disk);
        let base = std::mem::replace(&mut on_disk.value, Arc::clone(&theirs));
        on_disk.hash = Some(hash);
        on_disk.refused = None;
        drop(on_disk);
        let mut value = lock(&self.value);
        let changed = Arc::make_mut(&mut value.0).merge(&base, &theirs);
        if *value.0 == *theirs {
            // Nothing of ours is missing in their file.
            return changed;
        }
        self.changed(value);
        changed
    }

    fn say_useless(&self, why: &str, hash: u64) {
        let mut on_disk = lock(&self.on_disk);
        if on_disk.refused == Some(hash) {
            return;
        }
        on_disk.refused = Some(hash);
        tracing::error!(
            "{} was changed from outside and is of no use: {why}; what was in force stays in force: repair the file, or it is set aside with the next change",
            self.path.display()
        );
    }

    /// Writes the file; what is of no use there is set aside before.
    async fn write(&self, value: Arc<T>, useless: bool) -> Result<(), KeepError> {
        let path = self.path.clone();
        let written = Arc::clone(&value);
        let writing = tokio::task::spawn_blocking(move || {
            // Anything but a file is in the way for good, and the write says so.
            if useless && path.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
                match set_aside(&path) {
                    Ok(aside) => tracing::warn!("set aside: {}", aside.display()),
                    Err(error) => tracing::warn!("cannot set {} aside: {error}", path.display()),
                }
            }
            let bytes = written.to_bytes();
            atomic::write(&path, &bytes, FILE_MODE).map(|()| hash_of(&bytes))
        });
        let hash = writing.await.map_err(|_| KeepError::Closed)??;
        *lock(&self.on_disk) = OnDisk {
            value,
            hash: Some(hash),
            refused: None,
        };
        Ok(())
    }

    /// Has the file looked at whenever somebody else may have changed it, for ever.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn watch(self: Arc<Self>) {
        let seen = Arc::new(Notify::new());
        let tell = Arc::clone(&seen);
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let names = self.path.file_name().map(OsStr::to_owned);
        let names = names.into_iter().collect();
        let _watch = match watch::watch(folder, names, move || tell.notify_one()) {
            Ok(watch) => watch,
            Err(error) => {
                tracing::warn!(
                    "changes of {} by others are seen only when the core changes it, too: {error}",
                    self.path.display()
                );
                return;
            }
        };
        // What was changed since it was read.
        self.look.notify_one();
        loop {
            seen.notified().await;
            tokio::time::sleep(SETTLE).await;
            self.look.notify_one();
        }
    }
}
