//! Many messages at once, in order.
//!
//! Invariant: they are on their way in the order given; each has a result of its own, so that the caller knows what to
//! send again.

use super::handle::{Live, acknowledged, checked, not_sent};
use super::{CallError, Client};
use bytes::Bytes;
use rumqttc::{PublishNotice, PublishNoticeError, PublishOptions};
use std::time::Duration;

/// A message without properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where to.
    pub topic: String,
    /// What.
    pub payload: Bytes,
}

impl Client {
    /// Publishes with QoS 1, one after the other, and waits for all acknowledgements together; at most `within`.
    ///
    /// The results are in the order of the messages, one for each. What failed but for [`CallError::is_final`] may have
    /// arrived all the same, when the connection ended before its acknowledgement.
    ///
    /// # Cancel safety
    /// When dropped, any of them may or may not be published.
    pub async fn publish_all(
        &self,
        messages: &[Message],
        within: Duration,
    ) -> Vec<Result<(), CallError>> {
        let mut results = Vec::with_capacity(messages.len());
        let missing = match self.live() {
            Ok(live) => {
                tokio::select! {
                    biased;
                    () = send_all(&live, messages, &mut results) => CallError::Timeout,
                    error = live.gone() => error,
                    () = tokio::time::sleep(within) => CallError::Timeout,
                }
            }
            Err(error) => error,
        };
        results.resize_with(messages.len(), || Err(missing.clone()));
        results
    }
}

async fn send_all(live: &Live, messages: &[Message], results: &mut Vec<Result<(), CallError>>) {
    let mut sent = Vec::with_capacity(messages.len());
    for message in messages {
        sent.push(begin(live, message).await);
    }
    for (begun, message) in sent.into_iter().zip(messages) {
        results.push(match begun {
            Ok(notice) => end(notice, &message.topic).await,
            Err(error) => Err(error),
        });
    }
}

/// Takes a message to the connection's task.
async fn begin(live: &Live, message: &Message) -> Result<PublishNotice, CallError> {
    let payload = checked(&message.topic, message.payload.clone())?;
    live.mqtt
        .publish_tracked(
            message.topic.as_str(),
            payload,
            PublishOptions::at_least_once(),
        )
        .await
        .map_err(|error| not_sent(&message.topic, &error))
}

/// Waits for its acknowledgement.
async fn end(notice: PublishNotice, topic: &str) -> Result<(), CallError> {
    match notice.wait_async().await {
        Ok(result) => acknowledged(topic, &result).map(|_to_whom| ()),
        Err(PublishNoticeError::Recv | PublishNoticeError::SessionReset) => {
            Err(CallError::Disconnected("it was closed".to_owned()))
        }
        Err(error) => Err(CallError::Refused(error.to_string())),
    }
}
