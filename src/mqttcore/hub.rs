//! What all parts of a running core share, and what one connection's part of the library asks: may it log in, publish,
//! subscribe (crates-mqtt §5, §10).
//!
//! Invariants:
//! - Roles are those of the client table now, never those of a token (HP 1.14).
//! - Every filter a connection subscribes is noted before the library takes it, and judged once more after that, so
//!   that rights that change meanwhile hold.
//! - A request to `auth` never reaches the router; nothing else is kept from it.

use std::collections::{BTreeSet, HashSet};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bus::wire::AUTH;
use creds::token::{self, TokenError};
use mqtt5::broker::auth::{AuthProvider, AuthResult};
use mqtt5::broker::events::{
    BrokerEventHandler, ClientConnectEvent, ClientPublishEvent, ClientSubscribeEvent,
    ClientUnsubscribeEvent, PublishAction, SubAckReasonCode,
};
use mqtt5::broker::router::MessageRouter;
use mqtt5::packet::connect::ConnectPacket;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::auth::{Auth, Call};
use crate::backlog::SMALL;
use crate::clients::Clients;
use crate::coming::{By, Coming};
use crate::connections::{Connection, Connections, NoRoom, Proof, Why};
use crate::guesses::TooEarly;
use crate::job::{Job, Request};
use crate::limits::Limits;
use crate::lock::lock;
use crate::numbers::Numbers;
use crate::refusals::{Refusal, Refusals};
use crate::roles::{Asker, fits_login};

type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The shared parts of a core.
pub struct Hub {
    /// Clients, tokens, permissions.
    pub auth: Auth,
    /// Who is connected.
    pub connections: Connections,
    /// What it allows at most.
    pub limits: Limits,
    /// The library's router.
    pub router: MessageRouterRef,
    /// The numbers of messages.
    pub numbers: Arc<Numbers>,
    /// Which refused logins the log hears of.
    pub refusals: Refusals,
    /// To the auth service.
    pub jobs: mpsc::Sender<Job>,
    /// Every shared filter ever subscribed: the library keeps a counter of each for ever.
    pub shared: Mutex<HashSet<String>>,
}

/// The router, as the library wants it.
pub type MessageRouterRef = Arc<MessageRouter>;

impl Hub {
    /// Asks `judge` about a connection of `login` with its role as it is now; unknown logins may nothing.
    fn judge(&self, login: &str, mqtt_id: &str, judge: impl FnOnce(Asker<'_>) -> bool) -> bool {
        let clients = self.auth.store.now();
        clients.get(login).is_some_and(|entry| {
            judge(Asker {
                login,
                mqtt_id,
                role: entry.role(),
            })
        })
    }

    /// Whether a connection of `login` may publish on `topic` now.
    #[must_use]
    pub fn may_publish(&self, login: &str, mqtt_id: &str, topic: &str) -> bool {
        let permissions = self.auth.grants.now();
        self.judge(login, mqtt_id, |asker| {
            asker.may_publish(topic, &permissions)
        })
    }

    /// Whether a connection of `login` may subscribe to `filter` now.
    #[must_use]
    pub fn may_subscribe(&self, login: &str, mqtt_id: &str, filter: &str) -> bool {
        self.judge(login, mqtt_id, |asker| asker.may_subscribe(filter))
    }

    /// Whether the library's memory allows for this filter.
    fn has_room(&self, filter: &str) -> bool {
        if filter.len() > self.limits.filter_bytes {
            return false;
        }
        if !filter.starts_with("$share/") {
            return true;
        }
        let mut shared = lock(&self.shared);
        if !shared.contains(filter) && shared.len() >= self.limits.shared_filters {
            return false;
        }
        shared.insert(filter.to_owned());
        true
    }

    /// Takes away what open connections of `login` may no longer have, and ends those that could not log in again as
    /// they did: with a password or for a key that was replaced. The connection with MQTT client id `asker`, where there is one, proved
    /// itself before it asked for the change, and waits for the reply: it stays.
    ///
    /// # Cancel safety
    /// Some may be left as they were.
    pub async fn rejudge(&self, login: &str, asker: Option<&str>) {
        self.auth.forget_unless_service(login);
        if self.auth.store.now().get(login).is_none() {
            self.throw_out(login);
            return;
        }
        for connection in self.connections.of_login(login) {
            let asks = asker.is_some() && connection.mqtt_id().as_deref() == asker;
            if !asks && !self.is_proved(&connection, login) {
                tracing::info!(login, "connection ended: its password or key was replaced");
                tokio::spawn(connection.throw_out(Why::Administrative));
                continue;
            }
            for filter in connection.filters() {
                self.rejudge_filter(&connection, &filter).await;
            }
        }
    }

    /// The same for everybody.
    ///
    /// # Cancel safety
    /// Some may be left as they were.
    pub async fn rejudge_all(&self, asker: Option<&str>) {
        let all = self.connections.all();
        let logins: BTreeSet<_> = all.iter().filter_map(|one| one.login()).collect();
        for login in logins {
            self.rejudge(&login, asker).await;
        }
    }

    /// Whether that by which the connection logged in still lets `login` in.
    fn is_proved(&self, connection: &Connection, login: &str) -> bool {
        let clients = self.auth.store.now();
        connection
            .proof
            .get()
            .is_some_and(|proof| still_proves(proof, login, &clients))
    }

    async fn rejudge_filter(&self, connection: &Connection, filter: &str) {
        let (Some(login), Some(mqtt_id)) = (connection.login(), connection.mqtt_id()) else {
            return;
        };
        if !self.may_subscribe(&login, &mqtt_id, filter) {
            self.router.unsubscribe(&mqtt_id, filter, None).await;
            connection.drop_filter(filter);
            tracing::info!(login, mqtt_id, filter, "subscription taken away");
        }
    }

    /// Ends all connections of `login`.
    pub fn throw_out(&self, login: &str) {
        for connection in self.connections.of_login(login) {
            tokio::spawn(connection.throw_out(Why::Administrative));
        }
    }

    /// Whether these credentials let `login` in, and how.
    async fn admit(
        &self,
        connection: &Connection,
        login: &str,
        password: Option<&[u8]>,
        address: IpAddr,
    ) -> Result<Proof, Refusal> {
        let clients = self.auth.store.now();
        let Some(entry) = clients.get(login).filter(|_| login != AUTH) else {
            // What might be a password takes as long as a wrong one of somebody known.
            if !password.is_some_and(is_token) {
                self.fits(connection, login, b"", None, address).await?;
            }
            return Err(Refusal::Unknown);
        };
        if connection
            .certificate
            .get()
            .is_some_and(|name| name == login)
        {
            return Ok(Proof::Certificate);
        }
        let password = password
            .filter(|p| !p.is_empty())
            .ok_or(Refusal::NoPassword)?;
        let text = std::str::from_utf8(password).map_err(|_| TokenError::Malformed);
        match text.and_then(|text| self.auth.tokens.admit(text.trim(), login, &clients)) {
            Ok(()) => Ok(Proof::Token(entry.profile.pub_key.trim().to_owned())),
            Err(TokenError::Malformed) => {
                let hash = entry.password_hash.as_str();
                if self
                    .fits(connection, login, password, Some(hash), address)
                    .await?
                {
                    Ok(Proof::Password(hash.to_owned()))
                } else {
                    Err(Refusal::Password)
                }
            }
            Err(error) => Err(Refusal::Token(error)),
        }
    }

    fn tell_refusal(&self, connect: &ConnectPacket, refusal: &Refusal) {
        let Some(kept_back) = self.refusals.note(Instant::now()) else {
            return;
        };
        if kept_back > 0 {
            tracing::warn!("{kept_back} more logins were refused and are not listed");
        }
        let name = connect.username.iter().flat_map(|login| login.chars());
        let login: String = name.take(64).collect();
        tracing::warn!(login, reason = %refusal, "login refused");
    }

    /// Whether the password is right; waits until it may be tried.
    async fn fits(
        &self,
        connection: &Connection,
        login: &str,
        password: &[u8],
        hash: Option<&str>,
        address: IpAddr,
    ) -> Result<bool, Refusal> {
        let has_no_password = hash.is_some_and(str::is_empty);
        let guesses = &self.auth.guesses;
        let attempt = guesses
            .begin(login, has_no_password, address, Instant::now())
            .map_err(|TooEarly| Refusal::TooEarly)?;
        tokio::select! {
            () = tokio::time::sleep_until(attempt.at) => {}
            () = connection.cut.wait() => return Err(Refusal::Gone),
        }
        let fits = self.auth.passwords.fits(password, hash).await;
        if fits {
            guesses.right(&attempt, Instant::now());
        }
        Ok(fits)
    }
}

fn still_proves(proof: &Proof, login: &str, clients: &Clients) -> bool {
    clients.get(login).is_some_and(|entry| match proof {
        Proof::Certificate => true,
        Proof::Token(key) => entry.profile.pub_key.trim() == key,
        Proof::Password(hash) => entry.password_hash == *hash,
    })
}

fn is_token(password: &[u8]) -> bool {
    std::str::from_utf8(password).is_ok_and(|text| token::peek(text.trim()).is_ok())
}

/// The library's questions about one connection.
pub struct Gate {
    /// The core.
    pub hub: Arc<Hub>,
    /// The connection.
    pub connection: Arc<Connection>,
}

impl Gate {
    async fn log_in(&self, connect: &ConnectPacket, address: IpAddr) -> Result<String, Refusal> {
        if connect.protocol_version != 5 {
            return Err(Refusal::Version);
        }
        let login = connect
            .username
            .as_deref()
            .filter(|login| !login.is_empty());
        let login = login.ok_or(Refusal::NoLogin)?;
        let password = connect.password.as_deref();
        let admitted = self.hub.admit(&self.connection, login, password, address);
        let proof = admitted.await?;
        let by = proof.word();
        if let Some(will) = &connect.will {
            let bytes =
                will.topic.len() + will.payload.len() + connect.will_properties.encoded_len();
            if bytes > self.hub.limits.will_bytes {
                return Err(Refusal::Will(bytes));
            }
        }
        let mqtt_id = connect.client_id.as_str();
        if !fits_login(mqtt_id, login) {
            return Err(Refusal::ForeignId);
        }
        self.hub
            .connections
            .log_in(&self.connection, login, mqtt_id)
            .map_err(|no_room| match no_room {
                NoRoom::Taken => Refusal::Taken,
                NoRoom::TooMany => Refusal::TooMany,
            })?;
        // A change in this moment did not see the connection among those it ended.
        let proof = self.connection.proof.get_or_init(|| proof);
        if !still_proves(proof, login, &self.hub.auth.store.now()) {
            return Err(Refusal::Replaced);
        }
        tracing::debug!(login, mqtt_id, by, "logged in");
        Ok(login.to_owned())
    }
}

impl AuthProvider for Gate {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        address: SocketAddr,
    ) -> Later<'a, mqtt5::Result<AuthResult>> {
        Box::pin(async move {
            Ok(match self.log_in(connect, address.ip()).await {
                Ok(login) => AuthResult::success_with_user(login),
                Err(refusal) => {
                    self.hub.tell_refusal(connect, &refusal);
                    AuthResult::fail(refusal.code())
                }
            })
        })
    }

    fn authorize_publish<'a>(
        &'a self,
        client_id: &str,
        user_id: Option<&'a str>,
        topic: &'a str,
    ) -> Later<'a, bool> {
        let latest = self.connection.backlog.latest();
        // The library looks at the payload only, but keeps the properties, too.
        let is_too_long = latest.is_retained && latest.properties > SMALL;
        let allowed = !is_too_long
            && user_id.is_some_and(|login| self.hub.may_publish(login, client_id, topic));
        Box::pin(std::future::ready(allowed))
    }

    fn authorize_subscribe<'a>(
        &'a self,
        client_id: &str,
        user_id: Option<&'a str>,
        filter: &'a str,
    ) -> Later<'a, bool> {
        let allowed = user_id.is_some_and(|login| self.hub.may_subscribe(login, client_id, filter))
            && self.hub.has_room(filter);
        if allowed {
            self.connection.note_filter(filter);
        }
        Box::pin(std::future::ready(allowed))
    }
}

/// What the library reports.
pub struct Reports {
    /// The core. Weak, as the core holds the library's configuration, which holds this.
    pub hub: std::sync::Weak<Hub>,
}

impl BrokerEventHandler for Reports {
    fn on_client_connect<'a>(&'a self, event: ClientConnectEvent) -> Later<'a, ()> {
        if let (Some(hub), Some(login)) = (self.hub.upgrade(), event.user_id) {
            let job = Job::LoggedIn(login.to_string());
            if hub.jobs.try_send(job).is_err() {
                tracing::warn!(%login, "too busy to report the login");
            }
        }
        Box::pin(std::future::ready(()))
    }

    fn on_client_subscribe<'a>(&'a self, event: ClientSubscribeEvent) -> Later<'a, ()> {
        Box::pin(async move {
            let Some(hub) = self.hub.upgrade() else {
                return;
            };
            if let Some(connection) = hub.connections.of_mqtt_id(&event.client_id) {
                let granted = |result| {
                    matches!(
                        result,
                        SubAckReasonCode::GrantedQoS0
                            | SubAckReasonCode::GrantedQoS1
                            | SubAckReasonCode::GrantedQoS2
                    )
                };
                for subscription in event.subscriptions.iter().filter(|s| granted(s.result)) {
                    hub.rejudge_filter(&connection, &subscription.topic_filter)
                        .await;
                }
            }
        })
    }

    fn on_client_unsubscribe<'a>(&'a self, event: ClientUnsubscribeEvent) -> Later<'a, ()> {
        if let Some(hub) = self.hub.upgrade()
            && let Some(connection) = hub.connections.of_mqtt_id(&event.client_id)
        {
            for filter in &event.topic_filters {
                connection.drop_filter(filter);
            }
        }
        Box::pin(std::future::ready(()))
    }

    fn on_client_publish<'a>(&'a self, event: ClientPublishEvent) -> Later<'a, PublishAction> {
        Box::pin(async move {
            let Some(hub) = self.hub.upgrade() else {
                return PublishAction::Handled;
            };
            let Some(request) = request_to_auth(&event) else {
                let message = Coming {
                    topic: &event.topic,
                    by: By::Client(&event.client_id),
                };
                hub.make_room(message).await;
                return PublishAction::Continue;
            };
            {
                // The channel is bounded: a flood waits here, in its own connection.
                let _ = hub.jobs.send(Job::Request(request)).await;
            }
            PublishAction::Handled
        })
    }
}

/// The request in a message, if it is one to `auth`; its sender has been verified with its topic.
fn request_to_auth(event: &ClientPublishEvent) -> Option<Request> {
    // Most are not, and every message is looked at.
    let address = event.topic.strip_prefix("rpc/")?.strip_prefix(AUTH)?;
    let levels: Vec<&str> = address.split('/').collect();
    let ["", capability, method, sender] = *levels.as_slice() else {
        return None;
    };
    Some(Request {
        call: Call {
            capability: capability.to_owned(),
            method: method.to_owned(),
            sender: sender.to_owned(),
            payload: event.payload.clone(),
        },
        from: event.client_id.to_string(),
        reply_to: event.response_topic.as_deref().map(str::to_owned),
        correlation: event.correlation_data.clone(),
        qos: event.qos,
    })
}
