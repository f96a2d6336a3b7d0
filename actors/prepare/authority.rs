//! The certificates of a hub whose core knows logins by certificates only and makes none itself (spec §2, §7). Blocks.
//!
//! Invariants: what serves is left as it is; never a new CA while `caCert.pem` is there (T35); a core is not started
//! before all that it reads is there.

use crate::words::in_words;
use creds::UnixTime;
use creds::ca::{
    CaOrigin, ClientLife, ClientOrigin, ClientSubject, ServerNames, ServerOrigin,
    load_or_create_ca, load_or_create_client, load_or_create_server,
};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A core without an auth service.
#[derive(Debug, Clone)]
pub struct PlainCore {
    /// The certs folder.
    pub certs: PathBuf,
    /// The name of this machine.
    pub hostname: String,
    /// The host of its URL, which its certificate is for beside the names of this machine.
    pub host: String,
    /// Logins beside the plugins' that get a certificate, each with its role.
    pub logins: Vec<(String, &'static str)>,
    /// How long client certificates last.
    pub life: ClientLife,
}

impl PlainCore {
    /// Makes what is missing or no longer serves: CA, server certificate, the logins' certificates.
    ///
    /// # Errors
    /// Names the file, the cause and the way out.
    pub(super) fn before_start(&self, now: UnixTime) -> Result<(), String> {
        let ca = load_or_create_ca(&self.certs, now).map_err(|error| in_words(&error))?;
        match ca.origin {
            CaOrigin::Found => {}
            CaOrigin::Created | CaOrigin::CertRemade => tracing::info!("made a CA for this hub"),
        }
        let server = load_or_create_server(&self.certs, &ca, &self.names(), now)
            .map_err(|error| in_words(&error))?;
        match server.origin {
            ServerOrigin::Found => {}
            ServerOrigin::Made { why } => {
                tracing::info!("made a server certificate, as the one before {why}");
            }
            ServerOrigin::KeptInNeed { why, cause } => {
                tracing::warn!("the server certificate {why}, but cannot be renewed: {cause}");
            }
        }
        self.keep_up(now).map(|_next| ())
    }

    /// Sees to the logins' certificates; how long it is until one is due.
    ///
    /// # Errors
    /// Names the file, the cause and the way out.
    pub(super) fn keep_up(&self, now: UnixTime) -> Result<Duration, String> {
        let ca = load_or_create_ca(&self.certs, now).map_err(|error| in_words(&error))?;
        let mut next = Duration::MAX;
        for (login, unit) in &self.logins {
            let subject = ClientSubject {
                client_id: login,
                unit,
            };
            let (origin, until) = load_or_create_client(&self.certs, &ca, subject, self.life, now)
                .map_err(|error| in_words(&error))?;
            match origin {
                ClientOrigin::Found => {}
                ClientOrigin::Made => tracing::info!(%login, "made a client certificate"),
                ClientOrigin::KeptInNeed => {
                    tracing::warn!(%login, "its client certificate nears its end, and the CA's key is not there to renew it");
                }
            }
            next = next.min(until.since(now));
        }
        Ok(next)
    }

    /// The names of this machine as they are now.
    fn names(&self) -> ServerNames {
        let given = self.host.parse::<IpAddr>().ok();
        let addresses: Vec<IpAddr> = creds::ca::outbound_address()
            .into_iter()
            .chain(given)
            .collect();
        // A configured name takes the host name's place, or nobody could connect by it.
        let is_name = given.is_none() && self.host != "localhost";
        let name = if is_name { &self.host } else { &self.hostname };
        ServerNames::new(name, &addresses)
    }
}
