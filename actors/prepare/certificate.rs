//! The client certificates of plugins (spec §6, HP 1.18). Blocks.
//!
//! Invariants: a certificate that serves is left as it is; one that cannot be made keeps nobody from starting, as the token
//! serves as well, and why is said once until it changes.

use super::stamp::{Stamp, stamp};
use crate::words::in_words;
use creds::atomic::{self, PUBLIC_MODE};
use creds::ca::{Ca, CaIssuer, ClientSubject, Signing, load_ca};
use creds::check::{Certificate, Validity};
use creds::files::{CA_CERT, CA_KEY, HUB_CERT};
use creds::{PublicKey, UnixTime};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use supervision::PluginId;

/// The organizational unit of plugins: their role (HP 1.18).
const UNIT: &str = "service";
/// How the common name of a server certificate begins that a core made (HP 1.18).
const CORES_NAME: &str = "nats-";

/// How client certificates are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClientCertificates {
    /// How long they last.
    pub life: Duration,
    /// From this share of their life on they are renewed; 0 to 1.
    pub renew_at: f64,
    /// Whether a core that takes a new CA over by itself is shown to have done so by its server certificate: until then
    /// it would refuse certificates of that CA.
    pub after_server: bool,
}

/// What became of a plugin's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certified {
    /// It is good for now, and to be looked at again from then on.
    Until(UnixTime),
    /// It serves until then, and should be renewed, but the CA cannot sign another one.
    Ageing(UnixTime),
    /// A new one is made when the core shows a server certificate of the present CA.
    AwaitsServer,
    /// There is none that serves, and the CA cannot sign one.
    Without,
    /// There is none that serves, and one could be signed but not be put in place: that may go better next time.
    Failed,
}

/// Makes certificates with the key of the Hub's CA.
pub(super) struct Notary {
    certs: PathBuf,
    plan: ClientCertificates,
    state: Mutex<State>,
}

/// `caCert.pem`, `caKey.pem` and `hubCert.pem` as they were at one moment.
pub(super) type HubFiles = [Stamp; 3];

/// Who signs.
#[derive(Clone)]
struct Authority {
    ca: Arc<Ca>,
    /// Whether the core still shows a certificate of another CA, which it will replace.
    awaits_server: bool,
}

#[derive(Default)]
struct State {
    /// The CA as it was read, and of which files.
    ca: Option<(HubFiles, Result<Authority, String>)>,
    /// The last reason why there are no certificates.
    said: Option<String>,
}

impl Notary {
    /// A notary of the folder `certs`; touches nothing yet.
    pub(super) fn new(certs: PathBuf, plan: ClientCertificates) -> Self {
        Notary {
            certs,
            plan,
            state: Mutex::default(),
        }
    }

    /// The files that all certificates hang on, as they are now: these are judged anew when they change.
    pub(super) fn hub_files(&self) -> HubFiles {
        [CA_CERT, CA_KEY, HUB_CERT].map(|name| stamp(&self.certs.join(name)))
    }

    /// The clock was set: the CA is judged again.
    pub(super) fn forget(&self) {
        self.lock().ca = None;
    }

    /// Sees to it that the certificate at `path` serves `id`, whose key is `key`, at `now`; the files it hangs on were
    /// seen as `files` a moment ago.
    pub(super) fn see_to(
        &self,
        files: HubFiles,
        id: &PluginId,
        key: &PublicKey,
        path: &Path,
        now: UnixTime,
    ) -> Certified {
        let authority = match self.authority(files, now) {
            Ok(authority) => authority,
            Err(why) => {
                self.say(why);
                return Certified::Without;
            }
        };
        let found = atomic::read_text(path).ok();
        let found = found.and_then(|text| Certificate::from_pem(&text).ok());
        let found = found.filter(|cert| serves(cert, id, key, &authority.ca, now));
        let until = found
            .as_ref()
            .map(|cert| cert.renew_after(self.plan.renew_at));
        // A clock that was never set says nothing.
        if let Some(until) = until
            && (now < until || now < UnixTime::EARLIEST_PLAUSIBLE)
        {
            return Certified::Until(until);
        }
        let issuer = match &authority.ca.signing {
            Signing::Possible(_) if authority.awaits_server => return Certified::AwaitsServer,
            Signing::Possible(issuer) => issuer,
            Signing::Impossible(why) => {
                self.say(in_words(why));
                return found.map_or(Certified::Without, |cert| {
                    Certified::Ageing(cert.not_after())
                });
            }
        };
        match self.make(id, key, path, issuer, now) {
            Ok(until) => {
                // Not for one that was there: what others lack is not to be said over and over.
                self.lock().said = None;
                Certified::Until(until)
            }
            Err(why) => {
                self.say(why);
                Certified::Failed
            }
        }
    }

    /// Why the last certificate could not be made; empty when it could.
    pub(super) fn trouble(&self) -> String {
        self.lock().said.clone().unwrap_or_default()
    }

    fn make(
        &self,
        id: &PluginId,
        key: &PublicKey,
        path: &Path,
        issuer: &CaIssuer,
        now: UnixTime,
    ) -> Result<UnixTime, String> {
        let subject = ClientSubject {
            client_id: id.as_str(),
            unit: UNIT,
        };
        let pem = issuer.client(subject, key, self.plan.life, now);
        let pem = pem.map_err(|error| in_words(&error))?;
        atomic::write(path, pem.as_bytes(), PUBLIC_MODE).map_err(|error| in_words(&error))?;
        tracing::info!(plugin = %id, "made a client certificate");
        let made = Certificate::from_pem(&pem).map_err(|fault| fault.to_string())?;
        // None outlives its CA: shortly before that one's end a new one is due when it is made, and another would be no
        // better at once.
        let half = made.not_after().since(now) / 2;
        let until = made.renew_after(self.plan.renew_at);
        Ok(until.max(now.after(half)))
    }

    /// The CA, read again when its files changed, or the server's certificate.
    fn authority(&self, files: HubFiles, now: UnixTime) -> Result<Authority, String> {
        let mut state = self.lock();
        if let Some((before, authority)) = &state.ca
            && *before == files
        {
            return authority.clone();
        }
        let authority = load_ca(&self.certs, now)
            .map(|ca| Authority {
                awaits_server: self.plan.after_server && self.server_is_of_another(&ca),
                ca: Arc::new(ca),
            })
            .map_err(|error| in_words(&error));
        state.ca = Some((files, authority.clone()));
        authority
    }

    /// Whether the server certificate is one that a core made, and will make anew, as another CA signed it.
    fn server_is_of_another(&self, ca: &Ca) -> bool {
        let text = atomic::read_text(&self.certs.join(HUB_CERT)).ok();
        let cert = text.and_then(|text| Certificate::from_pem(&text).ok());
        cert.is_some_and(|cert| is_of_a_core(&cert) && !cert.is_signed_by(&ca.cert))
    }

    fn say(&self, why: String) {
        let mut state = self.lock();
        if state.said.as_ref() != Some(&why) {
            tracing::info!("plugins get no client certificates, their tokens serve: {why}");
            state.said = Some(why);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Changed in whole steps, so whole even when a holder panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a core made this server certificate, and will make it anew.
pub(super) fn is_of_a_core(cert: &Certificate) -> bool {
    let name = cert.common_name().unwrap_or_default();
    name.starts_with(CORES_NAME)
}

/// Whether a certificate serves the plugin at `now`.
fn serves(cert: &Certificate, id: &PluginId, key: &PublicKey, ca: &Ca, now: UnixTime) -> bool {
    let in_time = match cert.validity(now) {
        Validity::Valid => true,
        // A clock that was never set says nothing.
        Validity::NotYet => now < UnixTime::EARLIEST_PLAUSIBLE,
        Validity::Expired => false,
    };
    let its_own =
        cert.common_name() == Some(id.as_str()) && cert.unit() == Some(UNIT) && cert.is_of_key(key);
    in_time && its_own && cert.is_signed_by(&ca.cert)
}
