//! The client: connects once or for ever, calls, answers, publishes (HP 1.12, 1.13).
//!
//! Invariants:
//! - each connection is made anew by us, with an id of its own; the library never reconnects by itself;
//! - nothing is sent before all subscriptions are acknowledged, so no reply is missed;
//! - a call ends by its reply, its refusal, the end of the connection or its time limit, whatever comes first.

mod calls;
mod connection;
mod dial;
mod endpoint;
mod error;
mod request;

pub use endpoint::{Endpoint, EndpointError};
pub use error::{CallError, ConnectError};
pub use request::IncomingRequest;

use bytes::Bytes;
use connection::{Connection, Opened, open_any};
use rand::Rng;
use request::JSON;
use rumqttc::mqttbytes::v5::{PubAckReason, PublishProperties};
use rumqttc::{PublishNotice, PublishOptions, PublishResult, QoS};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

/// First delay before connecting is tried again; it grows by half up to [`MAX_DELAY`].
pub const FIRST_DELAY: Duration = Duration::from_millis(10);
/// Connecting is tried at least this often (spec §8).
pub const MAX_DELAY: Duration = Duration::from_secs(30);
/// Messages that wait for the receiver; more are answered `busy` or dropped.
const RECEIVER: usize = 256;

/// What is needed to log in; never shown.
pub struct Credentials {
    /// The password: a token.
    pub token: String,
    /// The certificate of the hub's CA, PEM; used over TLS only.
    pub ca_pem: Vec<u8>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// Gives the credentials as they are now, or says why there are none.
pub type CredentialSource = Arc<dyn Fn() -> Result<Credentials, String> + Send + Sync>;

/// How to connect.
#[derive(Clone)]
pub struct Options {
    /// Who we are on the bus.
    pub login: String,
    /// Where to try, in order; asked at each attempt, as addresses come and go.
    pub endpoints: Arc<dyn Fn() -> Vec<Endpoint> + Send + Sync>,
    /// Asked at each attempt, as a core renews tokens; reads small files at most.
    pub credentials: CredentialSource,
    /// What to subscribe to beside the own inbox.
    pub subscriptions: Vec<String>,
    /// Besides root, whose socket is given a credential: the owner of the certs folder.
    pub trusted_uid: u32,
}

/// What comes from the bus.
#[derive(Debug)]
pub enum Incoming {
    /// A connection is made, with all subscriptions.
    Connected {
        /// Where.
        endpoint: Endpoint,
        /// Our id on it.
        mqtt_id: String,
    },
    /// It ended, or could not be made; told again only when the reason is another one.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// Somebody asks for something.
    Request(IncomingRequest),
    /// Somebody tells something.
    Message {
        /// Where.
        topic: String,
        /// What.
        payload: Bytes,
    },
}

/// Speaks on the bus; cheap to clone. All clones share one connection.
#[derive(Debug, Clone)]
pub struct Client {
    current: watch::Receiver<Option<Arc<Connection>>>,
    nudge: Arc<Notify>,
}

/// Connects once, as a command does.
///
/// # Errors
/// Why there is no connection.
///
/// # Cancel safety
/// Cancel safe; a connection half made is closed.
pub async fn connect_once(
    options: &Options,
) -> Result<(Client, mpsc::Receiver<Incoming>), ConnectError> {
    let (sink, receiver) = mpsc::channel(RECEIVER);
    let opened = open_any(options, &sink).await?;
    let (current, watched) = watch::channel(Some(opened.connection));
    tokio::spawn(async move {
        let _ = opened.ended.await;
        current.send_replace(None);
    });
    let nudge = Arc::new(Notify::new());
    let client = Client {
        current: watched,
        nudge,
    };
    Ok((client, receiver))
}

/// Connects, and connects again for ever, until the receiver is dropped.
#[must_use]
pub fn connect_forever(options: Options) -> (Client, mpsc::Receiver<Incoming>) {
    let (sink, receiver) = mpsc::channel(RECEIVER);
    let (current, watched) = watch::channel(None);
    let nudge = Arc::new(Notify::new());
    let client = Client {
        current: watched,
        nudge: nudge.clone(),
    };
    tokio::spawn(keep_connected(options, sink, current, nudge));
    (client, receiver)
}

async fn keep_connected(
    options: Options,
    sink: mpsc::Sender<Incoming>,
    current: watch::Sender<Option<Arc<Connection>>>,
    nudge: Arc<Notify>,
) {
    let mut delay = FIRST_DELAY;
    let mut last_reason = String::new();
    loop {
        let attempt = tokio::select! {
            attempt = open_any(&options, &sink) => attempt,
            () = sink.closed() => return,
        };
        let reason = match attempt {
            Ok(opened) => {
                delay = FIRST_DELAY;
                last_reason.clear();
                match serve(opened, &sink, &current).await {
                    Some(reason) => reason,
                    None => return,
                }
            }
            Err(error) => error.to_string(),
        };
        if reason != last_reason {
            last_reason.clone_from(&reason);
            if sink.send(Incoming::Disconnected { reason }).await.is_err() {
                return;
            }
        }
        let pause = delay.mul_f64(rand::rng().random_range(0.8..1.2));
        tokio::select! {
            () = tokio::time::sleep(pause) => delay = delay.mul_f64(1.5).min(MAX_DELAY),
            () = nudge.notified() => delay = FIRST_DELAY,
            () = sink.closed() => return,
        }
    }
}

/// Lets everybody use a connection until it ends; `None` when nobody listens any more.
async fn serve(
    opened: Opened,
    sink: &mpsc::Sender<Incoming>,
    current: &watch::Sender<Option<Arc<Connection>>>,
) -> Option<String> {
    let Opened {
        connection,
        endpoint,
        mqtt_id,
        mut ended,
    } = opened;
    current.send_replace(Some(connection));
    let told = sink.send(Incoming::Connected { endpoint, mqtt_id }).await;
    let reason = tokio::select! {
        reason = &mut ended, if told.is_ok() => {
            Some(reason.unwrap_or_else(|_| "its task ended".to_owned()))
        }
        () = sink.closed() => None,
    };
    current.send_replace(None);
    reason
}

impl Client {
    /// Tries to connect now rather than when the delay is over: a cause to do so has come.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    fn connection(&self) -> Result<Arc<Connection>, CallError> {
        self.current.borrow().clone().ok_or(CallError::Disconnected)
    }

    /// Whether there is a connection now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.current.borrow().is_some()
    }

    /// Waits until there is no connection.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn disconnected(&self) {
        let mut current = self.current.clone();
        // A sender that is gone means the same.
        let _ = current.wait_for(Option::is_none).await;
    }

    /// Calls a method and waits for its result, at most `within`.
    ///
    /// # Errors
    /// What the service answered, or why there is no answer.
    ///
    /// # Cancel safety
    /// What was sent is carried out; its reply is dropped.
    pub async fn call(
        &self,
        topic: &str,
        payload: Vec<u8>,
        within: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let connection = self.connection()?;
        let mut call = connection.calls.begin();
        let options = PublishOptions::at_least_once().properties(PublishProperties {
            content_type: Some(JSON.to_owned()),
            response_topic: Some(connection.inbox.clone()),
            correlation_data: Some(Bytes::copy_from_slice(call.correlation())),
            ..PublishProperties::default()
        });
        let asked = async {
            let sent = connection
                .handle
                .publish_tracked(topic, payload, options)
                .await;
            let notice = sent.map_err(|_closed| CallError::Disconnected)?;
            let refused = async {
                match acknowledged(notice).await {
                    // The reply comes, or the time limit.
                    Ok(()) => std::future::pending().await,
                    Err(error) => error,
                }
            };
            tokio::select! {
                biased;
                outcome = call.outcome() => outcome,
                error = refused => Err(error),
            }
        };
        match tokio::time::timeout(within, asked).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(CallError::TimedOut {
                topic: topic.to_owned(),
                within,
            }),
        }
    }

    /// Publishes at least once, without properties, and waits until the bus has it.
    ///
    /// # Errors
    /// There is no connection, or the bus refuses it.
    ///
    /// # Cancel safety
    /// It may be sent or not.
    pub async fn publish(&self, topic: &str, payload: Vec<u8>) -> Result<(), CallError> {
        self.send(topic, payload, PublishOptions::new(QoS::AtLeastOnce))
            .await
    }

    /// Answers a request as the original does (HP 1.13); without response topic nothing is sent (T38).
    ///
    /// # Errors
    /// As [`Client::publish`].
    ///
    /// # Cancel safety
    /// As [`Client::publish`].
    pub async fn reply(
        &self,
        request: &IncomingRequest,
        result: Result<Vec<u8>, String>,
    ) -> Result<(), CallError> {
        let Some((topic, options)) = request.answer_to(&result) else {
            return Ok(());
        };
        let payload = result.unwrap_or_else(String::into_bytes);
        self.send(&topic, payload, options).await
    }

    async fn send(
        &self,
        topic: &str,
        payload: Vec<u8>,
        options: PublishOptions,
    ) -> Result<(), CallError> {
        let connection = self.connection()?;
        match connection
            .handle
            .publish_tracked(topic, payload, options)
            .await
        {
            Ok(notice) => acknowledged(notice).await,
            Err(_closed) => Err(CallError::Disconnected),
        }
    }

    /// Closes the connection in order.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn close(&self) {
        if let Ok(connection) = self.connection() {
            // One that is broken needs no goodbye.
            let _ = connection.handle.disconnect().await;
        }
    }
}

async fn acknowledged(notice: PublishNotice) -> Result<(), CallError> {
    match notice.wait_async().await {
        Ok(PublishResult::Qos1(ack)) => match ack.reason {
            PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Ok(()),
            PubAckReason::NotAuthorized => Err(CallError::NotAuthorized),
            other => Err(CallError::Refused(format!("{other:?}"))),
        },
        Ok(_) => Ok(()),
        Err(_) => Err(CallError::Disconnected),
    }
}
