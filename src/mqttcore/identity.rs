//! What the core shows and trusts, kept up while it runs: its server certificate, the CA, and the tokens of `launcher` and
//! `admin` (spec §6, §7).
//!
//! Invariants:
//! - Connections that are open stay as they are; new ones get what is in force.
//! - What cannot be had leaves what was in force in force, and is said once, with the way out.
//! - Here no key and no CA is ever made: a start does that, and `hubcli cca`.
//! - When the CA changes, first certificates of both are let in and the server shows one of the new CA; who signs those of
//!   clients goes by that one, so nobody is locked out in between.
//!
//! It looks every half minute, as names and addresses of the machine and a clock that was set are told by nobody, and at
//! once when one of the files changes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use creds::ca;
use creds::check::Certificate;
use creds::files::{read_token, write_token};
use creds::keys::{self, KeyError};
use creds::token::{TokenOwner, TokenState, judge_token};
use creds::{PublicKey, Secret, UnixTime};
use rustls::pki_types::CertificateDer;
use tokio::sync::Notify;

use crate::auth::Auth;
use crate::connections::lock;
use crate::credentials::{self, CredentialError, Places, Presence};
use crate::hub::Hub;
use crate::tls::{self, Front, TlsError};
use crate::watch;

/// How long between two looks when nothing is told.
const PAUSE: Duration = Duration::from_secs(30);
/// The same while the clock was never set, or something was just found wrong.
const SHORT_PAUSE: Duration = Duration::from_secs(1);
/// How long the files rest after a change: a new CA comes in several steps.
const SETTLE: Duration = Duration::from_millis(100);
/// How long certificates of the CA before are let in: those of plugins are renewed within minutes, and people may take a day.
const OLD_CA_KEPT: Duration = Duration::from_secs(24 * 3600);
/// The share of its life after which one of the core's own tokens is renewed; before the launcher would ask for it.
const RENEW_TOKENS_AT: f64 = 0.5;

/// Why what is in force stays in force.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Ca(#[from] ca::CaError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{0} was replaced; the new one counts from the next start of the core on")]
    OtherKey(PathBuf),
}

/// What is in force.
struct InForce {
    ca: Certificate,
    chain: Vec<CertificateDer<'static>>,
    /// CAs before, with when they are forgotten.
    before: Vec<(Certificate, UnixTime)>,
    /// What was remarked about it.
    remarks: Vec<String>,
    /// What was found wrong at the last look, and whether that was said.
    trouble: Option<(String, bool)>,
}

/// What the core shows and trusts.
pub struct Identity {
    places: Places,
    /// The key of the server certificate made here; none = that is another CA's.
    key: Option<PublicKey>,
    front: Arc<Front>,
    in_force: Mutex<InForce>,
}

impl Identity {
    /// With what a core was started with.
    ///
    /// # Errors
    /// The TLS library does not take it.
    pub fn new(places: Places, presence: Presence) -> Result<Identity, TlsError> {
        let key = presence.own_key;
        let chain = presence.chain.clone();
        let ca = presence.ca.clone();
        let remarks = presence.remarks;
        say(&remarks, &[]);
        let config = tls::server([&ca], presence.chain, presence.key)?;
        Ok(Identity {
            places,
            key,
            front: Arc::new(Front::new(config)),
            in_force: Mutex::new(InForce {
                ca,
                chain,
                before: Vec::new(),
                remarks,
                trouble: None,
            }),
        })
    }

    /// What new connections are shown.
    #[must_use]
    pub fn front(&self) -> &Arc<Front> {
        &self.front
    }

    /// Looks at files and names, and renews the server certificate when that is due. Gives how long until the next look.
    /// Blocks.
    pub fn look(&self, now: UnixTime) -> Duration {
        let found = self.find(now).and_then(|found| self.take(found, now));
        let mut in_force = lock(&self.in_force);
        let trouble = match found {
            Ok(next) => {
                in_force.trouble = None;
                return next;
            }
            Err(trouble) => crate::chain(&trouble),
        };
        match &mut in_force.trouble {
            // Files may be in the middle of a change: what is still so a moment later is worth a word.
            Some((before, said)) if *before == trouble => {
                if !*said {
                    tracing::error!("{trouble}; until then the core goes on with what it has");
                    *said = true;
                }
                PAUSE
            }
            _ => {
                in_force.trouble = Some((trouble, false));
                SHORT_PAUSE
            }
        }
    }

    fn find(&self, now: UnixTime) -> Result<Presence, Trouble> {
        let ca = ca::load_ca_at(&self.places.ca(), now)?;
        let server = self.places.server();
        if let Some(key) = &self.key {
            // Checked first, as it would be made anew when it is missing.
            if keys::load(&server.key)?.public() != key {
                return Err(Trouble::OtherKey(server.key));
            }
        }
        credentials::provide_ca(&self.places.certs, &self.places.ca().cert, &ca)?;
        let names = credentials::server_names(self.places.host.as_deref());
        Ok(credentials::presence(
            &server,
            &self.places.files,
            ca,
            &names,
            now,
        )?)
    }

    /// Puts what was found in force where it differs. Gives how long until the next look.
    fn take(&self, found: Presence, now: UnixTime) -> Result<Duration, Trouble> {
        let next = pause(found.renew_after, now);
        let mut in_force = lock(&self.in_force);
        say(&found.remarks, &in_force.remarks);
        in_force.remarks = found.remarks;
        let forgotten = in_force.before.len();
        in_force.before.retain(|(_, until)| now < *until);
        let forgotten = forgotten != in_force.before.len();
        let new_ca = found.ca.der() != in_force.ca.der();
        if !new_ca && !forgotten && found.chain == in_force.chain {
            return Ok(next);
        }
        let mut before = in_force.before.clone();
        if new_ca {
            before.retain(|(ca, _)| ca.der() != found.ca.der());
            before.push((in_force.ca.clone(), now.after(OLD_CA_KEPT)));
        }
        let trusted = std::iter::once(&found.ca).chain(before.iter().map(|(ca, _)| ca));
        self.front
            .replace(tls::server(trusted, found.chain.clone(), found.key)?);
        if new_ca {
            tracing::warn!(
                "there is a new CA: new connections are shown a certificate of it, and client certificates of the old one are let in for another day; clients elsewhere need the new caCert.pem"
            );
        } else if forgotten {
            tracing::info!("client certificates of the CA before are refused from now on");
        } else {
            tracing::info!("new connections are shown the new server certificate");
        }
        in_force.ca = found.ca;
        in_force.chain = found.chain;
        in_force.before = before;
        Ok(next)
    }

    /// Writes the token files of those who have one. Blocks.
    ///
    /// # Errors
    /// The file, and what went wrong; the old one is then still there.
    pub fn write_tokens(&self, tokens: &[(String, Secret)]) -> Result<(), CredentialError> {
        for (login, path) in &self.places.tokens {
            if let Some((_, token)) = tokens.iter().find(|(of, _)| of == login) {
                write_token(path, token)?;
            }
        }
        Ok(())
    }

    /// Renews the tokens of the core's own accounts that are due, or no longer there. Blocks.
    pub fn renew_tokens(&self, auth: &Auth, now: UnixTime) {
        let clients = auth.store.now();
        let hub = auth.tokens.hub_text();
        for (login, path) in &self.places.tokens {
            let Some(entry) = clients.get(login) else {
                continue;
            };
            let owner = TokenOwner {
                client_id: login,
                public_text: entry.profile.pub_key.trim(),
                hub_public_text: Some(&hub),
            };
            let serves = read_token(path).is_ok_and(|token| {
                match judge_token(token.expose(), owner, now, RENEW_TOKENS_AT) {
                    TokenState::Valid { renew_after } => now < renew_after,
                    TokenState::Due { .. } | TokenState::Invalid(_) => false,
                }
            });
            if serves {
                continue;
            }
            match auth.tokens.issue(&entry.profile) {
                Err(error) => tracing::error!(login, %error, "its token cannot be renewed"),
                Ok(token) => match write_token(path, &token) {
                    Ok(()) => tracing::info!(login, "its token was renewed"),
                    Err(error) => {
                        tracing::error!(
                            login,
                            error = crate::chain(&error),
                            "its token is not renewed"
                        );
                    }
                },
            }
        }
    }
}

/// Says what was not said before.
fn say(remarks: &[String], said: &[String]) {
    for remark in remarks.iter().filter(|remark| !said.contains(remark)) {
        tracing::warn!("{remark}");
    }
}

/// How long until the next look, when the server certificate is to be renewed at `renew_after`.
fn pause(renew_after: Option<UnixTime>, now: UnixTime) -> Duration {
    if now < UnixTime::EARLIEST_PLAUSIBLE {
        return SHORT_PAUSE;
    }
    let until = renew_after.map_or(PAUSE, |at| at.since(now));
    until.clamp(SHORT_PAUSE, PAUSE)
}

/// Keeps it all up, for ever.
///
/// # Cancel safety
/// Safe: what was begun is finished on its thread.
pub async fn keep_up(identity: Arc<Identity>, hub: Arc<Hub>) {
    let changed = Arc::new(Notify::new());
    let tell = Arc::clone(&changed);
    let names = identity.places.watched();
    let _watch = watch::watch(&identity.places.certs, names, move || tell.notify_one())
        .map_err(|error| tracing::warn!(%error, "changes of certificates are seen later"));
    loop {
        let (looking, of) = (Arc::clone(&identity), Arc::clone(&hub));
        let look = tokio::task::spawn_blocking(move || {
            let now = UnixTime::from(SystemTime::now());
            let next = looking.look(now);
            looking.renew_tokens(&of.auth, now);
            next
        });
        let next = look.await.unwrap_or(PAUSE);
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = changed.notified() => tokio::time::sleep(SETTLE).await,
        }
    }
}
