//! Calls whose replies are awaited.
//!
//! Invariants: correlations are random, so nobody can forge a reply without having seen the request (T29); a reply that
//! nobody awaits is dropped (T9); when the connection ends, every call on it ends.

use super::CallError;
use super::request::ERROR;
use rand::Rng;
use rumqttc::mqttbytes::v5::Publish;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

type Outcome = Result<Vec<u8>, CallError>;

/// The calls under way on one connection.
#[derive(Debug, Default)]
pub(super) struct Calls {
    waiting: Mutex<HashMap<Vec<u8>, oneshot::Sender<Outcome>>>,
}

/// A call under way; forgotten when dropped.
pub(super) struct Call {
    calls: Arc<Calls>,
    correlation: Vec<u8>,
    outcome: oneshot::Receiver<Outcome>,
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, oneshot::Sender<Outcome>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(self: &Arc<Self>) -> Call {
        let correlation = format!("{:032x}", rand::rng().random::<u128>()).into_bytes();
        let (sender, outcome) = oneshot::channel();
        self.lock().insert(correlation.clone(), sender);
        Call {
            calls: self.clone(),
            correlation,
            outcome,
        }
    }

    /// Hands a reply to who awaits it.
    pub(super) fn end(&self, correlation: &[u8], outcome: Outcome) {
        if let Some(waiting) = self.lock().remove(correlation) {
            // A caller that gave up forgot its call, or is about to.
            let _ = waiting.send(outcome);
        }
    }
}

impl Call {
    pub(super) fn correlation(&self) -> &[u8] {
        &self.correlation
    }

    /// Waits for the reply; the end of the connection is one, too.
    pub(super) async fn outcome(&mut self) -> Outcome {
        (&mut self.outcome)
            .await
            .unwrap_or(Err(CallError::Disconnected))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.lock().remove(&self.correlation);
    }
}

impl Calls {
    /// Takes a message of the inbox to the call it answers.
    pub(super) fn answered(&self, publish: Publish) {
        let Some(properties) = publish.properties else {
            return;
        };
        let Some(correlation) = properties.correlation_data else {
            return;
        };
        let outcome = if properties.content_type.as_deref() == Some(ERROR) {
            let text = String::from_utf8_lossy(&publish.payload).into_owned();
            Err(CallError::Remote(text))
        } else {
            Ok(publish.payload.to_vec())
        };
        self.end(&correlation, outcome);
    }

    /// The connection is gone.
    pub(super) fn end_all(&self) {
        self.lock().clear();
    }
}
