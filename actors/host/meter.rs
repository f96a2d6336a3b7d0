//! Measuring trees, off the control plane.

use crate::ports::{BoxFuture, Child, Meter, Usage};
use crate::words::in_words;
use os::usage::Sampler;
use std::sync::{Arc, Mutex, PoisonError};
use supervision::{PluginId, Run};

type Runs = Vec<(PluginId, Run, Arc<dyn Child>)>;
type Usages = Vec<(PluginId, Run, Usage)>;

/// Measures by the process table of this machine.
#[derive(Debug, Default)]
pub struct TreeMeter {
    sampler: Arc<Mutex<Option<Sampler>>>,
}

impl Meter for TreeMeter {
    fn measure(&self, runs: Runs) -> BoxFuture<Usages> {
        let sampler = self.sampler.clone();
        Box::pin(async move {
            if runs.is_empty() {
                return Vec::new();
            }
            let measured = tokio::task::spawn_blocking(move || {
                let mut sampler = sampler.lock().unwrap_or_else(PoisonError::into_inner);
                measure(&mut sampler, runs)
            });
            // A panic there was reported; there is another sample soon.
            measured.await.unwrap_or_default()
        })
    }
}

fn measure(sampler: &mut Option<Sampler>, mut runs: Runs) -> Usages {
    runs.retain(|(_, _, child)| !child.tree_is_gone());
    let trees: Vec<_> = runs.iter().map(|(_, _, child)| child.members()).collect();
    let sampled = match sampler {
        Some(sampler) => sampler.sample(&trees),
        None => Sampler::new().and_then(|new| sampler.insert(new).sample(&trees)),
    };
    let usages = sampled.unwrap_or_else(|error| {
        tracing::warn!("cannot measure what plugins use: {}", in_words(&error));
        Vec::new()
    });
    runs.into_iter()
        .zip(usages)
        .map(|((id, run, _), usage)| (id, run, shown(usage)))
        .collect()
}

fn shown(usage: os::usage::Usage) -> Usage {
    Usage {
        cpu_percent: usage.cpu_percent,
        rss_bytes: usage.rss_bytes,
        peak_rss_bytes: usage.rss_bytes,
        cpu_time_ms: usage.cpu_time_ms,
        children: usage.processes.saturating_sub(1),
    }
}
