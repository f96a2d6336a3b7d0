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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::FileFacts;
    use bus::client::Endpoint;
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    #[test]
    fn the_way_out_is_a_launchers_and_fits_who_runs_the_core() {
        let own = CoreSetup::Own(FileFacts {
            name: "mqttcore".to_owned(),
            path: PathBuf::from("/hub/bin/mqttcore"),
            size: 1,
            modified: SystemTime::UNIX_EPOCH,
        });
        let endpoint: Endpoint = "mqtts://hub:8883".parse().unwrap();
        let login = || ConnectError::Login {
            endpoint: endpoint.clone(),
            login: "launcher".to_owned(),
            refusal: Refusal::BadCredentials,
        };
        let silent = ConnectError::NobodyListens {
            endpoint: endpoint.clone(),
        };
        let hangs = ConnectError::Timeout {
            endpoint: endpoint.clone(),
            after: Duration::from_secs(10),
        };
        assert!(way_out(&own, &silent).starts_with("hubcli why core tells"));
        assert!(way_out(&own, &hangs).ends_with("hubcli restart core"));
        assert!(way_out(&own, &login()).starts_with("hubcli restart core"));
        // What is elsewhere cannot be restarted from here.
        for error in [&silent, &hangs, &login()] {
            let way_out = way_out(&CoreSetup::Elsewhere, error);
            assert!(!way_out.contains("hubcli restart core"), "{way_out}");
        }
        let file = PathBuf::from("/hub/certs/caCert.pem");
        let foreign = ConnectError::ForeignCa {
            endpoint: endpoint.clone(),
            file,
        };
        assert!(way_out(&own, &foreign).contains("CA was made anew"));
    }
}
