//! Requests that came in, and how they are answered (HP 1.13).
//!
//! Invariant: a reply copies what the requester needs to recognise it, and says `error` in its content type when it is
//! one; a request without response topic gets none (T38).

use super::Incoming;
use crate::topics::{MessageKind, Topic};
use bytes::Bytes;
use rumqttc::mqttbytes::v5::{Publish, PublishProperties};
use rumqttc::{PublishOptions, QoS};

/// Content type of a request and of a reply that is a result.
pub(super) const JSON: &str = "json";
/// Content type of a reply that is an error.
pub(super) const ERROR: &str = "error";
/// Properties that the core adds to every message; they are no one's to send.
const CORES_OWN: &str = "x-mqtt-";

/// A request of somebody on the bus.
#[derive(Debug, Clone)]
pub struct IncomingRequest {
    /// Where it was sent.
    pub topic: String,
    /// Its argument.
    pub payload: Bytes,
    answer: Option<Answer>,
}

/// How the requester wants its answer.
#[derive(Debug, Clone)]
struct Answer {
    topic: String,
    qos: QoS,
    properties: PublishProperties,
}

/// What a message is to us.
pub(super) fn message_of(topic: String, publish: Publish) -> Incoming {
    let is_request = Topic::parse(&topic)
        .map(|address| match address.kind {
            MessageKind::Action | MessageKind::Config | MessageKind::Rpc => true,
            MessageKind::Event => false,
        })
        .unwrap_or(
            publish
                .properties
                .as_ref()
                .is_some_and(|p| p.response_topic.is_some()),
        );
    let payload = publish.payload;
    if !is_request {
        return Incoming::Message { topic, payload };
    }
    let answer = publish.properties.and_then(|mut properties| {
        let topic = properties
            .response_topic
            .take()
            .filter(|topic| !topic.is_empty())?;
        properties
            .user_properties
            .retain(|(name, _)| !name.starts_with(CORES_OWN));
        Some(Answer {
            topic,
            qos: publish.qos,
            properties: PublishProperties {
                payload_format_indicator: properties.payload_format_indicator,
                correlation_data: properties.correlation_data,
                user_properties: properties.user_properties,
                content_type: properties.content_type,
                ..PublishProperties::default()
            },
        })
    });
    Incoming::Request(IncomingRequest {
        topic,
        payload,
        answer,
    })
}

impl IncomingRequest {
    /// Whether the requester wants an answer at all.
    #[must_use]
    pub fn wants_answer(&self) -> bool {
        self.answer.is_some()
    }

    /// Where an answer goes, and with what.
    pub(super) fn answer_to(
        &self,
        result: &Result<Vec<u8>, String>,
    ) -> Option<(String, PublishOptions)> {
        let answer = self.answer.as_ref()?;
        let mut properties = answer.properties.clone();
        if let Err(text) = result {
            properties.content_type = Some(ERROR.to_owned());
            properties
                .user_properties
                .push((ERROR.to_owned(), text.clone()));
        }
        let options = PublishOptions::new(answer.qos).properties(properties);
        Some((answer.topic.clone(), options))
    }
}
