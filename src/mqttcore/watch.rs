//! Watching files that others may change, by their folder: an editor replaces a file, and a watch would go with the old one.
//!
//! Invariant: reading a file is no change of it.

use std::ffi::OsString;
use std::path::Path;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecursiveMode, Watcher};

/// Calls `changed`, from a thread of its own, whenever one of the files `names` in `folder` may have changed; until what it
/// returns is dropped. May call more often than there are changes.
///
/// # Errors
/// When the folder cannot be watched.
pub fn watch(
    folder: &Path,
    names: Vec<OsString>,
    changed: impl Fn() + Send + 'static,
) -> notify::Result<Box<dyn Send + Sync>> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if matters(event.as_ref().ok(), &names) {
            changed();
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(Box::new(watcher))
}

/// Whether an event may be a change of one of these; none = something was missed.
fn matters(event: Option<&Event>, names: &[OsString]) -> bool {
    let Some(event) = event else { return true };
    let about_change = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Any
        | EventKind::Other => true,
        EventKind::Access(_) => false,
    };
    let is_one = |path: &Path| {
        path.file_name()
            .is_some_and(|name| names.iter().any(|one| one == name))
    };
    // An overflow of the queue names no path.
    about_change && (event.paths.is_empty() || event.paths.iter().any(|path| is_one(path)))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn changes_of_the_files_named_are_told_and_no_others() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        std::fs::write(path("mine"), "1").unwrap();
        let (tell, told) = mpsc::channel();
        let names = vec!["mine".into(), "last".into()];
        let _watch = watch(temp.path(), names, move || tell.send(()).unwrap()).unwrap();
        let patience = Duration::from_secs(20);
        // Reading is no change, nor is another file one: both would be told before what comes after them.
        assert_eq!(std::fs::read_to_string(path("mine")).unwrap(), "1");
        std::fs::write(path("other"), "1").unwrap();
        assert!(told.recv_timeout(Duration::from_millis(50)).is_err());
        std::fs::write(path("mine"), "2").unwrap();
        told.recv_timeout(patience).unwrap();
        std::fs::rename(path("other"), path("last")).unwrap();
        while told.try_recv().is_ok() {}
        std::fs::remove_file(path("last")).unwrap();
        told.recv_timeout(patience).unwrap();
    }
}
