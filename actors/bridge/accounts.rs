//! The auth service over the bus.
//!
//! Invariant: each request has a time limit, so that a core that hangs blocks plugins visibly instead of silently.

use crate::link::Link;
use crate::ports::{Accounts, BoxFuture, Unanswered};
use bus::client::{CallError, Client};
use bus::golang::{self, GoValue};
use bus::wire::{
    AUTH, AddServiceArgs, ClientProfile, MANAGE_CLIENTS, PROFILE, ProfilesReply, TokenReply,
};
use std::sync::Arc;
use std::time::Duration;
use supervision::PluginId;
use tokio::sync::watch;

/// The time limit of a request.
const WITHIN: Duration = Duration::from_secs(5);

/// What the original's launcher calls each plugin (HP 1.16).
const DISPLAY_NAME: &str = "plugin";

/// The accounts of the core that the bridge is connected to.
pub struct BusAccounts {
    /// Speaks to the bus.
    pub client: Client,
    /// The launcher's own login, the sender of its requests.
    pub login: String,
    /// How the connection is.
    pub link: Arc<watch::Sender<Link>>,
}

impl BusAccounts {
    fn ask<R: GoValue + Default>(
        &self,
        capability: &str,
        method: &str,
        payload: Vec<u8>,
    ) -> BoxFuture<Result<R, Unanswered>> {
        let client = self.client.clone();
        let topic = format!("rpc/{AUTH}/{capability}/{method}/{}", self.login);
        let method = method.to_owned();
        Box::pin(async move {
            let failed = |error: String| {
                Unanswered::Failed(format!("{method} of the auth service failed: {error}"))
            };
            let reply = client.call(&topic, payload, WITHIN).await;
            let reply = reply.map_err(|error| match error {
                CallError::NobodyServes { .. } => Unanswered::NoService,
                CallError::Remote(_)
                | CallError::NotAuthorized
                | CallError::Refused(_)
                | CallError::Timeout
                | CallError::NotConnected
                | CallError::Disconnected(_)
                | CallError::Invalid { .. } => failed(error.to_string()),
            })?;
            golang::decode_reply(&reply).map_err(|error| failed(error.to_string()))
        })
    }
}

impl Accounts for BusAccounts {
    fn links(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    fn profiles(&self) -> BoxFuture<Result<Vec<ClientProfile>, Unanswered>> {
        let asked = self.ask::<ProfilesReply>(MANAGE_CLIENTS, "getProfiles", Vec::new());
        Box::pin(async move { Ok(asked.await?.profiles) })
    }

    fn add_service(
        &self,
        id: &PluginId,
        public_key: &str,
    ) -> BoxFuture<Result<String, Unanswered>> {
        let args = AddServiceArgs {
            service_id: id.to_string(),
            display_name: DISPLAY_NAME.to_owned(),
            pub_key: public_key.to_owned(),
        };
        let asked = self.ask::<TokenReply>(MANAGE_CLIENTS, "addService", golang::encode(&args));
        Box::pin(async move { Ok(asked.await?.token) })
    }

    fn refresh(&self) -> BoxFuture<Result<String, Unanswered>> {
        let asked = self.ask::<TokenReply>(PROFILE, "refresh", Vec::new());
        Box::pin(async move { Ok(asked.await?.token) })
    }
}
