//! One connection: from the dial to the grant of its subscriptions, then its service to its end.
//!
//! Invariants: the loop that polls awaits nothing else; what arrives before all subscriptions are granted is kept, so
//! that no request is lost between (T36).

use super::dial::{classified, dial, mqtt_options, transport};
use super::handle::Live;
use super::{ConnectError, Credentials, Endpoint, Incoming, Network, Options, Proof, Refusal};
use crate::discovery::{self, Search};
use crate::topics;
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Outgoing, Packet, Publish, QoS, StateError,
    SubAck, SubscribeReasonCode,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Publications that wait in the library to be sent.
const OUTGOING: usize = 128;

/// A connection whose subscriptions are granted.
pub(super) struct Link {
    pub(super) endpoint: Endpoint,
    pub(super) mqtt_client_id: String,
    pub(super) live: Arc<Live>,
    /// What it was asked for besides its inbox.
    pub(super) filters: Vec<String>,
    eventloop: EventLoop,
    early: Vec<Publish>,
    /// How long the hub may leave everything unanswered.
    patience: Duration,
}

/// The time for a hub that was found on the network: others may be found, too.
const FOUND_TIMEOUT: Duration = Duration::from_secs(4);

/// Tries the places in order, then the network, within `deadline` for all of them.
pub(super) async fn open(options: &Options, deadline: Duration) -> Result<Link, ConnectError> {
    let credentials = (options.credentials)().map_err(ConnectError::Credentials)?;
    let attempt = Attempt {
        options,
        credentials: &credentials,
        began: Instant::now(),
        deadline,
    };
    let mut errors = Vec::new();
    for endpoint in (options.endpoints)() {
        match attempt.at(&endpoint, options.attempt_timeout).await {
            Ok(link) => return Ok(link),
            Err(error) => errors.extend(error),
        }
    }
    // Only when no hub of ours is there at all: nobody is to be led elsewhere (T27). Without the CA's certificate none that
    // is found could be known.
    if let Some(network) = &options.network
        && credentials.ca_pem.is_some()
        && errors.iter().all(ConnectError::is_silence)
        && (network.may_search)()
    {
        match attempt.on(network).await {
            Ok(link) => return Ok(link),
            Err(more) => errors.extend(more),
        }
    }
    Err(match errors.len() {
        0 => ConnectError::NoEndpoint,
        1 => errors.remove(0),
        _ => ConnectError::Several(errors),
    })
}

/// One attempt to connect, at several places.
struct Attempt<'a> {
    options: &'a Options,
    credentials: &'a Credentials,
    began: Instant,
    deadline: Duration,
}

impl Attempt<'_> {
    /// Tries all proofs at a place. The error that tells most; none = there was no time left.
    async fn at(
        &self,
        endpoint: &Endpoint,
        timeout: Duration,
    ) -> Result<Link, Option<ConnectError>> {
        let mut said: Option<ConnectError> = None;
        for proof in &self.credentials.proofs {
            let limit = timeout.min(self.left());
            if limit.is_zero() {
                break;
            }
            let attempt = open_at(self.options, self.credentials, proof, endpoint);
            let attempted = tokio::time::timeout(limit, attempt).await;
            let error = match attempted.unwrap_or_else(|_| {
                Err(ConnectError::Timeout {
                    endpoint: endpoint.clone(),
                    after: limit,
                })
            }) {
                Ok(link) => return Ok(link),
                Err(error) => error,
            };
            let another_may_do = is_about_the_proof(&error);
            said = Some(match said {
                Some(before) => before.or_more_telling(error),
                None => error,
            });
            if !another_may_do {
                break;
            }
        }
        Err(said)
    }

    /// Tries the hubs that the network shows, one after the other: who answers first is not always ours (T27).
    async fn on(&self, network: &Network) -> Result<Link, Vec<ConnectError>> {
        let within = discovery::PATIENCE.min(self.left());
        let mut search =
            Search::begin(within).map_err(|error| vec![ConnectError::NotFound(error)])?;
        let mut errors = Vec::new();
        while let Some(endpoint) = search.next().await {
            match self.at(&endpoint, FOUND_TIMEOUT).await {
                Ok(link) => {
                    (network.used)(&endpoint);
                    return Ok(link);
                }
                Err(error) => errors.extend(error),
            }
        }
        if errors.is_empty() {
            errors.push(ConnectError::NotFound(search.why_none()));
        }
        Err(errors)
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_sub(self.began.elapsed())
    }
}

/// Whether another proof of the same login may be taken.
fn is_about_the_proof(error: &ConnectError) -> bool {
    match error {
        ConnectError::NeedsToken { .. }
        | ConnectError::CertificateWanted { .. }
        | ConnectError::CertificateRefused { .. }
        | ConnectError::BadCertificate { .. }
        // So ends a server that takes no time to say why.
        | ConnectError::Closed { .. } => true,
        ConnectError::Login { refusal, .. } => match refusal {
            Refusal::BadCredentials => true,
            Refusal::ClientId | Refusal::Busy | Refusal::Other(_) => false,
        },
        ConnectError::NoEndpoint
        | ConnectError::NotFound(_)
        | ConnectError::Credentials(_)
        | ConnectError::NobodyListens { .. }
        | ConnectError::Unreachable { .. }
        | ConnectError::UntrustedPeer { .. }
        | ConnectError::NoCa { .. }
        | ConnectError::BadCa { .. }
        | ConnectError::ForeignCa { .. }
        | ConnectError::WrongName { .. }
        | ConnectError::NotInTime { .. }
        | ConnectError::Tls { .. }
        | ConnectError::Subscription { .. }
        | ConnectError::Timeout { .. }
        | ConnectError::Several(_) => false,
    }
}

async fn open_at(
    options: &Options,
    credentials: &Credentials,
    proof: &Proof,
    endpoint: &Endpoint,
) -> Result<Link, ConnectError> {
    // First, as without it there is no need to dial.
    let transport = transport(endpoint, credentials, proof)?;
    let way = (dial(endpoint, credentials.owner_uid).await?, transport);
    let mqtt_client_id = new_client_id(&options.login);
    let mqtt = mqtt_options(options, proof, endpoint, way, &mqtt_client_id);
    let (client, mut eventloop) = AsyncClient::builder(mqtt).capacity(OUTGOING).build();
    let inbox = topics::inbox(&mqtt_client_id);
    let filters: Vec<&str> = std::iter::once(inbox.as_str())
        .chain(options.subscriptions.iter().map(String::as_str))
        .collect();
    let (mut granting, mut early) = (Granting::default(), Vec::new());
    while !granting.is_complete(filters.len()) {
        let event = eventloop
            .poll()
            .await
            .map_err(|error| classified(endpoint, options, (credentials, proof), error))?;
        match event {
            // Not before the login: subscriptions that wait for it would count as left from another session.
            Event::Incoming(Packet::ConnAck(_)) => {
                for filter in &filters {
                    client
                        .try_subscribe(*filter, QoS::AtLeastOnce)
                        .map_err(|error| ConnectError::Closed {
                            endpoint: endpoint.clone(),
                            text: error.to_string(),
                        })?;
                }
            }
            Event::Outgoing(Outgoing::Subscribe(packet_id)) => granting.sent(packet_id),
            Event::Incoming(Packet::SubAck(ack)) => {
                if let Err((index, reason)) = granting.answered(&ack) {
                    return Err(ConnectError::Subscription {
                        endpoint: endpoint.clone(),
                        login: options.login.clone(),
                        filter: filters
                            .get(index)
                            .map_or_else(String::new, |filter| (*filter).to_owned()),
                        reason,
                    });
                }
            }
            Event::Incoming(Packet::Publish(publish)) => {
                if early.len() < options.queue {
                    early.push(publish);
                }
            }
            Event::Incoming(_) | Event::Outgoing(_) | Event::Auth(_) => {}
        }
    }
    Ok(Link {
        endpoint: endpoint.clone(),
        mqtt_client_id,
        live: Arc::new(Live::new(client, inbox)),
        filters: options.subscriptions.clone(),
        eventloop,
        early,
        patience: options.keep_alive,
    })
}

/// Which subscriptions are granted; they are sent one filter a packet, in order.
#[derive(Default)]
struct Granting {
    sent: HashMap<u16, usize>,
    granted: usize,
}

impl Granting {
    fn is_complete(&self, filters: usize) -> bool {
        self.granted == filters
    }

    fn sent(&mut self, packet_id: u16) {
        let index = self.sent.len();
        self.sent.insert(packet_id, index);
    }

    /// The index of a filter that was refused, and why.
    fn answered(&mut self, ack: &SubAck) -> Result<(), (usize, String)> {
        let index = self.sent.get(&ack.pkid).copied().unwrap_or_default();
        for code in &ack.return_codes {
            match code {
                SubscribeReasonCode::Success(_) => {}
                SubscribeReasonCode::NotAuthorized => {
                    return Err((index, "not authorized (0x87)".to_owned()));
                }
                SubscribeReasonCode::Failure
                | SubscribeReasonCode::Unspecified
                | SubscribeReasonCode::ImplementationSpecific
                | SubscribeReasonCode::TopicFilterInvalid
                | SubscribeReasonCode::PkidInUse
                | SubscribeReasonCode::QuotaExceeded
                | SubscribeReasonCode::SharedSubscriptionsNotSupported
                | SubscribeReasonCode::SubscriptionIdNotSupported
                | SubscribeReasonCode::WildcardSubscriptionsNotSupported => {
                    return Err((index, format!("{code:?}")));
                }
            }
        }
        self.granted += 1;
        Ok(())
    }
}

impl Link {
    /// Serves the connection until it ends. It has ended, too, when the hub says nothing at all for the length of a
    /// keep-alive after something that it has to answer: the library only asks whether it is there while there is nothing to
    /// send, so a line that is dead one way would do for as long as there is.
    pub(super) async fn serve(mut self, to: &mpsc::Sender<Incoming>) -> ConnectionError {
        for publish in std::mem::take(&mut self.early) {
            deliver(&self.live, to, publish);
        }
        let silence = tokio::time::sleep(self.patience);
        tokio::pin!(silence);
        let mut awaits = false;
        loop {
            let event = tokio::select! {
                event = self.eventloop.poll() => event,
                () = &mut silence, if awaits => {
                    return ConnectionError::MqttState(StateError::AwaitPingResp);
                }
            };
            match event {
                Ok(Event::Incoming(packet)) => {
                    awaits = false;
                    if let Packet::Publish(publish) = packet {
                        deliver(&self.live, to, publish);
                    }
                }
                Ok(Event::Outgoing(sent)) => {
                    if !awaits && is_answered(&sent) {
                        awaits = true;
                        silence.as_mut().reset(Instant::now() + self.patience);
                    }
                }
                Ok(Event::Auth(_)) => {}
                Err(error) => return error,
            }
        }
    }
}

/// Whether a hub that is well answers it at once.
fn is_answered(sent: &Outgoing) -> bool {
    match sent {
        // Without a number there is no acknowledgement.
        Outgoing::Publish(number) => *number != 0,
        Outgoing::Subscribe(_) | Outgoing::Unsubscribe(_) | Outgoing::PingReq => true,
        Outgoing::PubAck(_)
        | Outgoing::PubRec(_)
        | Outgoing::PubRel(_)
        | Outgoing::PubComp(_)
        | Outgoing::PingResp
        | Outgoing::Disconnect
        | Outgoing::AwaitAck(_)
        | Outgoing::Auth => false,
    }
}

/// Hands over what arrived, without waiting.
fn deliver(live: &Live, to: &mpsc::Sender<Incoming>, publish: Publish) {
    let Ok(topic) = std::str::from_utf8(&publish.topic).map(str::to_owned) else {
        return;
    };
    if topic == live.inbox {
        live.take_reply(publish);
        return;
    }
    let incoming = Incoming::sort(topic, &publish);
    let Err(refused) = to.try_send(incoming) else {
        return;
    };
    match refused.into_inner() {
        Incoming::Request(request) => live.answer_busy(&request),
        Incoming::Message { topic, .. } => {
            tracing::warn!(topic, "too many messages wait, this one is dropped");
        }
        Incoming::Connected { .. } | Incoming::Disconnected { .. } => {}
    }
}

/// A new MQTT client id: login, host, local time as the original has it, and chance, so that neither two connections
/// of one millisecond nor anybody's guess hit the same (T29). Less than 128 bytes for logins up to 64.
fn new_client_id(login: &str) -> String {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let host = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default();
    let host: String = host
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        .take(24)
        .collect();
    let millis = jiff::Timestamp::now().as_millisecond();
    // A clock that stands or steps back must not give the same text again.
    let unique = LAST
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
            Some(millis.max(last.saturating_add(1)))
        })
        .map_or(millis, |last| millis.max(last.saturating_add(1)));
    let shown = jiff::Timestamp::from_millisecond(unique)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_zoned(crate::wire::local_zone());
    let chance: u32 = rand::random();
    format!(
        "{login}-{host}-{}.{:03}-{chance:08x}",
        shown.strftime("%Y%m%d%H%M%S"),
        shown.subsec_nanosecond() / 1_000_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_are_unique_and_short() {
        let login = "x".repeat(64);
        let ids: std::collections::HashSet<_> = (0..200).map(|_| new_client_id(&login)).collect();
        assert_eq!(ids.len(), 200);
        for id in ids {
            assert!(
                id.len() <= 128 && id.starts_with(&login) && topics::is_topic(&id),
                "{id}"
            );
        }
    }
}
