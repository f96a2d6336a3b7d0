//! Key pair and token of a plugin on disk (spec §6; T15, T16). Blocks.
//!
//! Invariants: what is on disk is replaced whole or stays; what was judged once is not judged again while the files are
//! the same; no text holds key or token.

use super::certificate::{CaFiles, Certified, ClientCertificates, Notary};
use super::stamp::{Stamp, stamp};
use crate::words::in_words;
use creds::atomic;
use creds::check::Certificate;
use creds::files::{self, TokenFileError};
use creds::token::{TokenOwner, TokenState, judge_token};
use creds::{CredentialPaths, Secret, UnixTime, keys};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use supervision::PluginId;

/// What a plugin has on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OnDisk {
    /// Its public key, as in `{id}.pub`.
    pub(super) key: String,
    /// Its token.
    pub(super) token: Token,
}

/// What its token is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// It serves.
    Serves,
    /// It serves, but a new one should be fetched.
    Due,
    /// It does not, or there is none; why.
    Useless(String),
}

/// The certs folder, with what was read in it.
pub(super) struct Shelf {
    certs: PathBuf,
    /// From this share of its life on a token is renewed.
    renew_at: f64,
    /// None when plugins get no client certificates.
    notary: Option<Notary>,
    read: Mutex<Read>,
}

#[derive(Default)]
struct Read {
    hub: Option<(Stamp, Option<String>)>,
    plugins: HashMap<PluginId, Judged>,
}

/// What was found of a plugin.
struct Judged {
    /// What it was found of, see [`fingerprint`].
    files: u64,
    key: Box<str>,
    token: TokenState,
    /// From then on its certificate is looked at again; none when there is nothing to look at until the files change.
    certified_until: Option<UnixTime>,
}

/// The files that a judgement is about, and the hub's key it was made with, in one number: of a thousand plugins the
/// files themselves would take a megabyte.
fn fingerprint(paths: &CredentialPaths, hub: Option<&str>, ca: Option<CaFiles>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in [&paths.key, &paths.public, &paths.token] {
        stamp(path).hash(&mut hasher);
    }
    hub.hash(&mut hasher);
    if let Some(ca) = ca {
        (stamp(&paths.cert), ca).hash(&mut hasher);
    }
    hasher.finish()
}

impl Shelf {
    /// A shelf of the folder `certs`; touches nothing yet.
    pub(super) fn new(
        certs: PathBuf,
        renew_at: f64,
        certificates: Option<ClientCertificates>,
    ) -> Self {
        Shelf {
            notary: certificates.map(|plan| Notary::new(certs.clone(), plan)),
            certs,
            renew_at,
            read: Mutex::default(),
        }
    }

    /// Where the token of a plugin lies.
    pub(super) fn token_path(&self, id: &PluginId) -> PathBuf {
        self.certs.join(format!("{id}.token"))
    }

    /// What `id` has on disk at `now`; `None` when it has no key, and none is made.
    ///
    /// # Errors
    /// Names the file, the cause and the way out.
    pub(super) fn look_only(&self, id: &PluginId, now: UnixTime) -> Option<Result<OnDisk, String>> {
        match CredentialPaths::new(&self.certs, id.as_str()) {
            Ok(paths) if stamp(&paths.key).is_none() => None,
            Ok(_) | Err(_) => Some(self.look(id, now)),
        }
    }

    /// What `id` has on disk at `now`. A missing key pair is made.
    ///
    /// # Errors
    /// Names the file, the cause and the way out.
    pub(super) fn look(&self, id: &PluginId, now: UnixTime) -> Result<OnDisk, String> {
        let paths = CredentialPaths::new(&self.certs, id.as_str()).map_err(|e| in_words(&e))?;
        let hub = self.hub_key();
        let notary = self
            .notary
            .as_ref()
            .map(|notary| (notary, notary.ca_files()));
        let files = fingerprint(&paths, hub.as_deref(), notary.map(|(_, ca)| ca));
        if let Some(judged) = self.lock().plugins.get(id)
            && judged.files == files
            && judged.certified_until.is_none_or(|until| now < until)
        {
            return Ok(OnDisk {
                key: judged.key.to_string(),
                token: token_of(&judged.token, now),
            });
        }
        let (pair, origin) =
            keys::load_or_create(&self.certs, id.as_str()).map_err(|e| in_words(&e))?;
        match origin {
            keys::KeyOrigin::Found => {}
            keys::KeyOrigin::Created => tracing::info!(plugin = %id, "made a key pair"),
            keys::KeyOrigin::PublicRewritten => {
                tracing::warn!(plugin = %id, "{} did not belong to its key and was written anew", paths.public.display());
            }
        }
        let certified =
            notary.map(|(notary, ca)| notary.see_to(ca, id, pair.public(), &paths.cert, now));
        let key = pair.public_text();
        let state = match files::read_token(&paths.token) {
            Ok(token) => {
                let owner = TokenOwner {
                    client_id: id.as_str(),
                    public_text: &key,
                    hub_public_text: hub.as_deref(),
                };
                judge_token(token.expose(), owner, now, self.renew_at)
            }
            Err(error @ TokenFileError::Nats { .. }) => return Err(in_words(&error)),
            // Whatever is there instead, a new token takes its place, or says why it cannot.
            Err(error @ (TokenFileError::Empty { .. } | TokenFileError::File(_))) => {
                return Ok(OnDisk {
                    key,
                    token: Token::Useless(in_words(&error)),
                });
            }
        };
        let token = token_of(&state, now);
        // Files that were changed just now are judged again the next time, as what they were made for is gone.
        let certified_until = match (origin, certified) {
            (keys::KeyOrigin::Found, Some(Certified::Until(until))) => Some(until),
            (keys::KeyOrigin::Found, Some(Certified::Without) | None) => None,
            (_, Some(Certified::Made))
            | (keys::KeyOrigin::Created | keys::KeyOrigin::PublicRewritten, _) => {
                return Ok(OnDisk { key, token });
            }
        };
        let judged = Judged {
            files,
            key: key.as_str().into(),
            token: state,
            certified_until,
        };
        self.lock().plugins.insert(id.clone(), judged);
        Ok(OnDisk { key, token })
    }

    /// Puts a new token in place.
    ///
    /// # Errors
    /// Names the file and the cause; the old token is still there.
    pub(super) fn put(&self, id: &PluginId, token: String) -> Result<(), String> {
        files::write_token(&self.token_path(id), &Secret::new(token))
            .map_err(|e| format!("{}; it is tried again", in_words(&e)))
    }

    /// The hub's public key, when its certificate is there.
    fn hub_key(&self) -> Option<String> {
        let path = self.certs.join(files::HUB_CERT);
        let now = stamp(&path);
        if let Some((before, key)) = &self.lock().hub
            && *before == now
        {
            return key.clone();
        }
        let key = atomic::read_text(&path)
            .ok()
            .and_then(|text| Certificate::from_pem(&text).ok())
            .and_then(|cert| cert.public_key())
            .map(|key| key.text());
        self.lock().hub = Some((now, key.clone()));
        key
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a token that was judged before is good for now.
fn token_of(state: &TokenState, now: UnixTime) -> Token {
    match state {
        TokenState::Valid { renew_after } if now < *renew_after => Token::Serves,
        // It is judged again with its end when that was not known.
        TokenState::Valid { .. } => Token::Due,
        TokenState::Due { expires } if now < *expires => Token::Due,
        TokenState::Due { .. } => Token::Useless("it has expired".to_owned()),
        TokenState::Invalid(why) => Token::Useless(why.to_string()),
    }
}
