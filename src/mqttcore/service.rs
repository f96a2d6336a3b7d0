//! The auth service's place on the bus: requests come in without a socket, replies and events go out by the router.
//!
//! Invariants: requests are begun in the order in which they came; at most `AT_ONCE` are worked on; a receiver that
//! does not read delays its own reply only; a reply goes to an inbox or nowhere, as the core would otherwise write where
//! its client may not.

use std::sync::Arc;

use bus::golang;
use bus::topics::{INBOX, MessageKind, is_topic};
use bus::wire::AUTH;
use bytes::Bytes;
use mqtt5::QoS;
use mqtt5::packet::publish::PublishPacket;
use tokio::sync::{Semaphore, mpsc};

use crate::auth::{Answer, Auth, AuthError, Effect};
use crate::coming::{By, Coming};
use crate::hub::Hub;
use crate::job::{Job, Request};

/// How many are worked on.
const AT_ONCE: usize = 64;
/// The longest error text (spec §8).
const MAX_ERROR: usize = 1024;

/// Serves until the sender of `jobs` is gone.
///
/// # Cancel safety
/// Requests that have begun go on in their own tasks.
pub async fn serve(hub: Arc<Hub>, mut jobs: mpsc::Receiver<Job>) {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(job) = jobs.recv().await {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let hub = Arc::clone(&hub);
        tokio::spawn(async move {
            match job {
                Job::Request(request) => answer(&hub, request).await,
                Job::LoggedIn(login) => tell_login(&hub, &login).await,
            }
            drop(slot);
        });
    }
}

async fn answer(hub: &Hub, request: Request) {
    let Request {
        call,
        from,
        reply_to,
        correlation,
        qos,
    } = request;
    let answer = hub.auth.answer(&call).await;
    match &answer {
        Ok(_) => tracing::debug!(method = call.method, sender = call.sender, "answered"),
        Err(error) => {
            tracing::info!(method = call.method, sender = call.sender, %error, "refused");
        }
    }
    if let Err(AuthError::Store(_)) = &answer {
        // The change counts although it is not on disk yet; whom it was about went with the error.
        hub.rejudge_all(Some(&from)).await;
    }
    for effect in answer.iter().flat_map(|answer| &answer.effects) {
        match effect {
            Effect::Rejudge(login) => hub.rejudge(login, Some(&from)).await,
            Effect::ThrowOut(login) => hub.throw_out(login),
        }
    }
    let Some(reply_to) = reply_to.filter(|topic| is_inbox(topic)) else {
        return;
    };
    publish(hub, reply(reply_to, correlation, qos, answer)).await;
}

fn is_inbox(topic: &str) -> bool {
    is_topic(topic)
        && topic
            .strip_prefix(INBOX)
            .and_then(|rest| rest.strip_prefix('/'))
            .is_some_and(|owner| !owner.is_empty())
}

/// HP 1.13: content type `error` and the text as payload say that it failed.
fn reply(
    topic: String,
    correlation: Option<Bytes>,
    qos: QoS,
    answer: Result<Answer, AuthError>,
) -> PublishPacket {
    let mut packet = match answer {
        Ok(answer) => {
            PublishPacket::new(topic, answer.payload, qos).with_content_type("json".to_owned())
        }
        Err(error) => {
            let text = cut(error.to_string());
            PublishPacket::new(topic, text.clone().into_bytes(), qos)
                .with_content_type("error".to_owned())
                .with_user_property("error".to_owned(), text.replace('\0', "\u{fffd}"))
        }
    };
    if let Some(correlation) = correlation {
        packet.properties.set_correlation_data(correlation);
    }
    packet
}

fn cut(mut text: String) -> String {
    let end = (0..=MAX_ERROR.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    text.truncate(end);
    text
}

/// `event/auth/clients/connected/auth` (spec §7).
async fn tell_login(hub: &Hub, login: &str) {
    let topic = format!("{}/{AUTH}/clients/connected/{AUTH}", MessageKind::Event);
    let packet = PublishPacket::new(topic, golang::encode(login), QoS::AtLeastOnce);
    publish(hub, packet).await;
}

/// Sends a message of the core itself: numbered like all others, so that overlapping subscriptions get one copy.
async fn publish(hub: &Hub, packet: PublishPacket) {
    let number = hub.numbers.next();
    let (name, value) = hub.numbers.stamp.property(number);
    let mut numbered = PublishPacket::new(packet.topic_name, packet.payload, packet.qos);
    numbered.properties.add_user_property(name, value);
    for (id, property) in packet.properties.iter() {
        // All of these were taken from a valid packet.
        let _ = numbered.properties.add(id, property.clone());
    }
    numbered.properties.inject_sender(Some(AUTH));
    let message = Coming {
        topic: &numbered.topic_name,
        by: By::Core(number, numbered.payload.len()),
    };
    hub.make_room(message).await;
    hub.router.route_message(&numbered, None).await;
}

/// Registers the core's own accounts before anybody can ask (HP 1.20).
///
/// Their keys are given; an administrator keeps its password, and a role that was changed by hand stays.
pub fn register_own(auth: &Auth, own: impl IntoIterator<Item = bus::wire::ClientProfile>) -> u64 {
    let (_, change) = auth.store.change(|clients| {
        for profile in own {
            clients.add(profile);
        }
    });
    change
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_go_to_inboxes_only() {
        for good in ["_INBOX/admin-h-1", "_INBOX/a/b"] {
            assert!(is_inbox(good), "{good}");
        }
        for bad in [
            "",
            "_INBOX",
            "_INBOX/",
            "_INBOXES/a",
            "event/a/b/c/a",
            "_INBOX/+",
            "_INBOX/a/#",
        ] {
            assert!(!is_inbox(bad), "{bad}");
        }
    }

    #[test]
    fn error_texts_are_cut_between_letters() {
        assert_eq!(cut("é".repeat(2000)).len(), MAX_ERROR);
        assert_eq!(cut(format!("x{}", "é".repeat(2000))).len(), MAX_ERROR - 1);
        assert_eq!(cut("short".to_owned()), "short");
    }
}
