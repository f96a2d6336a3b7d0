//! Changes of the certs folder that others make.
//!
//! Invariants: what is written by this launcher is no change; however much changes, what is remembered of it is bounded;
//! nothing is done, and nobody woken, for files that are being written.

use super::credentials::Shelf;
use super::own::Own;
use super::stamp::{Stamp, stamp};
use crate::ports::{Changed, Whose};
use crate::watch::Watch;
use creds::files::{CA_CERT, CA_KEY, HUB_CERT, HUB_KEY};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use supervision::PluginId;
use tokio::sync::Notify;

/// Changes are looked at this long after the first of them.
const DEBOUNCE: Duration = Duration::from_millis(250);

/// So many names are remembered; when there are more, all are looked at.
const MOST_NAMES: usize = 4096;

/// What all credentials hang on.
const HUB_FILES: [&str; 4] = [CA_CERT, CA_KEY, HUB_CERT, HUB_KEY];

/// How the files of a login end.
const ENDINGS: [&str; 4] = ["Cert.pem", ".key", ".pub", ".token"];

/// What has changed in a folder, since it was looked at.
pub(super) struct Changes {
    certs: PathBuf,
    watch: Arc<Watch>,
    heap: Arc<Heap>,
    hub: Mutex<[Stamp; 4]>,
}

#[derive(Default)]
struct Heap {
    names: Mutex<Names>,
    bell: Notify,
}

/// What may have changed.
#[derive(Default)]
pub(super) struct Names {
    /// Perhaps anything.
    all: bool,
    /// One of [`HUB_FILES`].
    hub: bool,
    /// Of these logins.
    logins: BTreeSet<String>,
}

impl Changes {
    /// Nothing is watched yet.
    pub(super) fn new(certs: PathBuf) -> Self {
        Changes {
            watch: Arc::new(Watch::new(vec![certs.clone()])),
            heap: Arc::default(),
            hub: Mutex::default(),
            certs,
        }
    }

    /// Watches until what is returned is dropped.
    pub(super) fn watch(&self) -> Result<Box<dyn Send>, String> {
        let (heap, certs) = (self.heap.clone(), self.certs.clone());
        let watch = Watch::start(&self.watch, move |paths| heap.note(&certs, paths))?;
        *lock(&self.hub) = hub_files(&self.certs);
        Ok(watch)
    }

    /// Waits until something may have changed, and a moment for what else does.
    pub(super) async fn next(&self) -> Names {
        self.heap.bell.notified().await;
        tokio::time::sleep(DEBOUNCE).await;
        std::mem::take(&mut *lock(&self.heap.names))
    }

    /// What of it has changed, by the hand of others. Blocks.
    pub(super) fn judge(&self, names: Names, shelf: Option<&Shelf>, own: &Own) -> Option<Changed> {
        if names.all {
            for problem in self.watch.refresh() {
                tracing::warn!("{problem}");
            }
        }
        let hub = hub_files(&self.certs);
        let before = std::mem::replace(&mut *lock(&self.hub), hub);
        // Who gave us a new token most often had a reason that goes for all: a clock that was set, a hub that is another.
        let own_is_new = names.logins.contains(&own.plan.login) && own.is_changed();
        if names.all || own_is_new || (names.hub && before != hub) {
            return Some(Changed::All);
        }
        let mut whose = Vec::new();
        for login in names.logins {
            if let (Some(shelf), Ok(id)) = (shelf, PluginId::new(&login))
                && shelf.is_changed(&id)
            {
                whose.push(Whose::Plugin(id));
            }
        }
        (!whose.is_empty()).then_some(Changed::Some(whose))
    }
}

fn hub_files(certs: &Path) -> [Stamp; 4] {
    HUB_FILES.map(|name| stamp(&certs.join(name)))
}

impl Heap {
    fn note(&self, certs: &Path, paths: &[PathBuf]) {
        let mut noted = paths.is_empty();
        {
            let mut names = lock(&self.names);
            names.all |= paths.is_empty();
            for path in paths {
                noted |= names.note(certs, path);
            }
        }
        if noted {
            self.bell.notify_one();
        }
    }
}

impl Names {
    /// Notes a path; whether it is of any interest.
    fn note(&mut self, certs: &Path, path: &Path) -> bool {
        if path == certs {
            self.all = true;
            return true;
        }
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return false;
        };
        if HUB_FILES.contains(&name) {
            self.hub = true;
            return true;
        }
        let login = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending));
        // A file that is being written is hidden.
        let Some(login) = login.filter(|login| !login.is_empty() && !login.starts_with('.')) else {
            return false;
        };
        if self.logins.len() < MOST_NAMES {
            self.logins.insert(login.to_owned());
        } else {
            self.all = true;
        }
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Changed in whole steps, so whole even when a holder panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
