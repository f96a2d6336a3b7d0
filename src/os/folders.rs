//! Being told of changes in folders.
//!
//! Invariants: opening and reading a file, which each start of a program does, is no change and wakes nobody; that changes
//! were missed is told, too; the thread that tells has no signals, and ends with what it tells for.

use crate::settle::without_signals;
use inotify::{Event, EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which changes in a folder are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What comes and goes by name.
    Names,
    /// That, and what is written, and rights.
    Files,
}

/// Room for many events; one takes 16 bytes and its name.
const BUFFER: usize = 4096;

/// What is watched, by its number.
type Names = Arc<Mutex<HashMap<WatchDescriptor, PathBuf>>>;

/// Folders that are watched until this is dropped.
pub struct Folders {
    watches: Watches,
    names: Names,
    stop: Arc<EventFd>,
}

impl fmt::Debug for Folders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folders").finish_non_exhaustive()
    }
}

impl Folders {
    /// Watches nothing yet. `hear` gets the paths of what changed, on a thread of its own; none when changes were missed.
    ///
    /// # Errors
    /// When there is no room for one more watcher, descriptor or thread.
    pub fn watcher(hear: impl FnMut(&[PathBuf]) + Send + 'static) -> io::Result<Folders> {
        let inotify = Inotify::init()?;
        let folders = Folders {
            watches: inotify.watches(),
            names: Arc::default(),
            stop: Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?),
        };
        let (names, stop) = (Arc::clone(&folders.names), Arc::clone(&folders.stop));
        let thread = std::thread::Builder::new().name("watch-folders".to_owned());
        without_signals(|| thread.spawn(move || tell(inotify, &names, &stop, hear)))?;
        Ok(folders)
    }

    /// Watches one more, which must be there. What is watched already is by its name of then.
    ///
    /// # Errors
    /// What the system says; `ENOSPC` when there are too many watches.
    pub fn watch(&mut self, folder: &Path, depth: Depth) -> io::Result<()> {
        let names = WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::MASK_ADD;
        let mask = match depth {
            Depth::Names => names,
            Depth::Files => names | WatchMask::ATTRIB | WatchMask::MODIFY | WatchMask::CLOSE_WRITE,
        };
        // Locked until its name is known, as it may have something to tell at once.
        let mut known = lock(&self.names);
        let watch = self.watches.add(folder, mask)?;
        known.entry(watch).or_insert_with(|| folder.to_owned());
        Ok(())
    }

    /// Watches a folder no more. The kernel forgets one that is gone by itself.
    pub fn unwatch(&mut self, folder: &Path) {
        let mut known = lock(&self.names);
        let watch = known.iter().find(|(_, name)| *name == folder);
        if let Some(watch) = watch.map(|(watch, _)| watch.clone()) {
            known.remove(&watch);
            // It fails when the folder is gone, and the watch with it.
            let _ = self.watches.remove(watch);
        }
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        // Fails only when the counter is full, and then the thread is awake.
        let _ = self.stop.write(1);
    }
}

/// What the thread does.
fn tell(mut inotify: Inotify, names: &Names, stop: &EventFd, mut hear: impl FnMut(&[PathBuf])) {
    let mut buffer = [0; BUFFER];
    loop {
        let mut fds = [
            PollFd::new(inotify.as_fd(), PollFlags::POLLIN),
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => {
                tracing::warn!("changes in folders are not seen any more: {errno}");
                return;
            }
        }
        if fds[1].any().unwrap_or(true) {
            return;
        }
        let events = match inotify.read_events(&mut buffer) {
            Ok(events) => events,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => {
                tracing::warn!("changes in folders are not seen any more: {error}");
                return;
            }
        };
        for event in events {
            if let Some(paths) = paths(&event, names) {
                hear(&paths);
            }
        }
    }
}

/// What an event is about; `None` = it is of no folder that is watched, or of one that is not any more.
fn paths(event: &Event<&OsStr>, names: &Names) -> Option<Vec<PathBuf>> {
    if event.mask.contains(EventMask::Q_OVERFLOW) {
        return Some(Vec::new());
    }
    let mut known = lock(names);
    if event.mask.contains(EventMask::IGNORED) {
        known.remove(&event.wd);
        return None;
    }
    let folder = known.get(&event.wd)?;
    Some(vec![match event.name {
        Some(name) => folder.join(name),
        None => folder.clone(),
    }])
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn watcher() -> (Folders, Receiver<Vec<PathBuf>>) {
        let (tell, told) = mpsc::channel();
        let folders = Folders::watcher(move |paths| {
            let _ = tell.send(paths.to_vec());
        });
        (folders.unwrap(), told)
    }

    /// What is told until this path is.
    fn until(told: &Receiver<Vec<PathBuf>>, path: &Path) -> Vec<PathBuf> {
        let mut all = Vec::new();
        while !all.iter().any(|one| one == path) {
            all.extend(told.recv_timeout(PATIENCE).expect("in time"));
        }
        all
    }

    #[test]
    fn what_is_written_is_told_and_what_is_read_is_not() {
        let home = tempfile::tempdir().unwrap();
        let (file, last) = (home.path().join("a"), home.path().join("z"));
        fs::write(&file, "a").unwrap();
        let (mut folders, told) = watcher();
        folders.watch(home.path(), Depth::Files).unwrap();
        fs::read(&file).unwrap();
        fs::write(&last, "z").unwrap();
        assert!(!until(&told, &last).contains(&file));
        fs::write(&file, "b").unwrap();
        until(&told, &file);
    }

    #[test]
    fn of_names_only_is_told_what_comes_and_goes() {
        let home = tempfile::tempdir().unwrap();
        let (file, last) = (home.path().join("a"), home.path().join("z"));
        fs::write(&file, "a").unwrap();
        let (mut folders, told) = watcher();
        folders.watch(home.path(), Depth::Names).unwrap();
        fs::write(&file, "b").unwrap();
        fs::rename(&file, &last).unwrap();
        assert_eq!(until(&told, &last), [file.clone(), last.clone()]);
        // By what it was called first, also when it is watched for more.
        folders.watch(home.path(), Depth::Files).unwrap();
        fs::write(&last, "b").unwrap();
        until(&told, &last);
        folders.unwatch(home.path());
        fs::write(home.path().join("b"), "b").unwrap();
        let other = tempfile::tempdir().unwrap();
        folders.watch(other.path(), Depth::Names).unwrap();
        let seen = other.path().join("c");
        fs::write(&seen, "c").unwrap();
        assert!(!until(&told, &seen).contains(&home.path().join("b")));
    }

    #[test]
    fn the_thread_ends_with_the_watcher() {
        let (folders, told) = watcher();
        drop(folders);
        assert_eq!(
            told.recv_timeout(PATIENCE),
            Err(RecvTimeoutError::Disconnected)
        );
    }
}
