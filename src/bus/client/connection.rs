//! One connection, from dialling to its end.
//!
//! Invariants:
//! - the task that polls never waits for a caller: what a full receiver cannot take is answered `busy` or dropped;
//! - a connection counts as made when its inbox and all subscriptions are acknowledged (crates-mqtt §6);
//! - when it ends, every call on it ends.

use super::calls::Calls;
use super::dial::{DIAL_WITHIN, dial, tls_config};
use super::request::{IncomingRequest, message_of};
use super::{ConnectError, Endpoint, Incoming, Options};
use crate::rpc::BUSY;
use crate::topics::INBOX;
use jiff::Zoned;
use rand::Rng;
use rumqttc::mqttbytes::v5::{ConnectReturnCode, Packet, Publish};
use rumqttc::{
    AsyncClient, Broker, ConnectionError, Event, EventLoop, MqttOptions, PublishOptions, QoS,
    SubscribeNoticeError, TlsConfiguration, Transport,
};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// Largest packet we take; the core's own limit (crates-mqtt §6).
const MAX_PACKET_BYTES: u32 = 4 * 1024 * 1024;
/// Messages under way to the bus at once.
const IN_FLIGHT: u16 = 100;
/// Requests that may wait for the polling task.
const QUEUE: usize = 128;
/// Seconds after which a silent bus is asked for a sign of life (HP 1.12).
const KEEP_ALIVE_SECONDS: u16 = 60;
/// A longer host name is cut, so that the whole id stays below 128 bytes, which brokers refuse.
const MAX_HOST_CHARS: usize = 32;

/// A connection that is made.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) handle: AsyncClient,
    pub(super) inbox: String,
    pub(super) calls: Arc<Calls>,
}

/// A connection and the news of its end.
pub(super) struct Opened {
    pub(super) connection: Arc<Connection>,
    pub(super) endpoint: Endpoint,
    pub(super) mqtt_id: String,
    pub(super) ended: oneshot::Receiver<String>,
}

/// Connects to the first endpoint that will have us.
///
/// # Errors
/// Why the last one would not; a refused login or an untrusted socket is told rather than that nobody listens elsewhere.
pub(super) async fn open_any(
    options: &Options,
    sink: &mpsc::Sender<Incoming>,
) -> Result<Opened, ConnectError> {
    let mut telling: Option<ConnectError> = None;
    for endpoint in (options.endpoints)() {
        match open(options, &endpoint, sink.clone()).await {
            Ok(opened) => return Ok(opened),
            Err(error) => {
                let replace = match (&telling, &error) {
                    (Some(ConnectError::Unreachable { .. }) | None, _) => true,
                    (Some(_), _) => false,
                };
                if replace {
                    telling = Some(error);
                }
            }
        }
    }
    Err(telling.unwrap_or(ConnectError::Nowhere))
}

async fn open(
    options: &Options,
    endpoint: &Endpoint,
    sink: mpsc::Sender<Incoming>,
) -> Result<Opened, ConnectError> {
    // The socket first: without one there is no need to read credentials.
    let stream = dial(endpoint, options.trusted_uid).await?;
    let credentials = (options.credentials)().map_err(ConnectError::NoCredentials)?;
    let mqtt_id = new_mqtt_id(&options.login);
    let (host, port) = match endpoint {
        Endpoint::Tls { host, port } => (host.as_str(), *port),
        Endpoint::Unix(_) | Endpoint::Abstract(_) => ("localhost", super::endpoint::TLS_PORT),
    };
    let mut mqtt = MqttOptions::new(mqtt_id.clone(), Broker::tcp(host, port));
    if let Endpoint::Tls { .. } = endpoint {
        let config = tls_config(&credentials.ca_pem)?;
        mqtt.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
    }
    mqtt.set_credentials(options.login.clone(), credentials.token.into_bytes());
    mqtt.set_keep_alive(KEEP_ALIVE_SECONDS);
    mqtt.set_max_packet_size(Some(MAX_PACKET_BYTES));
    mqtt.set_outgoing_inflight_upper_limit(IN_FLIGHT);
    let once = Arc::new(Mutex::new(Some(stream)));
    mqtt.set_socket_connector(move |_host, _network| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move { stream.ok_or_else(|| std::io::Error::other("a connection is made once")) }
    });
    let (handle, eventloop) = AsyncClient::builder(mqtt).capacity(QUEUE).build();

    let calls = Arc::new(Calls::default());
    let inbox = format!("{INBOX}/{mqtt_id}");
    let (made, is_made) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    let driver = Driver {
        eventloop,
        handle: handle.clone(),
        inbox: inbox.clone(),
        calls: calls.clone(),
        sink,
    };
    tokio::spawn(driver.drive(made, end));
    let broken = |text: String| ConnectError::Broken {
        endpoint: endpoint.to_string(),
        text,
    };
    match tokio::time::timeout(DIAL_WITHIN, is_made).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => return Err(classify(error, endpoint, &options.login)),
        Ok(Err(_)) => return Err(broken("it ended at once".to_owned())),
        Err(_elapsed) => return Err(broken("the login is not answered".to_owned())),
    }
    subscribe(&handle, &inbox, options, endpoint).await?;
    Ok(Opened {
        connection: Arc::new(Connection {
            handle,
            inbox,
            calls,
        }),
        endpoint: endpoint.clone(),
        mqtt_id,
        ended,
    })
}

/// `{login}-{host}-{YYYYMMDDhhmmss.mmm}` (HP 1.12), and four random digits, as two connections may begin in one ms.
fn new_mqtt_id(login: &str) -> String {
    let host = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".to_owned());
    let host: String = host
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
        .take(MAX_HOST_CHARS)
        .collect();
    let time = Zoned::now().strftime("%Y%m%d%H%M%S.%3f").to_string();
    let random: u16 = rand::rng().random();
    format!("{login}-{host}-{time}{random:04x}")
}

fn classify(error: ConnectionError, endpoint: &Endpoint, login: &str) -> ConnectError {
    let endpoint = endpoint.to_string();
    if let ConnectionError::ConnectionRefused(reason) = &error {
        let reason = match reason {
            ConnectReturnCode::BadUserNamePassword => "bad user name or password".to_owned(),
            other => format!("{other:?}"),
        };
        return ConnectError::Refused {
            endpoint,
            login: login.to_owned(),
            reason,
        };
    }
    ConnectError::Broken {
        endpoint,
        text: error.to_string(),
    }
}

async fn subscribe(
    handle: &AsyncClient,
    inbox: &str,
    options: &Options,
    endpoint: &Endpoint,
) -> Result<(), ConnectError> {
    let filters = std::iter::once(inbox).chain(options.subscriptions.iter().map(String::as_str));
    for filter in filters {
        let refused = || ConnectError::SubscriptionRefused {
            endpoint: endpoint.to_string(),
            login: options.login.clone(),
            filter: filter.to_owned(),
        };
        let broken = |text: String| ConnectError::Broken {
            endpoint: endpoint.to_string(),
            text,
        };
        let notice = handle
            .subscribe_tracked(filter, QoS::AtLeastOnce)
            .await
            .map_err(|error| broken(error.to_string()))?;
        match tokio::time::timeout(DIAL_WITHIN, notice.wait_completion_async()).await {
            Ok(Ok(())) => {}
            Ok(Err(SubscribeNoticeError::V5SubAckFailure(_))) => return Err(refused()),
            Ok(Err(error)) => return Err(broken(error.to_string())),
            Err(_elapsed) => return Err(broken("a subscription is not answered".to_owned())),
        }
    }
    Ok(())
}

struct Driver {
    eventloop: EventLoop,
    handle: AsyncClient,
    inbox: String,
    calls: Arc<Calls>,
    sink: mpsc::Sender<Incoming>,
}

type Made = oneshot::Sender<Result<(), ConnectionError>>;

impl Driver {
    /// Polls until the connection ends; says when it is made, and why it ended.
    async fn drive(mut self, made: Made, end: oneshot::Sender<String>) {
        let mut made = Some(made);
        let reason = loop {
            match self.eventloop.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    if let Some(made) = made.take() {
                        // Who waited may have given up; the handles are gone then and the polling ends.
                        let _ = made.send(Ok(()));
                    }
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => self.route(publish),
                Ok(Event::Incoming(Packet::Disconnect(disconnect))) => {
                    break format!("the bus closed it ({:?})", disconnect.reason_code);
                }
                Ok(_) => {}
                Err(error) => {
                    let text = error.to_string();
                    if let Some(made) = made.take() {
                        let _ = made.send(Err(error));
                    }
                    break text;
                }
            }
        };
        self.calls.end_all();
        let _ = end.send(reason);
    }

    fn route(&self, publish: Publish) {
        let Ok(topic) = std::str::from_utf8(&publish.topic) else {
            return;
        };
        if topic == self.inbox {
            self.calls.answered(publish);
            return;
        }
        let message = message_of(topic.to_owned(), publish);
        if let Err(mpsc::error::TrySendError::Full(Incoming::Request(request))) =
            self.sink.try_send(message)
        {
            self.say_busy(&request);
        }
    }

    /// More requests than anybody takes: said at once, if even that is possible.
    fn say_busy(&self, request: &IncomingRequest) {
        if let Some((topic, options)) = request.answer_to(&Err(BUSY.to_owned())) {
            let options: PublishOptions = options;
            // A bus that takes no more leaves the requester to its own time limit.
            let _ = self
                .handle
                .try_publish(topic, BUSY.as_bytes().to_vec(), options);
        }
    }
}
