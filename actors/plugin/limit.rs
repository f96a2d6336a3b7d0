//! What a plugin's actor does with samples: shows them, and acts when a limit is exceeded (spec §10).
//!
//! Invariants: only regular samples of the run that lives count; what was found out about a run is written before the
//! lifecycle hears of it, as nothing is left to look at afterwards, but never holds up a restart for longer than
//! [`EVIDENCE_PATIENCE`].

use super::PluginState;
use crate::ports::{Case, Child, Happening, LimitExceeded, Round, Sampled, Usage};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use supervision::Run;
use supervision::lifecycle::Event;
use supervision::limits::{LimitAction, Sample};

/// How long writing the evidence may hold up a restart: a disk that hangs, or a process that cannot be looked at, must
/// not keep what uses too much alive.
const EVIDENCE_PATIENCE: Duration = Duration::from_secs(3);

impl PluginState {
    pub(super) fn sampled(&mut self, round: Round, run: Run, usage: Usage) {
        let found = {
            let mut state = self.seat.state();
            let Some(child) = state.child.as_ref().filter(|(live, _)| *live == run) else {
                return;
            };
            let child = child.1.clone();
            let peak = state.usage.map_or(0, |before| before.peak_rss_bytes);
            let usage = Usage {
                peak_rss_bytes: usage.peak_rss_bytes.max(usage.rss_bytes).max(peak),
                ..usage
            };
            state.usage = Some(usage);
            let limits = state.plan.limits;
            let counts = match round {
                Round::First => false,
                Round::Regular | Round::Apart(_) => true,
            };
            if !counts || limits.is_none() {
                return;
            }
            state.watched.note(Sampled {
                time_mse: self.ports.clock.wall_mse(),
                usage,
            });
            let sample = Sample {
                memory_bytes: usage.rss_bytes,
                cpu_percent: usage.cpu_percent,
            };
            let exceeded = state.watched.judge.judge(&limits, sample);
            let samples = state.watched.samples.iter().copied().collect();
            (child, Case { exceeded, samples })
        };
        if !found.1.exceeded.is_empty() {
            self.limit_exceeded(run, found.0, found.1);
        }
    }

    fn limit_exceeded(&self, run: Run, child: Arc<dyn Child>, case: Case) {
        let (seat, herald) = (self.seat.clone(), self.ports.herald.clone());
        for exceeded in &case.exceeded {
            tracing::warn!(
                plugin = %seat.id, run = run.0,
                "it uses too much: {exceeded}, {} samples in a row", exceeded.strikes
            );
        }
        tokio::spawn(async move {
            let exceeded = case.exceeded.clone();
            let kept = tokio::time::timeout(EVIDENCE_PATIENCE, child.keep_evidence(case)).await;
            let kept = kept.unwrap_or_else(|_| Err("it takes too long".to_owned()));
            let evidence: Option<PathBuf> = match kept {
                Ok(path) => Some(path),
                Err(text) => {
                    tracing::warn!(
                        plugin = %seat.id, run = run.0,
                        "what it used too much of cannot be written down: {text}"
                    );
                    None
                }
            };
            for exceeded in &exceeded {
                herald.announce(Happening::Limit(Box::new(LimitExceeded {
                    id: seat.id.clone(),
                    run,
                    what: exceeded.what,
                    measured: exceeded.measured,
                    limit: exceeded.limit,
                    strikes: exceeded.strikes,
                    action: exceeded.action,
                    evidence: evidence.clone(),
                })));
            }
            let of_restart = exceeded
                .iter()
                .find(|exceeded| exceeded.action == LimitAction::Restart);
            if let Some(exceeded) = of_restart {
                let text = exceeded.to_string();
                seat.post(Event::LimitExceeded { run, text });
            }
        });
    }
}
