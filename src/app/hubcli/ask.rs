//! Whom hubcli asks; the tests have others that answer.
//!
//! Invariant: nothing here knows how an answer comes.

use super::exit::Failure;
use bus::client::CallError;
use bus::rpc::{Reply, Request};

/// Somebody who answers requests as a launcher does.
pub(super) trait Ask {
    /// Asks and waits for the answer.
    async fn ask(&self, request: &Request) -> Result<Reply, Failure>;
}

/// The auth service.
pub(super) trait AskAuth {
    /// The login that asks.
    fn login(&self) -> &str;
    /// Asks and waits for the answer.
    async fn ask(
        &self,
        capability: &str,
        method: &str,
        args: Vec<u8>,
    ) -> Result<Vec<u8>, CallError>;
}
