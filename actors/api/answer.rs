//! Answers one request, wherever it came from: in time, and even when serving it panics (T9, T12).
//!
//! Invariant: exactly one answer to each request; what takes longer than [`REPLY_WITHIN`] goes on and says so.

use super::serve::{AfterReply, Caller, serve};
use crate::hub::Hub;
use bus::rpc::{Request, cut_error};
use std::sync::Arc;
use std::time::Duration;

/// A reply is on its way within this time (spec §8: 8 s; the rest is for the way).
pub const REPLY_WITHIN: Duration = Duration::from_millis(7_500);

/// The answer to one request.
#[derive(Debug)]
pub struct Answer {
    /// The payload of the reply, or its error text, at most [`bus::rpc::MAX_ERROR`] bytes long.
    pub result: Result<Vec<u8>, String>,
    /// To be done once the answer is out.
    pub then: Option<AfterReply>,
}

/// Understands a request with `understand`, which may panic, and serves it; `what` names it in the log.
///
/// # Cancel safety
/// What was begun goes on.
pub async fn answer(
    hub: &Arc<Hub>,
    what: &str,
    understand: impl FnOnce() -> Result<(Request, Caller), String> + Send + 'static,
) -> Answer {
    let until = tokio::time::Instant::now() + REPLY_WITHIN;
    let hub = hub.clone();
    // In a task of its own, so that a panic in it is an answer, too (T12).
    let work = tokio::spawn(async move {
        let (request, caller) = understand()?;
        tracing::debug!(method = %request.method(), by = caller.by, "asked");
        let served = serve(&hub, request, &caller).await?;
        Ok((served.reply.payload(), served.then))
    });
    let result = match tokio::time::timeout_at(until, work).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => {
            tracing::error!(request = what, "serving a request failed: {panic}");
            Err("internal error of the launcher; its log has the details".to_owned())
        }
        Err(_elapsed) => Err("it takes longer; ask for its state later".to_owned()),
    };
    match result {
        Ok((payload, then)) => Answer {
            result: Ok(payload),
            then,
        },
        Err(text) => Answer {
            result: Err(cut_error(&text).to_owned()),
            then: None,
        },
    }
}
