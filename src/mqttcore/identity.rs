//! What the core shows and trusts, kept up while it runs: its server certificate, the CA, and the tokens of `launcher` and
//! `admin` (spec §6, §7).
//!
//! Invariants:
//! - Connections that are open stay as they are; new ones get what is in force.
//! - What cannot be had leaves what was in force in force, and is said once, with the way out.
//! - Here no key and no CA is ever made: a start does that, and `hubcli cca`.
//! - When the CA changes, first clients of both are let in, then the server shows a certificate of the new one; who signs
//!   those of clients goes by that one, so nobody is locked out in between.
//!
//! [`crate::upkeep`] says when to look.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use creds::atomic::{self, AtomicError};
use creds::ca;
use creds::check::Certificate;
use creds::ends::{DAY, Reminders};
use creds::files::{read_token, write_token};
use creds::keys::{self, KeyError};
use creds::token::{TokenOwner, TokenState, judge_token};
use creds::{PublicKey, Secret, UnixTime};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

use crate::auth::Auth;
use crate::credentials::{self, CredentialError, Places, Presence};
use crate::lock::lock;
use crate::machine::{self, Names};
use crate::remind;
use crate::tls::{self, Front, TlsError, Unusable};

/// How long until the next look when something was just found wrong; doubles up to [`LONGEST_PAUSE`]. Files may be in the
/// middle of a change.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// What cannot be had is looked for at least this often.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// How long certificates of the CA before are let in, until the core ends at most. Those of plugins are renewed within
/// minutes, and what fails is tried again every hour; a new CA may be there because the old one's key was stolen.
pub const OLD_CA_KEPT: Duration = Duration::from_secs(24 * 3600);
/// So many CAs before are trusted at most.
const MOST_CAS_BEFORE: usize = 4;
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
    File(#[from] AtomicError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(
        "{0} was replaced; the new one counts from the next start of the core on: hubcli restart core"
    )]
    OtherKey(PathBuf),
}

/// What is in force.
struct InForce {
    ca: Certificate,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// CAs before, with when they are forgotten; the newest last.
    before: Vec<(Certificate, Instant)>,
    /// What was remarked about it.
    remarks: Vec<String>,
    /// How often in a row something was found wrong.
    failures: u32,
    /// What was found wrong at the last look, and whether that was said.
    trouble: Option<(String, bool)>,
    reminders: Reminders,
    /// A moment by both clocks.
    clocks: (UnixTime, Instant),
}

/// When to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// By the wall clock; later than the look.
    pub at: UnixTime,
    /// And from then on, for what a clock that is set does not change.
    pub or: Option<Instant>,
}

/// What the core shows and trusts.
pub struct Identity {
    /// Where everything lies.
    pub places: Places,
    /// The key of the server certificate made here; none = that is another CA's.
    key: Option<PublicKey>,
    front: Arc<Front>,
    names: watch::Sender<Names>,
    in_force: Mutex<InForce>,
}

impl Identity {
    /// With what a core was started with; `clocks` is a moment before that, by both clocks.
    ///
    /// # Errors
    /// The TLS library does not take it.
    pub fn new(
        places: Places,
        presence: Presence,
        clocks: (UnixTime, Instant),
    ) -> Result<Identity, Unusable> {
        say(&presence.remarks, &[]);
        let key = presence.key.clone_key();
        let config = tls::server([&presence.ca], presence.chain.clone(), presence.key);
        let config = config.map_err(|source| Unusable {
            path: match source {
                TlsError::Ca(_) => places.ca().cert,
                TlsError::Server(_) => places.server().cert,
            },
            source,
        })?;
        let names = machine::names(places.host.as_deref());
        Ok(Identity {
            places,
            names: watch::Sender::new(names),
            key: presence.own_key,
            front: Arc::new(Front::new(config)),
            in_force: Mutex::new(InForce {
                ca: presence.ca,
                chain: presence.chain,
                key,
                before: Vec::new(),
                remarks: presence.remarks,
                failures: 0,
                trouble: None,
                reminders: Reminders::default(),
                clocks,
            }),
        })
    }

    /// What new connections are shown.
    #[must_use]
    pub fn front(&self) -> &Arc<Front> {
        &self.front
    }

    /// Under which names this machine is reached, as they change.
    #[must_use]
    pub fn names(&self) -> watch::Receiver<Names> {
        self.names.subscribe()
    }

    /// By how much a clock that was never set was put forward since the last call, if it was.
    pub fn clock_was_set(&self, now: UnixTime, instant: Instant) -> Option<Duration> {
        let mut in_force = lock(&self.in_force);
        let by = put_forward(in_force.clocks, now, instant);
        in_force.clocks = (now, instant);
        by
    }

    /// Looks at all of it, and renews what is due. Blocks.
    pub fn look(&self, auth: &Auth, now: UnixTime, instant: Instant) -> Next {
        let shown = self.keep_shown(now, instant);
        let tokens = self.renew_tokens(auth, now);
        let found = match (shown, tokens) {
            (Ok(due), Ok(tokens_due)) => Ok(due.min(tokens_due)),
            (Err(trouble), _) | (_, Err(trouble)) => Err(trouble),
        };
        let in_force = &mut *lock(&self.in_force);
        remind::of_ends(
            &self.places,
            &in_force.ca,
            &in_force.chain,
            now,
            &mut in_force.reminders,
        );
        Next {
            at: in_force.next(found, now).min(now.after(DAY)),
            or: in_force.before.iter().map(|(_, until)| *until).min(),
        }
    }

    /// Looks at CA and server certificate. Gives when they are due again.
    fn keep_shown(&self, now: UnixTime, instant: Instant) -> Result<UnixTime, String> {
        let in_force = &mut *lock(&self.in_force);
        let had = in_force.before.len();
        in_force.before.retain(|(_, until)| instant < *until);
        if in_force.before.len() < had {
            tracing::info!("client certificates of the CA before are refused from now on");
            self.show(in_force, None).map_err(|error| chain(&error))?;
        }
        let kept = self.follow(in_force, now, instant);
        kept.map_err(|trouble| chain(&trouble))
    }

    fn follow(
        &self,
        in_force: &mut InForce,
        now: UnixTime,
        instant: Instant,
    ) -> Result<UnixTime, Trouble> {
        let places = &self.places;
        let ca = ca::load_ca_at(&places.ca(), now)?;
        self.check_key()?;
        let is_new = ca.cert.der() != in_force.ca.der();
        credentials::provide_ca(&places.certs, &places.ca().cert, &ca, Some(&in_force.ca))?;
        if is_new {
            // Before the certificate by which others see that it is in force.
            self.show(in_force, Some(&ca.cert))?;
        }
        let names = machine::names(places.host.as_deref());
        self.names.send_if_modified(|before| {
            let is_new = *before != names;
            before.clone_from(&names);
            is_new
        });
        let found = credentials::presence(&places.server(), &places.files, ca, &names, now);
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.show(in_force, None)?;
                return Err(error.into());
            }
        };
        say(&found.remarks, &in_force.remarks);
        in_force.remarks = found.remarks;
        let is_same = found.chain == in_force.chain;
        if is_same && !is_new {
            return Ok(found.due);
        }
        (in_force.chain, in_force.key) = (found.chain, found.key);
        let old = std::mem::replace(&mut in_force.ca, found.ca);
        if is_new {
            let (before, new) = (&mut in_force.before, in_force.ca.der());
            before.retain(|(ca, _)| ca.der() != new);
            before.push((old, instant + OLD_CA_KEPT));
            let too_many = before.len().saturating_sub(MOST_CAS_BEFORE);
            before.drain(..too_many);
            tracing::warn!(
                "there is a new CA: new connections are shown a certificate of it, and client certificates of the old one are let in for another day, or until the core is restarted; clients elsewhere need the new caCert.pem"
            );
        } else {
            tracing::info!("new connections are shown the new server certificate");
        }
        self.show(in_force, None)?;
        Ok(found.due)
    }

    /// Makes sure that no key is made or changed by looking at what hangs on it.
    fn check_key(&self) -> Result<(), Trouble> {
        let server = self.places.server();
        match &self.key {
            Some(key) if keys::load(&server.key)?.public() == key => Ok(()),
            Some(_) => Err(Trouble::OtherKey(server.key)),
            None => {
                atomic::read_text(&server.cert)?;
                atomic::read_text(&server.key)?;
                Ok(())
            }
        }
    }

    /// Has new connections shown what is in force; clients of `also` are let in, too.
    fn show(&self, in_force: &InForce, also: Option<&Certificate>) -> Result<(), TlsError> {
        let before = in_force.before.iter().map(|(ca, _)| ca);
        let trusted = std::iter::once(&in_force.ca).chain(before).chain(also);
        let key = in_force.key.clone_key();
        let config = tls::server(trusted, in_force.chain.clone(), key)?;
        self.front.replace(config);
        Ok(())
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

    /// Renews the tokens of the core's own accounts that are due, or no longer there. Gives when the next is due.
    fn renew_tokens(&self, auth: &Auth, now: UnixTime) -> Result<UnixTime, String> {
        let clients = auth.store.now();
        let hub = auth.tokens.hub_text();
        let mut due = now.after(DAY);
        for (login, path) in &self.places.tokens {
            let Some(entry) = clients.get(login) else {
                continue;
            };
            let owner = TokenOwner {
                client_id: login,
                public_text: entry.profile.pub_key.trim(),
                hub_public_text: Some(&hub),
            };
            let judge = |token: &Secret| judge_token(token.expose(), owner, now, RENEW_TOKENS_AT);
            let there = read_token(path).ok().filter(|token| {
                // Its life says nothing when a clock that was never set gave it.
                !is_of_unset_clock(token) || now < UnixTime::EARLIEST_PLAUSIBLE
            });
            if let Some(TokenState::Valid { renew_after }) = there.as_ref().map(judge) {
                due = due.min(renew_after);
                continue;
            }
            let cannot = |error: &dyn std::error::Error| {
                format!("the token of {login} cannot be renewed: {}", chain(error))
            };
            let token = auth.tokens.issue_at(&entry.profile, now);
            let token = token.map_err(|error| cannot(&error))?;
            write_token(path, &token).map_err(|error| cannot(&error))?;
            tracing::info!(login, "its token was renewed");
            if let TokenState::Valid { renew_after } = judge(&token) {
                due = due.min(renew_after);
            }
        }
        Ok(due)
    }
}

impl InForce {
    /// When to look again after `found`, which is when something is due or what was found wrong.
    fn next(&mut self, found: Result<UnixTime, String>, now: UnixTime) -> UnixTime {
        match found {
            Ok(due) if due > now => {
                self.failures = 0;
                self.trouble = None;
                return due;
            }
            // What was done about it did not help.
            Ok(_) => self.trouble = None,
            Err(trouble) => match &mut self.trouble {
                // What is still so a moment later is worth a word.
                Some((before, said)) if *before == trouble => {
                    if !*said {
                        tracing::error!("{trouble}; until then the core goes on with what it has");
                        *said = true;
                    }
                }
                _ => {
                    self.failures = 0;
                    self.trouble = Some((trouble, false));
                }
            },
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        now.after(pause.min(LONGEST_PAUSE))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    crate::chain(error)
}

fn is_of_unset_clock(token: &Secret) -> bool {
    creds::token::peek(token.expose())
        .is_ok_and(|claims| claims.iat < UnixTime::EARLIEST_PLAUSIBLE.0)
}

/// By how much the wall clock was put forward since it was read as the first of `before` at the second, if it was never set
/// then and is now.
fn put_forward(
    (wall, at): (UnixTime, Instant),
    now: UnixTime,
    instant: Instant,
) -> Option<Duration> {
    let as_it_was = wall.after(instant.saturating_duration_since(at));
    let is_set = as_it_was < UnixTime::EARLIEST_PLAUSIBLE && now >= UnixTime::EARLIEST_PLAUSIBLE;
    is_set.then(|| now.since(as_it_was))
}

/// Says what was not said before.
fn say(remarks: &[String], said: &[String]) {
    for remark in remarks.iter().filter(|remark| !said.contains(remark)) {
        tracing::warn!("{remark}");
    }
}
