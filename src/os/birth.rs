//! Taking hold of a process that a spawner thread has just started.
//!
//! Invariants:
//! - it is done on the runtime, as the threads have no use for our descriptors (see [`crate::spawn`]);
//! - a process is in the book before anybody hears of it; one that cannot be held, or that nobody asks for any more, is
//!   killed and reaped, also when the runtime is gone.

use crate::limits;
use crate::process;
use crate::shared::Shared;
use crate::spawn::Birth;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use tokio::io::unix::AsyncFd;

/// Enters it into the book, has it watched, and tells who asked.
fn enter(birth: Birth, shared: &Arc<Shared>) {
    let Birth { job, result } = birth;
    let held = result.and_then(|newborn| newborn.hold(&job.spec));
    let started = match held {
        Ok(run) => {
            let run = Arc::new(run);
            if let Some(reason) = &run.confines.without {
                tracing::warn!(marker = %run.marker, "{reason}; it is known by its process group");
            }
            shared.book().enter(Arc::clone(&run));
            limits::restore_for_child(run.pid);
            let watching = process::watch(Arc::clone(shared), Arc::clone(&run));
            shared.runtime.spawn(watching);
            Ok(run)
        }
        Err(error) => {
            shared.book().forget(&job.spec.marker);
            Err(error)
        }
    };
    if let Err(Ok(run)) = job.reply.send(started) {
        shared.end_unwanted(&run);
    }
}

/// Attends to all births as long as the host is there. `bell` rings when a thread has laid one down.
pub(crate) async fn attend(bell: AsyncFd<OwnedFd>, shared: Weak<Shared>) {
    loop {
        match bell.readable().await {
            Ok(mut rung) => rung.clear_ready(),
            // The runtime is shutting down.
            Err(_) => return,
        }
        // Before the births are taken: a ring too many does no harm, one too few would.
        let _ = nix::unistd::read(bell.get_ref(), &mut [0; 8]);
        let Some(shared) = shared.upgrade() else {
            return;
        };
        for birth in shared.spawners.births() {
            enter(birth, &shared);
        }
    }
}
