//! The certificates of a hub whose core knows logins by certificates only and makes none itself (spec §2, §7). Blocks.
//!
//! Invariants: what serves is left as it is; never a new CA while `caCert.pem` is there (T35); a core is not started
//! before all that it reads is there; while it runs its server certificate is only replaced by one of the CA by which it
//! knows its clients.

use crate::ports::CoreDeed;
use crate::words::in_words;
use creds::UnixTime;
use creds::atomic;
use creds::ca::{
    Ca, CaOrigin, ClientLife, ClientOrigin, ClientSubject, ServerNames, ServerOrigin, load_ca,
    load_or_create_ca, load_or_create_client, load_or_create_server,
};
use creds::check::Certificate;
use creds::files::{CA_CERT, HUB_CERT};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What is not known to be due sooner is looked at so often.
const DAILY: Duration = Duration::from_secs(24 * 3600);

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
        self.server(&ca, now)?;
        self.clients(&ca, now).map(drop)
    }

    /// Renews what is due while the core runs. How long it is until there is something to look at again, and what the core
    /// is to do.
    ///
    /// # Errors
    /// Names the file, the cause and the way out.
    pub(super) fn keep_up(&self, now: UnixTime) -> Result<(Duration, Option<CoreDeed>), String> {
        if !self.certs.join(CA_CERT).exists() {
            // It is made when the core starts, or is just being replaced; then this is asked again.
            return Ok((DAILY, None));
        }
        let ca = load_ca(&self.certs, now).map_err(|error| in_words(&error))?;
        let shown = atomic::read_text(&self.certs.join(HUB_CERT)).ok();
        let shown = shown.and_then(|text| Certificate::from_pem(&text).ok());
        let Some(shown) = shown else {
            // The same goes for it.
            return Ok((DAILY, None));
        };
        if !shown.is_signed_by(&ca.cert) {
            // Until it starts again the core takes certificates of the CA before.
            return Ok((DAILY, ca.issuer().map(|_can_sign| CoreDeed::Restart)));
        }
        let deed = self.server(&ca, now)?.then_some(CoreDeed::Reread);
        Ok((self.clients(&ca, now)?.min(DAILY), deed))
    }

    /// Sees to the server certificate; whether it was made anew.
    fn server(&self, ca: &Ca, now: UnixTime) -> Result<bool, String> {
        let server = load_or_create_server(&self.certs, ca, &self.names(), now)
            .map_err(|error| in_words(&error))?;
        match server.origin {
            ServerOrigin::Found => Ok(false),
            ServerOrigin::Made { why } => {
                tracing::info!("made a server certificate, as the one before {why}");
                Ok(true)
            }
            ServerOrigin::KeptInNeed { why, cause } => {
                tracing::warn!("the server certificate {why}, but cannot be renewed: {cause}");
                Ok(false)
            }
        }
    }

    /// Sees to the logins' certificates; how long it is until one is due.
    fn clients(&self, ca: &Ca, now: UnixTime) -> Result<Duration, String> {
        let mut next = Duration::MAX;
        for (login, unit) in &self.logins {
            let subject = ClientSubject {
                client_id: login,
                unit,
            };
            let (origin, until) = load_or_create_client(&self.certs, ca, subject, self.life, now)
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
