//! The handle by which callers use a session.
//!
//! Invariant: a caller waits for the hub, never the other way round; whatever happens, it waits no longer than its
//! timeout.

use super::dial::end_in_words;
use super::{CallError, ConnectError, ERROR, Endpoint, IncomingRequest, JSON, MAX_PACKET};
use crate::rpc;
use bytes::Bytes;
use rumqttc::{
    AsyncClient, ClientError, ConnectionError, PubAckReason, Publish, PublishNoticeError,
    PublishOptions, PublishProperties, PublishResult, QoS,
};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

/// What of a packet may be taken by anything but the payload.
const OVERHEAD: usize = 128 * 1024;

/// How long an acknowledgement is waited for; the message is on its way by then.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the end of a session is waited for.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How a session is.
#[derive(Debug, Clone)]
pub enum Status {
    /// It has no connection and tries, or waits to try, again.
    Connecting {
        /// Attempts that failed in a row, or connections that did not last.
        failures: u32,
        /// Why the last attempt failed; none = there was none yet, or the last one worked.
        last: Option<ConnectError>,
        /// When the next attempt is; none = it is under way.
        next: Option<Instant>,
    },
    /// Calls work.
    Connected {
        /// Where.
        endpoint: Endpoint,
        /// The MQTT client id of the connection.
        mqtt_client_id: String,
    },
    /// It was closed and does not come back.
    Closed,
}

/// A handle to a session; clones are the same session.
#[derive(Clone)]
pub struct Client {
    pub(super) shared: Arc<Shared>,
}

/// What handles and the session's task share.
pub(super) struct Shared {
    pub(super) login: String,
    live: Mutex<Option<Arc<Live>>>,
    pub(super) status: watch::Sender<Status>,
    pub(super) closing: watch::Sender<bool>,
    pub(super) eager: watch::Sender<bool>,
    pub(super) nudged: Notify,
    /// What each connection from now on is to be subscribed to besides its inbox, in order.
    filters: Mutex<Vec<String>>,
}

/// One connection, from the grant of its subscriptions to its end.
pub(super) struct Live {
    pub(super) mqtt: AsyncClient,
    pub(super) inbox: String,
    /// Who waits for which correlation; none once the connection is gone, so that nobody begins to wait.
    waiting: Mutex<Option<HashMap<String, oneshot::Sender<Publish>>>>,
    /// Why it is gone; none while it is not.
    gone: watch::Sender<Option<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that may panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(login: &str, filters: &[String]) -> Self {
        Shared {
            login: login.to_owned(),
            filters: Mutex::new(filters.to_vec()),
            live: Mutex::new(None),
            status: watch::Sender::new(Status::Connecting {
                failures: 0,
                last: None,
                next: None,
            }),
            closing: watch::Sender::new(false),
            eager: watch::Sender::new(false),
            nudged: Notify::new(),
        }
    }

    pub(super) fn set_live(&self, live: Option<Arc<Live>>) {
        *locked(&self.live) = live;
    }

    pub(super) fn filters(&self) -> Vec<String> {
        locked(&self.filters).clone()
    }

    /// Adds those that are not there; gives these.
    pub(super) fn add_filters(&self, more: Vec<String>) -> Vec<String> {
        let mut filters = locked(&self.filters);
        let mut new = more;
        new.retain(|filter| !filters.contains(filter));
        filters.extend(new.iter().cloned());
        new
    }

    pub(super) fn drop_filters(&self, which: &[String]) {
        locked(&self.filters).retain(|filter| !which.contains(filter));
    }
}

impl Live {
    pub(super) fn new(mqtt: AsyncClient, inbox: String) -> Self {
        Live {
            mqtt,
            inbox,
            waiting: Mutex::new(Some(HashMap::new())),
            gone: watch::Sender::new(None),
        }
    }

    /// Gives a reply to who waits for it; to nobody if nobody does (T9).
    pub(super) fn take_reply(&self, publish: Publish) {
        let Some(correlation) = publish
            .properties
            .as_ref()
            .and_then(|properties| properties.correlation_data.as_ref())
            .and_then(|data| std::str::from_utf8(data).ok())
        else {
            return;
        };
        let waiting = locked(&self.waiting)
            .as_mut()
            .and_then(|waiting| waiting.remove(correlation));
        if let Some(waiting) = waiting {
            // Who waited may have given up in this moment.
            let _ = waiting.send(publish);
        }
    }

    /// Answers a request that nobody has room for, without waiting.
    pub(super) fn answer_busy(&self, request: &IncomingRequest) {
        let Some(to) = request.reply_to() else {
            return;
        };
        let options = PublishOptions::new(to.qos).properties(to.properties(Some(rpc::BUSY)));
        let sent = self.mqtt.try_publish(to.topic.as_str(), rpc::BUSY, options);
        if let Err(error) = sent {
            tracing::debug!(topic = %request.topic, %error, "no room to answer busy");
        }
    }

    /// Ends all waiting.
    pub(super) fn end(&self, error: &ConnectionError) {
        self.end_because(end_in_words(error));
    }

    pub(super) fn end_because(&self, reason: String) {
        self.gone.send_replace(Some(reason));
        locked(&self.waiting).take();
    }

    pub(super) async fn gone(&self) -> CallError {
        let mut gone = self.gone.subscribe();
        let reason = match gone.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => String::new(),
        };
        CallError::Disconnected(reason)
    }

    /// Publishes and waits for the acknowledgement, or for the end of the connection.
    async fn send(
        &self,
        topic: &str,
        payload: Bytes,
        options: PublishOptions,
    ) -> Result<Sent, CallError> {
        let published = async {
            let notice = self
                .mqtt
                .publish_tracked(topic, payload, options)
                .await
                .map_err(|error| not_sent(topic, &error))?;
            match notice.wait_async().await {
                Ok(result) => acknowledged(topic, &result),
                Err(PublishNoticeError::Recv | PublishNoticeError::SessionReset) => {
                    Err(CallError::Disconnected("it was closed".to_owned()))
                }
                Err(error) => Err(CallError::Refused(error.to_string())),
            }
        };
        tokio::select! {
            biased;
            result = published => result,
            error = self.gone() => Err(error),
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "errors of a library; those not told apart show in its own words"
)]
pub(super) fn not_sent(topic: &str, error: &ClientError) -> CallError {
    match error {
        ClientError::RequestChannelDisconnected(_) => {
            CallError::Disconnected("it was closed".to_owned())
        }
        ClientError::InvalidRequest(_) => CallError::Invalid {
            topic: rpc::echoed(topic),
            why: "it is no topic",
        },
        other => CallError::Refused(other.to_string()),
    }
}

/// Whom a publication reached, as far as the core told.
pub(super) enum Sent {
    /// Somebody, or that is not told.
    ToSome,
    /// Nobody is subscribed. Some cores tell, others do not.
    ToNobody,
}

pub(super) fn acknowledged(topic: &str, result: &PublishResult) -> Result<Sent, CallError> {
    let reason = match result {
        PublishResult::Qos1(ack) => ack.reason,
        PublishResult::Qos0Flushed
        | PublishResult::Qos2Completed(_)
        | PublishResult::Qos2PubRecRejected(_) => return Ok(Sent::ToSome),
    };
    let unfit = |why| CallError::Invalid {
        topic: rpc::echoed(topic),
        why,
    };
    match reason {
        PubAckReason::Success => Ok(Sent::ToSome),
        PubAckReason::NoMatchingSubscribers => Ok(Sent::ToNobody),
        PubAckReason::NotAuthorized => Err(CallError::NotAuthorized),
        PubAckReason::TopicNameInvalid => Err(unfit("the hub takes no such topic")),
        PubAckReason::PayloadFormatInvalid => Err(unfit("the hub takes no such payload")),
        PubAckReason::UnspecifiedError
        | PubAckReason::ImplementationSpecificError
        | PubAckReason::PacketIdentifierInUse
        | PubAckReason::QuotaExceeded => Err(CallError::Refused(format!("{reason:?}"))),
    }
}

/// Forgets who waits for a correlation, however the call ends.
struct Waiting<'a> {
    live: &'a Live,
    correlation: &'a str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = locked(&self.live.waiting).as_mut() {
            waiting.remove(self.correlation);
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("login", &self.shared.login)
            .field("status", &*self.shared.status.borrow())
            .finish()
    }
}

impl Client {
    /// The user name.
    #[must_use]
    pub fn login(&self) -> &str {
        &self.shared.login
    }

    /// How the session is, now and from now on.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// Whether calls work at the moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        locked(&self.shared.live).is_some()
    }

    /// Waits until there is no connection.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn disconnected(&self) {
        let mut status = self.shared.status.subscribe();
        // The sender lives as long as this handle.
        let _ = status
            .wait_for(|status| !matches!(status, Status::Connected { .. }))
            .await;
    }

    /// Tries at once to connect if it is not connected: something has changed that may have been the cause.
    pub fn nudge(&self) {
        self.shared.nudged.notify_one();
    }

    /// Tries more often, from 10 ms on, while `eager`: a core is starting (spec §7).
    pub fn set_eager(&self, eager: bool) {
        self.shared.eager.send_replace(eager);
        if eager {
            self.nudge();
        }
    }

    /// Calls a method: publishes to `topic` and waits for the reply.
    ///
    /// An empty payload is a call without arguments. Many calls may wait at once.
    ///
    /// # Errors
    /// Not connected, not allowed, answered with an error, connection lost, or no reply within `timeout`.
    ///
    /// # Cancel safety
    /// When dropped, the call may or may not be carried out; its reply is dropped.
    pub async fn call(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let live = self.live()?;
        let payload = checked(topic, payload.into())?;
        let correlation = format!("{:032x}", rand::random::<u128>());
        let (sender, reply) = oneshot::channel();
        match locked(&live.waiting).as_mut() {
            Some(waiting) => waiting.insert(correlation.clone(), sender),
            None => return Err(CallError::NotConnected),
        };
        let _waiting = Waiting {
            live: &live,
            correlation: &correlation,
        };
        let options = PublishOptions::at_least_once().properties(PublishProperties {
            content_type: Some(JSON.to_owned()),
            response_topic: Some(live.inbox.clone()),
            correlation_data: Some(Bytes::from(correlation.clone().into_bytes())),
            ..PublishProperties::default()
        });
        let sent = async {
            match live.send(topic, payload, options).await? {
                Sent::ToSome => Ok(()),
                Sent::ToNobody => Err(CallError::NobodyServes {
                    topic: rpc::echoed(topic),
                }),
            }
        };
        let replied = wait_for_reply(&live, sent, reply);
        match tokio::time::timeout(timeout, replied).await {
            Ok(result) => result,
            Err(_) => Err(CallError::Timeout),
        }
    }

    /// Publishes with QoS 1, without properties, and waits for the acknowledgement, 5 s at most.
    ///
    /// # Errors
    /// Not connected, not allowed, connection lost, or not acknowledged in time.
    ///
    /// # Cancel safety
    /// When dropped, it may or may not be published.
    pub async fn publish(&self, topic: &str, payload: impl Into<Bytes>) -> Result<(), CallError> {
        let live = self.live()?;
        let payload = checked(topic, payload.into())?;
        let sent = live.send(topic, payload, PublishOptions::at_least_once());
        match tokio::time::timeout(SEND_TIMEOUT, sent).await {
            Ok(result) => result.map(|_to_whom| ()),
            Err(_) => Err(CallError::Timeout),
        }
    }

    /// Answers a request exactly as the original (HP 1.13); an error text is cut to [`rpc::MAX_ERROR`].
    ///
    /// A request that wants no reply gets none, which is no error (T38).
    ///
    /// # Errors
    /// Not connected, not allowed, connection lost, or not acknowledged in time.
    pub async fn reply(
        &self,
        request: &IncomingRequest,
        result: Result<Vec<u8>, String>,
    ) -> Result<(), CallError> {
        let Some(to) = request.reply_to() else {
            return Ok(());
        };
        let live = self.live()?;
        let (payload, properties) = match result {
            Ok(payload) => (Bytes::from(payload), to.properties(None)),
            Err(text) => {
                let text = rpc::cut_error(&text).to_owned();
                let properties = to.properties(Some(&text));
                (Bytes::from(text.into_bytes()), properties)
            }
        };
        let payload = checked(&to.topic, payload)?;
        let options = PublishOptions::new(to.qos).properties(properties);
        if to.qos == QoS::AtMostOnce {
            // Nobody acknowledges it; to be on its way is all there is.
            return live
                .mqtt
                .publish(to.topic.as_str(), payload, options)
                .await
                .map_err(|error| not_sent(&to.topic, &error));
        }
        match tokio::time::timeout(SEND_TIMEOUT, live.send(&to.topic, payload, options)).await {
            Ok(result) => result.map(|_to_whom| ()),
            Err(_) => Err(CallError::Timeout),
        }
    }

    /// Ends the session: a connection is closed in order, within a second; nothing is tried any more.
    pub async fn close(&self) {
        self.shared.closing.send_replace(true);
        let mut status = self.shared.status.subscribe();
        let closed = status.wait_for(|status| matches!(status, Status::Closed));
        // It ends by itself; the bound is for a task that was ended with its runtime.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closed).await;
    }

    pub(super) fn live(&self) -> Result<Arc<Live>, CallError> {
        locked(&self.shared.live)
            .clone()
            .ok_or(CallError::NotConnected)
    }
}

async fn wait_for_reply(
    live: &Live,
    sent: impl Future<Output = Result<(), CallError>>,
    reply: oneshot::Receiver<Publish>,
) -> Result<Vec<u8>, CallError> {
    tokio::pin!(reply);
    tokio::pin!(sent);
    // The reply may overtake the acknowledgement.
    let publish = tokio::select! {
        biased;
        publish = &mut reply => publish,
        result = &mut sent => {
            result?;
            reply.await
        }
    };
    let Ok(publish) = publish else {
        return Err(live.gone().await);
    };
    let content_type = publish
        .properties
        .as_ref()
        .and_then(|properties| properties.content_type.as_deref());
    if content_type == Some(ERROR) {
        return Err(CallError::remote(&publish.payload));
    }
    Ok(publish.payload.to_vec())
}

/// Refuses what would cost the connection.
pub(super) fn checked(topic: &str, payload: Bytes) -> Result<Bytes, CallError> {
    let fail = |why| CallError::Invalid {
        topic: rpc::echoed(topic),
        why,
    };
    if !crate::topics::is_topic(topic) {
        return Err(fail("it is no topic"));
    }
    if payload.len() > MAX_PACKET as usize - OVERHEAD {
        return Err(fail("the payload is too long"));
    }
    Ok(payload)
}
