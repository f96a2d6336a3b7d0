//! Room on the disks that the hub writes to (spec §9: a start that failed for want of it is tried when there is some).
//!
//! Invariants: nothing is looked at while nobody waits; however many wait, there is one look a second.

use crate::desk::Desk;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use supervision::room::Room;
use tokio::sync::oneshot;

/// How often it is looked whether there is room again.
const POLL: Duration = Duration::from_secs(1);

/// What is free on the disk of a folder; none when nobody can tell.
pub(super) type Measure = fn(&Path) -> Option<Room>;

/// Those who wait for room.
#[derive(Clone)]
pub(super) struct Rooms {
    folders: Arc<[PathBuf]>,
    measure: Measure,
    desk: Desk,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    waiters: Vec<oneshot::Sender<()>>,
    watched: bool,
}

impl Rooms {
    /// For the disks of these folders.
    pub(super) fn new(folders: Vec<PathBuf>, measure: Measure, desk: Desk) -> Self {
        Rooms {
            folders: folders.into(),
            measure,
            desk,
            waiting: Arc::default(),
        }
    }

    /// The first folder whose disk has too little.
    pub(super) async fn short(&self) -> Option<PathBuf> {
        self.find(Room::is_short).await
    }

    /// Completes when all disks have enough; for the first time a moment from now.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn again(&self) {
        let (tells, told) = oneshot::channel();
        let begins = {
            let mut waiting = self.lock();
            waiting.waiters.push(tells);
            !std::mem::replace(&mut waiting.watched, true)
        };
        if begins {
            let rooms = self.clone();
            tokio::spawn(async move { rooms.watch().await });
        }
        // Told by being dropped, too: a look too many does no harm.
        let _ = told.await;
    }

    /// Looks until there is room or nobody waits any more.
    async fn watch(&self) {
        loop {
            tokio::time::sleep(POLL).await;
            if self.nobody_waits() {
                return;
            }
            if self.find(|room| !room.is_enough()).await.is_none() {
                break;
            }
        }
        let told = std::mem::take(&mut *self.lock());
        for waiter in told.waiters {
            let _ = waiter.send(());
        }
    }

    fn nobody_waits(&self) -> bool {
        let mut waiting = self.lock();
        waiting.waiters.retain(|waiter| !waiter.is_closed());
        waiting.watched = !waiting.waiters.is_empty();
        !waiting.watched
    }

    /// The first folder whose disk is as `wanted`; what cannot be told is not.
    async fn find(&self, wanted: fn(Room) -> bool) -> Option<PathBuf> {
        let (folders, measure) = (self.folders.clone(), self.measure);
        let look = move || {
            let mut folders = folders.iter();
            folders
                .find(|folder| measure(folder).is_some_and(wanted))
                .cloned()
        };
        self.desk.ask(look).await.ok().flatten()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Changed in whole steps, so whole even when a holder panicked.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    static FREE: AtomicU64 = AtomicU64::new(0);
    static LOOKS: AtomicU64 = AtomicU64::new(0);

    fn measure(folder: &Path) -> Option<Room> {
        if folder == Path::new("/unknown") {
            return None;
        }
        LOOKS.fetch_add(1, Ordering::SeqCst);
        let bytes = match folder == Path::new("/full") {
            true => FREE.load(Ordering::SeqCst),
            false => u64::MAX,
        };
        Some(Room { bytes, files: None })
    }

    #[tokio::test]
    async fn all_who_wait_are_told_by_one_look_and_nobody_looks_afterwards() {
        let folders = ["/unknown", "/ample", "/full"].map(PathBuf::from).to_vec();
        let rooms = Rooms::new(folders, measure, Desk::default());
        assert_eq!(rooms.short().await, Some(PathBuf::from("/full")));
        let waiters: Vec<_> = (0..100)
            .map(|_| {
                let rooms = rooms.clone();
                tokio::spawn(async move { rooms.again().await })
            })
            .collect();
        let gave_up = tokio::time::timeout(Duration::from_millis(10), rooms.again()).await;
        assert!(gave_up.is_err());
        let before = LOOKS.load(Ordering::SeqCst);
        tokio::time::sleep(POLL + POLL / 2).await;
        let looks = LOOKS.load(Ordering::SeqCst) - before;
        assert!((1..=4).contains(&looks), "{looks} looks for 100");
        assert!(waiters.iter().all(|waiter| !waiter.is_finished()));

        FREE.store(u64::MAX, Ordering::SeqCst);
        for waiter in waiters {
            let told = tokio::time::timeout(Duration::from_secs(30), waiter).await;
            told.unwrap().unwrap();
        }
        assert_eq!(rooms.short().await, None);
        assert!(!rooms.lock().watched);
    }
}
