//! The client certificates of plugins (spec §6, HP 1.18). Blocks.
//!
//! Invariants: a certificate that serves is left as it is; one that cannot be made keeps nobody from starting, as the token
//! serves as well, and why is said once until it changes.

use super::stamp::{Stamp, stamp};
use crate::words::in_words;
use creds::atomic::{self, PUBLIC_MODE};
use creds::ca::{Ca, ClientSubject, Signing, load_ca};
use creds::check::{Certificate, Validity};
use creds::files::{CA_CERT, CA_KEY};
use creds::{PublicKey, UnixTime};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use supervision::PluginId;

/// The organizational unit of plugins: their role (HP 1.18).
const UNIT: &str = "service";

/// How client certificates are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClientCertificates {
    /// How long they last.
    pub life: Duration,
    /// From this share of their life on they are renewed; 0 to 1.
    pub renew_at: f64,
}

/// What became of a plugin's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certified {
    /// It is good for now, and to be looked at again from then on.
    Until(UnixTime),
    /// It was made just now.
    Made,
    /// There is none that serves, and none could be made.
    Without,
}

/// Makes certificates with the key of the Hub's CA.
pub(super) struct Notary {
    certs: PathBuf,
    plan: ClientCertificates,
    state: Mutex<State>,
}

/// `caCert.pem` and `caKey.pem` as they were at one moment.
pub(super) type CaFiles = (Stamp, Stamp);

#[derive(Default)]
struct State {
    /// The CA as it was read, and of which files.
    ca: Option<(CaFiles, Result<Arc<Ca>, String>)>,
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

    /// The files of the CA as they are now: a certificate is judged anew when they change.
    pub(super) fn ca_files(&self) -> CaFiles {
        (
            stamp(&self.certs.join(CA_CERT)),
            stamp(&self.certs.join(CA_KEY)),
        )
    }

    /// Sees to it that the certificate at `path` serves `id`, whose key is `key`, at `now`; the CA's files were seen as
    /// `ca_files` a moment ago.
    pub(super) fn see_to(
        &self,
        ca_files: CaFiles,
        id: &PluginId,
        key: &PublicKey,
        path: &Path,
        now: UnixTime,
    ) -> Certified {
        let made = self.ca(ca_files, now).and_then(|ca| {
            let found = atomic::read_text(path).ok();
            let found = found.and_then(|text| Certificate::from_pem(&text).ok());
            match found.and_then(|cert| self.serves(&cert, id, key, &ca, now)) {
                Some(until) => Ok(Certified::Until(until)),
                None => self.make(id, key, path, &ca, now),
            }
        });
        match made {
            Ok(certified) => {
                self.lock().said = None;
                certified
            }
            Err(why) => {
                self.say(why);
                Certified::Without
            }
        }
    }

    /// Until when a certificate serves, if it does.
    fn serves(
        &self,
        cert: &Certificate,
        id: &PluginId,
        key: &PublicKey,
        ca: &Ca,
        now: UnixTime,
    ) -> Option<UnixTime> {
        let until = cert.renew_after(self.plan.renew_at);
        let in_time = match cert.validity(now) {
            Validity::Valid => now < until,
            // A clock that was never set says nothing.
            Validity::NotYet => now < UnixTime::EARLIEST_PLAUSIBLE,
            Validity::Expired => false,
        };
        let its_own = cert.common_name() == Some(id.as_str())
            && cert.unit() == Some(UNIT)
            && cert.is_of_key(key);
        (in_time && its_own && cert.is_signed_by(&ca.cert)).then_some(until)
    }

    fn make(
        &self,
        id: &PluginId,
        key: &PublicKey,
        path: &Path,
        ca: &Ca,
        now: UnixTime,
    ) -> Result<Certified, String> {
        let issuer = match &ca.signing {
            Signing::Possible(issuer) => issuer,
            Signing::Impossible(why) => return Err(in_words(why)),
        };
        let subject = ClientSubject {
            client_id: id.as_str(),
            unit: UNIT,
        };
        let pem = issuer.client(subject, key, self.plan.life, now);
        let pem = pem.map_err(|error| in_words(&error))?;
        atomic::write(path, pem.as_bytes(), PUBLIC_MODE).map_err(|error| in_words(&error))?;
        tracing::info!(plugin = %id, "made a client certificate");
        Ok(Certified::Made)
    }

    /// The CA, read again when its files changed.
    fn ca(&self, files: CaFiles, now: UnixTime) -> Result<Arc<Ca>, String> {
        let mut state = self.lock();
        if let Some((before, ca)) = &state.ca
            && *before == files
        {
            return ca.clone();
        }
        let ca = load_ca(&self.certs, now)
            .map(Arc::new)
            .map_err(|error| in_words(&error));
        state.ca = Some((files, ca.clone()));
        ca
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
