//! How the bus is tried again, for whoever asks why there is none.
//!
//! Invariant: nobody is woken up by it.

use super::BridgeArgs;
use crate::hub::{CoreSetup, Hub};
use crate::link::Retry;
use bus::client::{ConnectError, Refusal, Status};
use std::sync::Arc;
use tokio::time::Instant;

/// Notes each attempt, for ever.
pub(super) async fn follow(hub: Arc<Hub>, args: BridgeArgs) {
    let mut status = args.client.status();
    loop {
        let retry = match &*status.borrow_and_update() {
            Status::Connecting {
                failures,
                last,
                next,
            } => Some(Retry {
                // Counted from the first that failed.
                failures: failures.saturating_add(u32::from(last.is_some())),
                next_mse: next.map_or(0, |next| in_wall_time(&hub, next)),
                way_out: last
                    .as_ref()
                    .map(|error| way_out(&hub.core, error))
                    .unwrap_or_default(),
            }),
            Status::Connected { .. } | Status::Closed => None,
        };
        if let Some(retry) = retry {
            args.link.send_if_modified(|link| {
                link.retries(retry);
                false
            });
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

fn in_wall_time(hub: &Hub, at: Instant) -> i64 {
    let left = at.saturating_duration_since(Instant::now()).as_millis();
    hub.ports
        .clock
        .wall_mse()
        .saturating_add(i64::try_from(left).unwrap_or(i64::MAX))
}

/// What can be done about an attempt that failed, in the place of a launcher.
fn way_out(core: &CoreSetup, error: &ConnectError) -> String {
    match (core, error.most_telling()) {
        (
            CoreSetup::Own(_),
            ConnectError::NobodyListens { .. }
            | ConnectError::NoEndpoint
            | ConnectError::NotFound(_)
            | ConnectError::Several(_)
            | ConnectError::Closed { .. },
        ) => "hubcli why core tells what the core does, logs/core.log what it says".to_owned(),
        (CoreSetup::Own(_), ConnectError::Timeout { .. } | ConnectError::Unreachable { .. }) => {
            "the core hangs, or has too much to do: hubcli why core, and to have a new one: hubcli restart core"
                .to_owned()
        }
        // The reason says it, as it was found by looking at the token.
        (
            CoreSetup::Elsewhere,
            ConnectError::Login {
                refusal: Refusal::BadCredentials,
                ..
            },
        ) => String::new(),
        (
            CoreSetup::Own(_),
            ConnectError::Login {
                refusal: Refusal::BadCredentials,
                ..
            },
        ) => "hubcli restart core has the core write new credentials".to_owned(),
        (_, other) => other.hint().to_owned(),
    }
}
