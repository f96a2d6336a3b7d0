//! Measuring trees, off the control plane.

use crate::ports::{BoxFuture, Child, Measured, Meter, Round, Usage};
use crate::words::in_words;
use os::usage::{Others, Sampler, Tree};
use std::sync::{Arc, Mutex, PoisonError};
use supervision::{PluginId, Run};

type Runs = Vec<(PluginId, Run, Arc<dyn Child>)>;

/// Whose figures are remembered: a run's, or the launcher's own.
type Key = Option<(PluginId, Run)>;

/// Measures by the process table of this machine, and by the cgroups of runs that have one.
#[derive(Debug, Default)]
pub struct TreeMeter {
    sampler: Arc<Mutex<Option<Sampler<Key>>>>,
}

impl Meter for TreeMeter {
    fn measure(&self, round: Round, runs: Runs) -> BoxFuture<Measured> {
        let sampler = self.sampler.clone();
        Box::pin(async move {
            if runs.is_empty() && round == Round::First {
                return Measured::default();
            }
            let measured = tokio::task::spawn_blocking(move || {
                let mut sampler = sampler.lock().unwrap_or_else(PoisonError::into_inner);
                measure(&mut sampler, round, runs)
            });
            // A panic there was reported; there is another sample soon.
            measured.await.unwrap_or_default()
        })
    }
}

fn measure(sampler: &mut Option<Sampler<Key>>, round: Round, runs: Runs) -> Measured {
    let mut trees: Vec<Tree<Key>> = runs
        .into_iter()
        .filter(|(_, _, child)| !child.tree_is_gone())
        .map(|(id, run, child)| Tree {
            key: Some((id, run)),
            members: child.members(),
            counted: child.counted(),
        })
        .collect();
    let others = match round {
        Round::Regular => {
            let own = os::usage::own().map(|me| Tree {
                key: None,
                members: vec![me],
                counted: None,
            });
            trees.extend(own);
            Others::Forget
        }
        Round::First => Others::Keep,
    };
    let sampled = match sampler {
        Some(sampler) => sampler.sample(trees, others),
        None => Sampler::new().and_then(|new| sampler.insert(new).sample(trees, others)),
    };
    let usages = sampled.unwrap_or_else(|error| {
        tracing::warn!("cannot measure what plugins use: {}", in_words(&error));
        Vec::new()
    });
    let mut measured = Measured::default();
    for (key, usage) in usages {
        match key {
            Some((id, run)) => measured.runs.push((id, run, shown(usage))),
            None => measured.own = Some(shown(usage)),
        }
    }
    measured
}

fn shown(usage: os::usage::Usage) -> Usage {
    Usage {
        cpu_percent: usage.cpu_percent,
        rss_bytes: usage.rss_bytes,
        peak_rss_bytes: usage.peak_rss_bytes,
        cpu_time_ms: usage.cpu_time_ms,
        children: usage.processes.saturating_sub(1),
        threads: usage.threads,
        open_fds: usage.open_fds,
    }
}
