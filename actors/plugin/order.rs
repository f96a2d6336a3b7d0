//! Orders to a plugin and their outcomes.
//!
//! Invariant: whoever gives an order hears of its end, or that nobody took it.

use super::PluginMessage;
use crate::seat::{Seat, View};
use std::sync::Arc;
use supervision::lifecycle::{Event, StopCause};
use tokio::sync::oneshot;

/// What somebody wants of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Be up.
    Start,
    /// Be down.
    Stop(StopCause),
    /// Be up with a new run.
    Restart,
    /// Be down without grace.
    Kill,
}

impl Order {
    /// The same for the lifecycle.
    pub(crate) fn event(self) -> Event {
        match self {
            Order::Start => Event::Start,
            Order::Stop(cause) => Event::Stop(cause),
            Order::Restart => Event::Restart,
            Order::Kill => Event::KillNow,
        }
    }
}

/// Why an order was not carried out; the text is that of the reply (HP 1.10).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// It was tried and failed, or is not allowed.
    #[error("{0}")]
    Failed(String),
    /// It came too late.
    #[error("the launcher is stopping; nothing is started or changed any more")]
    Ending,
    /// Nobody answered; the actor is being restarted.
    #[error("'{id}' cannot be asked at the moment; try again")]
    Unanswered {
        /// The plugin.
        id: String,
    },
}

/// How an order went: the view afterwards, or why not.
pub type OrderResult = Result<Arc<View>, OrderError>;

/// Sends an order and waits for its result.
///
/// # Errors
/// As the plugin's actor answers; [`OrderError::Unanswered`] when its actor is gone or crashes meanwhile.
///
/// # Cancel safety
/// An order that was sent is carried out when the future is dropped after the actor took it in.
pub async fn order(seat: &Seat, order: Order, by: &str) -> OrderResult {
    match send_order(seat, order, by).await {
        Ok(result) => result,
        Err(_closed) => Err(OrderError::Unanswered {
            id: seat.id.to_string(),
        }),
    }
}

/// Sends an order at once; the receiver gets the result.
pub fn send_order(seat: &Seat, order: Order, by: &str) -> oneshot::Receiver<OrderResult> {
    let (reply, result) = oneshot::channel();
    // When nobody takes it, `reply` is dropped and the receiver learns so.
    let _ = seat.tell(PluginMessage::Obey {
        order,
        by: by.to_owned(),
        reply: Some(reply),
    });
    result
}
