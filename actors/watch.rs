//! Watching folders: those of the inventory, and that of the credentials.
//!
//! Invariants: a folder that is missing, vanishes or is replaced is watched again once it is there, as its parent is
//! watched too and who looks at a folder has [`Watch::refresh`] see whether the watched one is still the one of that name;
//! opening a file, which a start does, is no change.

use os::folders::{Depth, Folders};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Device and inode: which folder a name stands for.
type Identity = (u64, u64);

/// The folders to be watched, and the watcher while somebody wants to know.
pub(crate) struct Watch {
    folders: Vec<PathBuf>,
    active: Mutex<Option<Active>>,
}

struct Active {
    watcher: Folders,
    /// What is watched, with the folder it was when the watch began.
    watched: BTreeMap<PathBuf, Identity>,
}

/// Ends the watching when dropped.
struct Guard(Arc<Watch>);

impl Drop for Guard {
    fn drop(&mut self) {
        let ended = self.0.lock().take();
        drop(ended);
    }
}

impl Watch {
    /// Nothing is watched yet.
    pub(crate) fn new(folders: Vec<PathBuf>) -> Self {
        Watch {
            folders,
            active: Mutex::new(None),
        }
    }

    /// Calls `changed` with the paths of every change, none when some were missed, until what is returned is dropped.
    pub(crate) fn start(
        this: &Arc<Watch>,
        changed: impl Fn(&[PathBuf]) + Send + Sync + 'static,
    ) -> Result<Box<dyn Send>, String> {
        let folders = this.folders.clone();
        let hear = move |paths: &[PathBuf]| {
            if matters(paths, &folders) {
                changed(paths);
            }
        };
        let watcher = Folders::watcher(hear).map_err(|error| {
            let folders: Vec<String> = this
                .folders
                .iter()
                .map(|folder| folder.display().to_string())
                .collect();
            format!(
                "cannot watch {}: {error}; changes are seen later",
                folders.join(" and ")
            )
        })?;
        *this.lock() = Some(Active {
            watcher,
            watched: BTreeMap::new(),
        });
        let problems = this.refresh();
        match problems.first() {
            None => Ok(Box::new(Guard(this.clone()))),
            Some(problem) => {
                // The watches that could be set are of no use to one who is told that there are none.
                *this.lock() = None;
                Err(problem.clone())
            }
        }
    }

    /// Watches what is to be watched and is there now; returns what that failed for. Blocks shortly.
    pub(crate) fn refresh(&self) -> Vec<String> {
        let mut active = self.lock();
        let Some(active) = active.as_mut() else {
            return Vec::new();
        };
        let parents = self.folders.iter().filter_map(|folder| folder.parent());
        let parents = parents.map(|parent| (parent, Depth::Names));
        let folders = self.folders.iter().map(PathBuf::as_path);
        let all = folders.map(|folder| (folder, Depth::Files)).chain(parents);
        all.filter_map(|(folder, depth)| active.watch(folder, depth).err())
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Active {
    fn watch(&mut self, folder: &Path, depth: Depth) -> Result<(), String> {
        let now = std::fs::metadata(folder)
            .ok()
            .map(|meta| (meta.dev(), meta.ino()));
        let before = self.watched.get(folder).copied();
        if now == before {
            return Ok(());
        }
        if self.watched.remove(folder).is_some() {
            self.watcher.unwatch(folder);
        }
        // Its parent tells when it comes.
        let Some(now) = now else { return Ok(()) };
        self.watcher.watch(folder, depth).map_err(|error| {
            format!(
                "cannot watch {}: {error}; changes are seen later",
                folder.display()
            )
        })?;
        self.watched.insert(folder.to_owned(), now);
        Ok(())
    }
}

/// Whether what changed may mean that another scan finds something else.
pub(crate) fn matters(paths: &[PathBuf], folders: &[PathBuf]) -> bool {
    let is_ours = |path: &PathBuf| {
        folders.contains(path)
            || path
                .parent()
                .is_some_and(|folder| folders.iter().any(|f| f == folder))
    };
    // Missed changes have no path. Of the parents only what happens to the folders themselves counts.
    paths.is_empty() || paths.iter().any(is_ours)
}
