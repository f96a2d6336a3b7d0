//! Orders to a plugin and their outcomes.
//!
//! Invariant: whoever gives an order hears of its end, or that nobody took it.

use crate::message::{Order, OrderError, OrderResult, PluginMessage};
use crate::seat::Seat;
use tokio::sync::oneshot;

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
