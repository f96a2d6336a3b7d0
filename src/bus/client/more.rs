//! More subscriptions, while a session lives.
//!
//! Invariant: a filter that was added is asked for by the connection that lives and by each one after it; one that was
//! refused by neither, so that it does not keep the session from its hub.

use super::handle::{Live, Shared, not_sent};
use super::{CallError, Client};
use rumqttc::{QoS, SubscribeNoticeError};
use std::time::Duration;

impl Client {
    /// Subscribes to these filters, too, and waits until that is granted; at most `within`. Those it has cost nothing.
    /// Without a connection they are asked for by the next one.
    ///
    /// # Errors
    /// The hub refuses one: then none is kept. Or the connection was lost, or nothing came in time: then the next one asks.
    ///
    /// # Cancel safety
    /// When dropped, the present connection may or may not have them; the next one will.
    pub async fn subscribe(&self, filters: Vec<String>, within: Duration) -> Result<(), CallError> {
        let new = self.shared.add_filters(filters);
        let Ok(live) = self.live() else {
            return Ok(());
        };
        let granted = tokio::select! {
            biased;
            granted = granted(&live, &new) => granted,
            error = live.gone() => Err(error),
            () = tokio::time::sleep(within) => Err(CallError::Timeout),
        };
        if matches!(granted, Err(CallError::NotAuthorized)) {
            self.shared.drop_filters(&new);
        }
        granted
    }
}

async fn granted(live: &Live, filters: &[String]) -> Result<(), CallError> {
    let mut notices = Vec::with_capacity(filters.len());
    for filter in filters {
        let asked = live.mqtt.subscribe_tracked(filter, QoS::AtLeastOnce);
        notices.push(asked.await.map_err(|error| not_sent(filter, &error))?);
    }
    for notice in notices {
        notice.wait_completion_async().await.map_err(refused)?;
    }
    Ok(())
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "errors of a library; those not told apart show in its own words"
)]
fn refused(error: SubscribeNoticeError) -> CallError {
    match error {
        SubscribeNoticeError::V5SubAckFailure(_) => CallError::NotAuthorized,
        SubscribeNoticeError::Recv | SubscribeNoticeError::SessionReset => {
            CallError::Disconnected("it was closed".to_owned())
        }
        other => CallError::Refused(other.to_string()),
    }
}

/// Has a connection that has just come up ask for what was added while it did.
pub(super) fn catch_up(shared: &Shared, live: &Live, asked: &[String]) {
    let filters = shared.filters();
    for filter in filters.iter().filter(|filter| !asked.contains(filter)) {
        if let Err(error) = live.mqtt.try_subscribe(filter, QoS::AtLeastOnce) {
            tracing::warn!(filter, "not subscribed: {error}");
        }
    }
}
