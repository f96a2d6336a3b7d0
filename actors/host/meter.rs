//! Measuring trees, off the control plane.

use crate::ports::{BoxFuture, Child, Measured, Meter, Round, Usage};
use crate::words::in_words;
use os::usage::{Others, Sampler, Tree};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use supervision::{PluginId, Run};

/// After so many of its intervals without a round nobody has that interval any more.
const IDLE_ROUNDS: u32 = 4;

type Runs = Vec<(PluginId, Run, Arc<dyn Child>)>;

/// Whose figures are remembered: a run's, or the launcher's own.
type Key = Option<(PluginId, Run)>;

/// Measures by the process table of this machine, and by the cgroups of runs that have one.
#[derive(Debug, Default)]
pub struct TreeMeter {
    samplers: Arc<Mutex<Samplers>>,
}

/// Those who remember the samples before: one for each interval, as each forgets what is not named.
type Samplers = BTreeMap<Option<Duration>, (Sampler<Key>, Instant)>;

impl Meter for TreeMeter {
    fn measure(&self, round: Round, runs: Runs) -> BoxFuture<Measured> {
        let samplers = self.samplers.clone();
        Box::pin(async move {
            if runs.is_empty() && round != Round::Regular {
                return Measured::default();
            }
            let measured = tokio::task::spawn_blocking(move || {
                let mut samplers = samplers.lock().unwrap_or_else(PoisonError::into_inner);
                measure(&mut samplers, round, runs)
            });
            // A panic there was reported; there is another sample soon.
            measured.await.unwrap_or_default()
        })
    }
}

/// The one for a round; those of intervals that no plugin has any more are let go.
fn sampler_of(
    samplers: &mut Samplers,
    round: Round,
) -> Result<&mut Sampler<Key>, os::usage::UsageError> {
    let now = Instant::now();
    samplers.retain(|interval, (_, used)| {
        interval.is_none_or(|interval| now.duration_since(*used) < IDLE_ROUNDS * interval)
    });
    let interval = match round {
        Round::Regular | Round::First => None,
        Round::Apart(interval) => Some(interval),
    };
    let (sampler, used) = match samplers.entry(interval) {
        Entry::Occupied(there) => there.into_mut(),
        Entry::Vacant(place) => place.insert((Sampler::new()?, now)),
    };
    *used = now;
    Ok(sampler)
}

fn measure(samplers: &mut Samplers, round: Round, runs: Runs) -> Measured {
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
        Round::Apart(_) => Others::Forget,
        Round::First => Others::Keep,
    };
    let sampler = sampler_of(samplers, round);
    let sampled = sampler.and_then(|sampler| sampler.sample(trees, others));
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
