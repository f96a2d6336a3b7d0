//! Key pair and token of a plugin on disk (spec §6; T15, T16). Blocks.
//!
//! Invariants: what is on disk is replaced whole or stays; what was judged once is not judged again while the files are
//! the same; no text holds key or token.

use super::certificate::{Certified, ClientCertificates, HubFiles, Notary, is_of_a_core};
use super::stamp::{Stamp, stamp};
use crate::words::in_words;
use creds::atomic;
use creds::check::Certificate;
use creds::files::{self, TokenFileError};
use creds::token::{TokenOwner, TokenState, judge_token, peek};
use creds::{CredentialPaths, Secret, UnixTime, keys};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use supervision::PluginId;

/// What a plugin has on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OnDisk {
    /// Its public key, as in `{id}.pub`.
    pub(super) key: String,
    /// Its token.
    pub(super) token: Token,
    /// How its certificate is; none where none is made.
    pub(super) certified: Option<Certified>,
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

impl Token {
    /// Whether somebody can log in with it.
    pub(super) fn serves(&self) -> bool {
        match self {
            Token::Serves | Token::Due => true,
            Token::Useless(_) => false,
        }
    }
}

/// The certs folder, with what was read in it.
pub(super) struct Shelf {
    certs: PathBuf,
    /// Where our own token lies.
    own_token: PathBuf,
    /// From this share of its life on a token is renewed; none = the core gives none.
    renew_at: Option<f64>,
    /// None when plugins get no client certificates.
    notary: Option<Notary>,
    read: Mutex<Read>,
}

#[derive(Default)]
struct Read {
    hub: Option<([Stamp; 2], Option<String>)>,
    plugins: HashMap<PluginId, Seen>,
    started: HashMap<PluginId, Started>,
}

/// With what a plugin was started last.
struct Started {
    /// Its public key, in one number.
    key: u64,
    /// Until when all was in order; none when that was not known.
    until: Option<UnixTime>,
}

/// What was seen of a plugin last.
struct Seen {
    /// Its files, see [`Files::fingerprint`].
    files: u64,
    /// None when there was something wrong with them, which time may mend.
    judged: Option<Judged>,
}

/// What was found of a plugin.
#[derive(Clone)]
struct Judged {
    key: Box<str>,
    token: TokenState,
    certified: Option<Certified>,
}

impl Judged {
    /// From then on there is something to look at, unless the files change before.
    fn until(&self) -> UnixTime {
        let token = match &self.token {
            TokenState::Valid { renew_after } => *renew_after,
            TokenState::Due { .. } | TokenState::Invalid(_) => UnixTime(0),
        };
        match self.certified {
            Some(Certified::Until(until) | Certified::Ageing(until)) => token.min(until),
            Some(Certified::Failed) => UnixTime(0),
            Some(Certified::AwaitsServer | Certified::Without) | None => token,
        }
    }

    fn on_disk(&self, now: UnixTime) -> OnDisk {
        OnDisk {
            key: self.key.to_string(),
            token: token_of(&self.token, now),
            certified: self.certified,
        }
    }

    /// Whether it says what a look at `now` would say, of the same files.
    fn holds(&self, now: UnixTime) -> bool {
        match self.certified {
            Some(Certified::Until(until) | Certified::Ageing(until)) => now < until,
            Some(Certified::Failed) => false,
            Some(Certified::AwaitsServer | Certified::Without) | None => true,
        }
    }
}

/// The files that a judgement is about, and the hub's key it was made with.
#[derive(Hash)]
struct Files<'a> {
    own: [Stamp; 3],
    hub: Option<&'a str>,
    certificate: Option<(Stamp, HubFiles)>,
}

impl<'a> Files<'a> {
    fn of(paths: &CredentialPaths, hub: Option<&'a str>, hub_files: Option<HubFiles>) -> Self {
        Files {
            own: [&paths.key, &paths.public, &paths.token].map(|path| stamp(path)),
            hub,
            certificate: hub_files.map(|files| (stamp(&paths.cert), files)),
        }
    }

    /// The same with the certificate as it is now.
    fn certified(mut self, paths: &CredentialPaths) -> Self {
        if let Some((cert, _)) = &mut self.certificate {
            *cert = stamp(&paths.cert);
        }
        self
    }

    /// All in one number: of a thousand plugins the files themselves would take a megabyte.
    fn fingerprint(&self) -> u64 {
        in_one_number(self)
    }
}

fn in_one_number(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

impl Shelf {
    /// A shelf of the folder `certs`, where the login `own` is ours; touches nothing yet.
    pub(super) fn new(
        certs: PathBuf,
        own: &str,
        renew_at: Option<f64>,
        certificates: Option<ClientCertificates>,
    ) -> Self {
        Shelf {
            notary: certificates.map(|plan| Notary::new(certs.clone(), plan)),
            own_token: certs.join(format!("{own}.token")),
            certs,
            renew_at,
            read: Mutex::default(),
        }
    }

    /// Whether the core gives tokens.
    pub(super) fn has_tokens(&self) -> bool {
        self.renew_at.is_some()
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
        let hub_files = self.notary.as_ref().map(Notary::hub_files);
        let files = Files::of(&paths, hub.as_deref(), hub_files);
        let fingerprint = files.fingerprint();
        if let Some(seen) = self.lock().plugins.get(id)
            && seen.files == fingerprint
            && let Some(judged) = &seen.judged
            && judged.holds(now)
        {
            return Ok(judged.on_disk(now));
        }
        let (found, judged) = self.judge(id, &paths, hub.as_deref(), hub_files, now)?;
        let seen = Seen {
            files: files.certified(&paths).fingerprint(),
            judged,
        };
        self.lock().plugins.insert(id.clone(), seen);
        Ok(found)
    }

    /// What `id` has, and what of it may be remembered.
    fn judge(
        &self,
        id: &PluginId,
        paths: &CredentialPaths,
        hub: Option<&str>,
        hub_files: Option<HubFiles>,
        now: UnixTime,
    ) -> Result<(OnDisk, Option<Judged>), String> {
        let (pair, origin) =
            keys::load_or_create(&self.certs, id.as_str()).map_err(|e| in_words(&e))?;
        match origin {
            keys::KeyOrigin::Found => {}
            keys::KeyOrigin::Created => tracing::info!(plugin = %id, "made a key pair"),
            keys::KeyOrigin::PublicRewritten => {
                tracing::warn!(plugin = %id, "{} did not belong to its key and was written anew", paths.public.display());
            }
        }
        let certified = self.notary.as_ref().zip(hub_files);
        let certified = certified
            .map(|(notary, files)| notary.see_to(files, id, pair.public(), &paths.cert, now));
        let key = pair.public_text();
        let found = self
            .renew_at
            .map(|renew_at| (renew_at, files::read_token(&paths.token)));
        let token = match found {
            // Nobody asks for one, so there is nothing to look at ever.
            None => TokenState::Valid {
                renew_after: UnixTime(i64::MAX),
            },
            Some((renew_at, Ok(token))) => {
                let owner = TokenOwner {
                    client_id: id.as_str(),
                    public_text: &key,
                    hub_public_text: hub,
                };
                judge_token(token.expose(), owner, now, renew_at)
            }
            Some((_, Err(error @ TokenFileError::Nats { .. }))) => return Err(in_words(&error)),
            // Whatever is there instead, a new token takes its place, or says why it cannot.
            Some((_, Err(error @ (TokenFileError::Empty { .. } | TokenFileError::File(_))))) => {
                let token = Token::Useless(in_words(&error));
                let found = OnDisk {
                    key,
                    token,
                    certified,
                };
                return Ok((found, None));
            }
        };
        // What does not serve may do so when the clock is set; and of a new pair the stamps are those of before.
        let keep = match (&token, origin) {
            (TokenState::Valid { .. } | TokenState::Due { .. }, keys::KeyOrigin::Found) => true,
            (TokenState::Invalid(_), _)
            | (_, keys::KeyOrigin::Created | keys::KeyOrigin::PublicRewritten) => false,
        };
        let judged = Judged {
            key: key.into(),
            token,
            certified,
        };
        Ok((judged.on_disk(now), keep.then_some(judged)))
    }

    /// How long after `now` there is something to look at again, unless the files change before; none when that is not
    /// known.
    pub(super) fn next_look(&self, id: &PluginId, now: UnixTime) -> Option<Duration> {
        let read = self.lock();
        let judged = read.plugins.get(id)?.judged.as_ref()?;
        Some(judged.until().since(now)).filter(|next| !next.is_zero())
    }

    /// Notes that `id` starts with what it has, as its public key is `key`. Whether that is news for who keeps it up.
    pub(super) fn starts(&self, id: &PluginId, key: &str) -> bool {
        let mut read = self.lock();
        let judged = read.plugins.get(id).and_then(|seen| seen.judged.as_ref());
        let now = Started {
            key: in_one_number(key),
            until: judged.map(Judged::until),
        };
        let until = now.until;
        let before = read.started.insert(id.clone(), now);
        until.is_none() || before.is_none_or(|before| before.until != until)
    }

    /// Whether `id` was started with another key than this one.
    pub(super) fn has_another_key(&self, id: &PluginId, key: &str) -> bool {
        let read = self.lock();
        let started = read.started.get(id);
        started.is_some_and(|started| started.key != in_one_number(key))
    }

    /// Why the last certificate could not be made.
    pub(super) fn certificate_trouble(&self) -> String {
        let notary = self.notary.as_ref();
        notary.map(Notary::trouble).unwrap_or_default()
    }

    /// Those that were started, or are to be.
    pub(super) fn is_kept_up(&self, id: &PluginId) -> bool {
        self.lock().started.contains_key(id)
    }

    /// Whether the files of `id` are others than those it was left with by [`Shelf::look`] or [`Shelf::put`].
    pub(super) fn is_changed(&self, id: &PluginId) -> bool {
        let now = self.fingerprint(id);
        let read = self.lock();
        let seen = read.plugins.get(id);
        seen.is_none_or(|seen| Some(seen.files) != now)
    }

    fn fingerprint(&self, id: &PluginId) -> Option<u64> {
        let paths = CredentialPaths::new(&self.certs, id.as_str()).ok()?;
        let hub = self.hub_key();
        let hub_files = self.notary.as_ref().map(Notary::hub_files);
        Some(Files::of(&paths, hub.as_deref(), hub_files).fingerprint())
    }

    /// The clock was set: whatever was judged by it is judged again.
    pub(super) fn forget_times(&self) {
        for seen in self.lock().plugins.values_mut() {
            seen.judged = None;
        }
        if let Some(notary) = &self.notary {
            notary.forget();
        }
    }

    /// Of this plugin nothing is remembered any more.
    pub(super) fn forget(&self, id: &PluginId) {
        let mut read = self.lock();
        read.plugins.remove(id);
        read.started.remove(id);
    }

    /// Puts a new token in place.
    ///
    /// # Errors
    /// Names the file and the cause; the old token is still there.
    pub(super) fn put(&self, id: &PluginId, token: String) -> Result<(), String> {
        files::write_token(&self.token_path(id), &Secret::new(token))
            .map_err(|e| format!("{}; it is tried again", in_words(&e)))?;
        if let Some(files) = self.fingerprint(id) {
            let judged = None;
            let mut read = self.lock();
            read.plugins.insert(id.clone(), Seen { files, judged });
        }
        Ok(())
    }

    /// Where the key of a plugin lies.
    pub(super) fn key_path(&self, id: &PluginId) -> PathBuf {
        self.certs.join(format!("{id}.key"))
    }

    /// The hub's public key: that of the certificate that a core made, else that by which our own token was signed, at a
    /// hub of another machine. None when neither is there.
    fn hub_key(&self) -> Option<String> {
        let paths = [self.certs.join(files::HUB_CERT), self.own_token.clone()];
        let now = [stamp(&paths[0]), stamp(&paths[1])];
        if let Some((before, key)) = &self.lock().hub
            && *before == now
        {
            return key.clone();
        }
        let [cert, token] = paths;
        let key = key_of_core(&cert).or_else(|| issuer_of(&token));
        self.lock().hub = Some((now, key.clone()));
        key
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key in a server certificate. One that no core made may be of any key, and tokens are signed by the hub's all the same.
fn key_of_core(path: &Path) -> Option<String> {
    let cert = Certificate::from_pem(&atomic::read_text(path).ok()?).ok()?;
    let key = is_of_a_core(&cert).then(|| cert.public_key())?;
    key.map(|key| key.text())
}

/// Who signed a token.
fn issuer_of(path: &Path) -> Option<String> {
    let token = files::read_token(path).ok()?;
    Some(peek(token.expose()).ok()?.iss)
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
