//! One run: process, log, FIFOs and record, held together.

use super::evidence::Evidence;
use super::streams::Fifos;
use super::told::Tidings;
use crate::desk::Desk;
use crate::memory::LiveRuns;
use crate::ports::{BoxFuture, Case, Child};
use crate::words::in_words;
use logs::RunLog;
use os::cgroup::TreeKind;
use os::told::Said;
use os::{Member, Process};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use supervision::policy::LogPolicy;
use supervision::{ExitStatus, PluginId, Run};

/// A run on this machine. When it is dropped after its tree is gone, so are its FIFOs and its record; before, they stay
/// for the launcher's successor.
pub(super) struct HostChild {
    pub(super) id: PluginId,
    pub(super) run: Run,
    /// Where evidence is kept.
    pub(super) logs: PathBuf,
    pub(super) process: Arc<Process>,
    /// What it tells of itself; none where nobody listens.
    pub(super) told: Option<Arc<Tidings>>,
    pub(super) log: RunLog,
    pub(super) fifos: Fifos,
    pub(super) live: Arc<LiveRuns>,
    pub(super) desk: Desk,
}

impl Child for HostChild {
    fn pid(&self) -> i32 {
        self.process.pid()
    }

    fn main_ended(&self) -> BoxFuture<ExitStatus> {
        let process = self.process.clone();
        Box::pin(async move { process.main_ended().await })
    }

    fn tree_ended(&self) -> BoxFuture<ExitStatus> {
        let process = self.process.clone();
        Box::pin(async move { process.tree_ended().await })
    }

    fn tree_is_gone(&self) -> bool {
        self.process.tree_is_gone()
    }

    fn told(&self) -> Option<BoxFuture<Said>> {
        let tidings = self.told.clone()?;
        Some(Box::pin(async move { tidings.next().await }))
    }

    fn signal(&self, signal: i32) -> Result<(), String> {
        match self.process.signal(signal) {
            Ok(_reached) => Ok(()),
            Err(error) => Err(in_words(&error)),
        }
    }

    fn kill(&self) -> Result<(), String> {
        match self.process.kill() {
            Ok(_reached) => Ok(()),
            Err(error) => Err(in_words(&error)),
        }
    }

    fn tree(&self) -> TreeKind {
        self.process.tree()
    }

    fn limits_refused(&self) -> Vec<String> {
        let refused = self.process.refused_limits().iter();
        refused.map(ToString::to_string).collect()
    }

    fn members(&self) -> Vec<Member> {
        self.process.members()
    }

    fn counted(&self) -> Option<os::cgroup::TreeUsage> {
        self.process.usage()
    }

    fn keep_evidence(&self, case: Case) -> BoxFuture<Result<PathBuf, String>> {
        let evidence = Evidence {
            id: self.id.clone(),
            run: self.run,
            case,
            members: self.members(),
            tail: self.log.tail(),
        };
        let logs = self.logs.clone();
        // Not at the desk: what cannot be looked at must not hold up those that are started.
        let kept = tokio::task::spawn_blocking(move || evidence.keep(&logs));
        Box::pin(async move {
            let kept = kept.await;
            kept.unwrap_or_else(|error| Err(format!("looking at it failed: {error}")))
        })
    }

    fn keep_logs_by(&self, policy: LogPolicy) {
        self.log.keep_by(policy);
    }

    fn close_log(&self, cause: &str, lasted: Duration, done: Box<dyn FnOnce(Vec<String>) + Send>) {
        self.log.close(cause, lasted, done);
    }
}

impl Drop for HostChild {
    fn drop(&mut self) {
        if !self.process.tree_is_gone() {
            self.fifos.let_go();
            return;
        }
        // Removing files, closing descriptors and waking a thread take a while, which others need not wait for.
        let (live, process) = (self.live.clone(), self.process.clone());
        let fifos = std::mem::take(&mut self.fifos);
        self.desk.leave(move || {
            live.ended(process.marker().as_str());
            drop((fifos, process));
        });
    }
}
