//! The launcher's own token (spec §6). Blocks.
//!
//! Invariants: only the token is renewed, never the key; a core of our own renews it itself, long before it is due here.

use super::stamp::{Stamp, stamp};
use crate::words::in_words;
use bus::wire::local_time;
use creds::files::{self, CredentialPaths};
use creds::token::{TokenError, TokenOwner, TokenState, judge_token};
use creds::{Secret, UnixTime, keys};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Our own login.
#[derive(Debug, Clone)]
pub struct OwnLogin {
    /// The certs folder.
    pub certs: PathBuf,
    /// The login.
    pub login: String,
    /// From which share of its life on the token is renewed; 0 to 1.
    pub renew_at: f64,
}

/// How our token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OwnToken {
    /// There is none, or no key: then it is not by a token that we log in.
    Absent,
    /// It serves, for so long.
    Serves(Duration),
    /// It serves, but a new one should be fetched.
    Due,
    /// It does not.
    Useless(TokenError),
}

/// Our own login, with what was left in its files.
pub(super) struct Own {
    pub(super) plan: OwnLogin,
    left: Mutex<Option<Stamp>>,
}

impl Own {
    pub(super) fn new(plan: OwnLogin) -> Self {
        Own {
            plan,
            left: Mutex::default(),
        }
    }

    fn paths(&self) -> Option<CredentialPaths> {
        CredentialPaths::new(&self.plan.certs, &self.plan.login).ok()
    }

    /// How the token is at `now`.
    pub(super) fn look(&self, now: UnixTime) -> OwnToken {
        let Some(paths) = self.paths() else {
            return OwnToken::Absent;
        };
        self.leave(stamp(&paths.token));
        let (Ok(key), Ok(token)) = (keys::load(&paths.key), files::read_token(&paths.token)) else {
            return OwnToken::Absent;
        };
        let owner = TokenOwner {
            client_id: &self.plan.login,
            public_text: &key.public_text(),
            // The hub may be another machine's.
            hub_public_text: None,
        };
        match judge_token(token.expose(), owner, now, self.plan.renew_at) {
            TokenState::Valid { renew_after } => OwnToken::Serves(renew_after.since(now)),
            TokenState::Due { .. } => OwnToken::Due,
            TokenState::Invalid(error) => OwnToken::Useless(error),
        }
    }

    /// Puts a new token in place.
    ///
    /// # Errors
    /// Names the file and the cause; the old token is still there.
    pub(super) fn put(&self, token: String) -> Result<(), String> {
        let Some(paths) = self.paths() else {
            return Ok(());
        };
        files::write_token(&paths.token, &Secret::new(token)).map_err(|e| in_words(&e))?;
        self.leave(stamp(&paths.token));
        Ok(())
    }

    /// Whether the token's file is another one than that which was left.
    pub(super) fn is_changed(&self) -> bool {
        let now = self.paths().map(|paths| stamp(&paths.token));
        now != *self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, token: Stamp) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }

    /// Why a hub refuses our login, as far as the token tells, with the way out.
    pub(super) fn explain(&self, now: UnixTime) -> Option<String> {
        let file = self.paths()?.token;
        let file = file.display();
        let login = &self.plan.login;
        let way_out = format!(
            "the hub's core writes {login}.token anew when it starts: restart it, or copy that file from the certs \
             folder of its machine"
        );
        match self.look(now) {
            OwnToken::Absent => None,
            OwnToken::Useless(TokenError::Expired { at }) => {
                let ended = local_time(UnixTime(at).to_system());
                Some(format!(
                    "its token {file} expired at {ended}; {way_out}, and see that the clock of this machine is right"
                ))
            }
            OwnToken::Useless(error) => Some(format!(
                "its token {file} does not serve: {}; {way_out}",
                in_words(&error)
            )),
            OwnToken::Serves(_) | OwnToken::Due => Some(format!(
                "its token {file} has not expired, so it is of another hub, or of a key that this one does not know; \
                 {way_out}"
            )),
        }
    }
}
