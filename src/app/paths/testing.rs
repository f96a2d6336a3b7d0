//! A home of its own for a test.
//!
//! Invariant: it is gone with its test; nothing outside of it is touched.

use super::{Folders, Overrides, Surroundings};

/// A home with all its folders, also the launcher's own store; it is there as long as what is returned first.
pub(crate) fn home() -> (tempfile::TempDir, Folders) {
    let temp = tempfile::tempdir().expect("temp");
    let around = Surroundings::of_this_process().expect("around");
    let over = Overrides {
        home: Some(temp.path().to_owned()),
        client_id: Some("launcher".to_owned()),
        ..Overrides::default()
    };
    let folders = Folders::resolve(&around, &over).expect("folders");
    folders.create().expect("made");
    folders.own_store().expect("store");
    (temp, folders)
}
