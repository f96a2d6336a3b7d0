//! What a session receives.
//!
//! Invariant: a request can be answered only into an inbox, so that nobody makes this login publish elsewhere.

use super::Endpoint;
use crate::topics::{INBOX, MessageKind, Topic};
use bytes::Bytes;
use rumqttc::{Publish, PublishProperties, QoS};

/// User properties of the embedded core's broker begin so.
const CORES_OWN: &str = "x-mqtt-";

/// Something a session reports, in the order it happened.
#[derive(Debug)]
pub enum Incoming {
    /// Logged in and subscribed: calls work from here on.
    Connected {
        /// Where.
        endpoint: Endpoint,
        /// The MQTT client id of this connection.
        mqtt_client_id: String,
    },
    /// The connection ended, or could not be made; told again only when the reason is another one.
    Disconnected {
        /// Why, in words.
        reason: String,
    },
    /// Somebody wants something done: `rpc`, `action`, `config`, or any message with a response topic.
    Request(IncomingRequest),
    /// An event, or a message that is no address of the hub and wants no answer.
    Message {
        /// Its topic.
        topic: String,
        /// What it says.
        payload: Bytes,
    },
}

/// A request, with what is needed to answer it by [`super::Client::reply`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncomingRequest {
    /// Where it was sent to, as it came; for its sender, the last of five levels, the core vouches (HP 1.14).
    pub topic: String,
    /// Its arguments.
    pub payload: Bytes,
    reply_to: Option<ReplyTo>,
}

/// What is copied into the reply (HP 1.13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReplyTo {
    pub(super) topic: String,
    pub(super) qos: QoS,
    correlation: Option<Bytes>,
    user_properties: Vec<(String, String)>,
    content_type: Option<String>,
    payload_format: Option<u8>,
}

impl IncomingRequest {
    /// Whether anybody waits for an answer. None is sent otherwise, and that is no error (T38).
    #[must_use]
    pub fn wants_reply(&self) -> bool {
        self.reply_to.is_some()
    }

    pub(super) fn reply_to(&self) -> Option<&ReplyTo> {
        self.reply_to.as_ref()
    }
}

impl ReplyTo {
    fn of(publish: &Publish) -> Option<ReplyTo> {
        let properties = publish.properties.as_ref()?;
        let topic = properties.response_topic.as_deref()?;
        // Elsewhere this login would lend its rights to whoever asks.
        let inbox = topic.strip_prefix(INBOX)?;
        if !inbox.starts_with('/') || inbox.len() == 1 || !crate::topics::is_topic(topic) {
            return None;
        }
        // What the core adds to every message is no one's to send.
        let user_properties = properties
            .user_properties
            .iter()
            .filter(|(name, _)| !name.starts_with(CORES_OWN))
            .cloned()
            .collect();
        Some(ReplyTo {
            topic: topic.to_owned(),
            qos: publish.qos,
            correlation: properties.correlation_data.clone(),
            user_properties,
            content_type: properties.content_type.clone(),
            payload_format: properties.payload_format_indicator,
        })
    }

    /// The properties of a reply; `error` is the text when it failed.
    pub(super) fn properties(&self, error: Option<&str>) -> PublishProperties {
        let mut user_properties = self.user_properties.clone();
        let mut content_type = self.content_type.clone();
        if let Some(text) = error {
            user_properties.push((super::ERROR.to_owned(), property_text(text)));
            content_type = Some(super::ERROR.to_owned());
        }
        PublishProperties {
            payload_format_indicator: self.payload_format,
            correlation_data: self.correlation.clone(),
            user_properties,
            content_type,
            ..PublishProperties::default()
        }
    }
}

/// A text as a property can carry it: without NUL and of at most 65,535 bytes (MQTT 5 §1.5.4). One that cannot be
/// encoded would cost the connection, and an error repeats what others sent; the payload carries the whole text.
#[must_use]
pub fn property_text(text: &str) -> String {
    const LONGEST: usize = 65_535;
    let mut fit = text.replace('\0', "\u{fffd}");
    fit.truncate(fit.floor_char_boundary(LONGEST));
    fit
}

impl Incoming {
    /// Sorts a publication that is not for the inbox.
    pub(super) fn sort(topic: String, publish: &Publish) -> Incoming {
        let payload = publish.payload.clone();
        let asks = publish
            .properties
            .as_ref()
            .is_some_and(|properties| properties.response_topic.is_some());
        let is_request = match Topic::parse(&topic) {
            Ok(address) => address.kind != MessageKind::Event,
            // Whoever waits for an answer is to learn that the address is wrong.
            Err(_) => asks,
        };
        if is_request {
            Incoming::Request(IncomingRequest {
                reply_to: ReplyTo::of(publish),
                topic,
                payload,
            })
        } else {
            Incoming::Message { topic, payload }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::property_text;

    #[test]
    fn property_texts_can_be_encoded() {
        assert_eq!(
            property_text("plugin 'a' not found"),
            "plugin 'a' not found"
        );
        assert_eq!(property_text("a\0b"), "a\u{fffd}b");
        assert_eq!(property_text(&"x".repeat(70_000)).len(), 65_535);
        // Not within a character, also when the replacement made it longer.
        assert_eq!(property_text(&"\0".repeat(65_535)).len(), 65_535);
        assert_eq!(property_text(&"ü".repeat(40_000)).len(), 65_534);
    }
}
