//! What is left of runs under an earlier launcher and cannot be ended (spec §9: it is named and holds up nobody else).
//!
//! Invariant: no plugin is started beside what is left of it; a process is known by number and start (T1).

use os::pidfd::Pidfd;
use os::{Member, table};
use supervision::lifecycle::BlockReason;
use supervision::{PluginId, Run};

/// A process that was killed and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Whose it is.
    pub id: PluginId,
    /// Of which run.
    pub run: Run,
    /// The process.
    pub member: Member,
    /// Its command name.
    pub comm: String,
}

impl Stuck {
    /// Whether it is there. Blocks a moment.
    fn lives(&self) -> bool {
        let ticks = self.member.start_ticks;
        let stat = table::stat(self.member.pid).ok().flatten();
        stat.is_some_and(|stat| stat.start_ticks == ticks && !stat.has_ended())
    }
}

/// The first that is left of `id`, as the reason why it is not started. Blocks a moment.
pub(super) fn check(stuck: &[Stuck], id: &PluginId) -> Result<(), BlockReason> {
    let Some(one) = stuck.iter().find(|one| one.id == *id && one.lives()) else {
        return Ok(());
    };
    Err(BlockReason::Leftover(format!(
        "process {} ({}) of its run {}, left by a launcher before this one, was killed and has not ended: it hangs in the \
         kernel, often on a dead disk or network drive; it is started as soon as that process is gone",
        one.member.pid, one.comm, one.run.0
    )))
}

/// Waits until nothing is left of `id`; for ever where it cannot be told.
pub(super) async fn gone(stuck: Vec<Stuck>, id: PluginId) {
    for one in stuck.into_iter().filter(|one| one.id == id) {
        match Pidfd::open(one.member.pid, one.member.start_ticks) {
            Ok(Some(held)) => held.ended().await,
            Ok(None) => {}
            // It is looked at now and then anyway.
            Err(_unheld) => std::future::pending().await,
        }
    }
}
