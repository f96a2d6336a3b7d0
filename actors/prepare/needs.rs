//! What a plugin needs to be there before it is started: devices and files (spec §4, `needs`).
//!
//! Invariant: what is missing is named with the way out; whoever waits for it is told at once when it comes, as far as the
//! kernel tells, and looks now and then in any case.

use crate::watch::Watch;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use supervision::PluginId;
use supervision::lifecycle::BlockReason;
use tokio::sync::Notify;

/// Whether all is there; the first that is not is named. Blocks.
pub(super) fn check(needs: &[PathBuf], id: &PluginId) -> Result<(), BlockReason> {
    let Some(missing) = needs.iter().find(|path| !path.exists()) else {
        return Ok(());
    };
    Err(BlockReason::Needs(format!(
        "needs {}, which is not there; it is started as soon as it appears (or change plugins.{id}.needs)",
        missing.display()
    )))
}

/// Waits until all is there; for ever when the folders cannot be watched.
pub(super) async fn all_there(needs: Vec<PathBuf>) {
    let folders: Vec<PathBuf> = needs.iter().map(|path| nearest_folder(path)).collect();
    let watch = Arc::new(Watch::new(folders));
    let bell = Arc::new(Notify::new());
    let ring = bell.clone();
    let Ok(_guard) = Watch::start(&watch, move |_| ring.notify_one()) else {
        return std::future::pending().await;
    };
    while !needs.iter().all(|path| path.exists()) {
        bell.notified().await;
        watch.refresh();
    }
}

/// The folder in which it will appear, or the nearest above that is there.
fn nearest_folder(path: &Path) -> PathBuf {
    let there = path.ancestors().skip(1).find(|folder| folder.is_dir());
    there.unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_appears_is_noticed_also_below_a_folder_that_was_not_there() {
        let home = tempfile::tempdir().unwrap();
        let id = PluginId::new("a").unwrap();
        let (near, far) = (home.path().join("tty"), home.path().join("by-id/stick"));
        let needs = vec![near.clone(), far.clone()];
        let text = check(&needs, &id).unwrap_err().text().to_owned();
        assert!(text.contains("/tty, which is not there"), "{text}");
        let waiting = tokio::spawn(all_there(needs.clone()));
        std::fs::write(&near, "").unwrap();
        assert!(
            check(&needs, &id)
                .unwrap_err()
                .text()
                .contains("by-id/stick")
        );
        std::fs::create_dir(far.parent().unwrap()).unwrap();
        std::fs::write(&far, "").unwrap();
        let patience = std::time::Duration::from_secs(20);
        tokio::time::timeout(patience, waiting)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(check(&needs, &id), Ok(()));
    }
}
