//! The auth service (HP 1.20): clients, tokens, permissions.
//!
//! Invariants:
//! - It lives inside the core and is asked without a socket, so that it works without network, route or DNS (T26).
//! - A change is on disk before it is answered.
//! - Nothing here judges who may ask: that was done when the request was published.
//! - Passwords are hashed and compared on blocking threads, few at a time.

mod manage;
mod passwords;
mod profile;
mod tokens;

use std::sync::Arc;
use std::time::SystemTime;

use bus::golang::{self, DecodeError, GoValue};
use bus::wire::{AUTH, MANAGE_CLIENTS, PROFILE, ROLES};
use thiserror::Error;

pub use passwords::Passwords;
pub use tokens::Tokens;

use crate::clients::SERVICE;
use crate::grants::Grants;
use crate::guesses::Guesses;
use crate::kept::KeepError;
use crate::roles::{Permissions, Role};
use crate::store::Store;

/// One request.
#[derive(Debug, Clone)]
pub struct Call {
    /// The third level of its topic.
    pub capability: String,
    /// The fourth.
    pub method: String,
    /// The fifth, which the core has verified.
    pub sender: String,
    /// Its arguments, unread.
    pub payload: bytes::Bytes,
}

/// What follows from a change, besides the reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// What this login may do is to be judged again.
    Rejudge(String),
    /// This login is no client any more.
    ThrowOut(String),
}

/// The reply to a request and what else it brings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// JSON, or nothing where the method has no result.
    pub payload: Vec<u8>,
    /// To be done before the reply goes out.
    pub effects: Vec<Effect>,
}

impl Answer {
    fn of<T: serde::Serialize>(value: &T) -> Answer {
        Answer {
            payload: golang::encode(value),
            effects: Vec::new(),
        }
    }

    fn and(mut self, effect: Effect) -> Answer {
        self.effects.push(effect);
        self
    }
}

/// Why a request fails. The texts are the original's wherever it has one (HP 1.20).
#[derive(Debug, Error)]
pub enum AuthError {
    /// Arguments that cannot be read.
    #[error("failed unmarshal request: {0}")]
    Decode(#[from] DecodeError),
    /// No such method.
    #[error("method '{method}' not part of capability '{capability}'")]
    Method {
        /// What was asked for.
        method: String,
        /// Of what.
        capability: String,
    },
    /// No such method of `roles`.
    #[error("unknown action '{method}' for client '{sender}'")]
    RolesMethod {
        /// What was asked for.
        method: String,
        /// By whom.
        sender: String,
    },
    /// No such capability.
    #[error(
        "capability '{capability}' is not offered by auth; it has manageClients, profile and roles"
    )]
    Capability {
        /// What was asked for.
        capability: String,
    },
    /// `addService` without an id.
    #[error("missing service ID")]
    NoServiceId,
    /// `addDevice` without an id.
    #[error("AddDevice: missing device ID")]
    NoDeviceId,
    /// `addUser` without an id.
    #[error("missing user ID")]
    NoUserId,
    /// An id that cannot be part of topics and file names (T46).
    #[error(
        "invalid client ID '{id}'; it must not hold / \\ + # or control characters, nor begin with . or $"
    )]
    BadId {
        /// At most 64 characters of it.
        id: String,
    },
    /// A role nobody has: stored, it would silently be none.
    #[error(
        "unknown role '{found}'; there are viewer, operator, manager, admin, device and service"
    )]
    BadRole {
        /// At most 64 characters of it.
        found: String,
    },
    /// An id of the core itself (T46).
    #[error("client ID '{id}' is reserved")]
    Reserved {
        /// The id.
        id: String,
    },
    /// No such client.
    #[error("clientID '{id}' does not exist")]
    Missing {
        /// The id.
        id: String,
    },
    /// No such client, where the original says it so.
    #[error("Client '{id}' not found")]
    NotFound {
        /// The id.
        id: String,
    },
    /// A profile of somebody else.
    #[error("clientID '{id}' mismatch in profile as '{other}'")]
    Mismatch {
        /// Whose profile is to be changed.
        id: String,
        /// Whose it claims to be.
        other: String,
    },
    /// None of the three types.
    #[error("invalid clientType '{found}'")]
    ClientType {
        /// What was given.
        found: String,
    },
    /// Fewer than five bytes.
    #[error("password too short ({length} chars)")]
    ShortPassword {
        /// Its length in bytes.
        length: usize,
    },
    /// More than bcrypt looks at.
    #[error("password too long ({length} bytes); at most 72 count")]
    LongPassword {
        /// Its length in bytes.
        length: usize,
    },
    /// The system gives no random numbers, or is about to stop.
    #[error("the password could not be hashed")]
    Hashing,
    /// Wrong passwords follow each other too fast.
    #[error("too many wrong passwords for '{id}' of late; try again in half a minute")]
    TooEarly {
        /// The login.
        id: String,
    },
    /// A wrong password, or none on file.
    #[error("invalid login as '{id}'")]
    Login {
        /// The id.
        id: String,
    },
    /// Only services have permissions to give.
    #[error("Client '{id}' must be a service, not a '{found}'")]
    NotAService {
        /// The id.
        id: String,
        /// Its type.
        found: String,
    },
    /// A capability that cannot be a level of a topic.
    #[error("invalid capability '{capability}'")]
    BadCapability {
        /// At most 64 characters of it.
        capability: String,
    },
    /// A service that would fill the memory.
    #[error("service '{id}' has registered {limit} capabilities already")]
    TooManyCapabilities {
        /// The id.
        id: String,
        /// The most there may be.
        limit: usize,
    },
    /// No token for one without a key.
    #[error("CreateToken: client has no public key")]
    NoKey,
    /// No token for one without a role.
    #[error("CreateToken: client has no role")]
    NoRole,
    /// Signing failed.
    #[error("CreateToken: {0}")]
    Token(#[from] creds::token::TokenError),
    /// The change could not be written.
    #[error("not stored: {}", crate::chain(.0))]
    Store(#[from] KeepError),
}

/// The auth service.
#[derive(Debug)]
pub struct Auth {
    /// The clients.
    pub store: Arc<Store>,
    /// Makes and verifies tokens.
    pub tokens: Tokens,
    /// Makes and verifies passwords.
    pub passwords: Passwords,
    /// Wrong passwords.
    pub guesses: Guesses,
    /// Which capabilities are open to whom.
    pub grants: Arc<Grants>,
}

impl Auth {
    /// The service over what is kept of clients and permissions.
    #[must_use]
    pub fn new(store: Store, grants: Grants, tokens: Tokens, guesses: Guesses) -> Self {
        Auth {
            store: Arc::new(store),
            tokens,
            passwords: Passwords::default(),
            guesses,
            grants: Arc::new(grants),
        }
    }

    /// Changes what is open to whom, and waits until that is on disk; nothing is written when nothing changes.
    async fn change_permissions(
        &self,
        change: impl FnOnce(&mut Permissions) -> bool,
    ) -> Result<(), AuthError> {
        match self.grants.change_if(change) {
            Some(number) => Ok(self.grants.kept(number).await?),
            None => Ok(()),
        }
    }

    /// Forgets what `login` has opened when it is no service any more: it would be open again if it became one.
    pub fn forget_unless_service(&self, login: &str) {
        let clients = self.store.now();
        let is_service = clients
            .get(login)
            .is_some_and(|entry| entry.profile.client_type == SERVICE);
        if !is_service && login != AUTH {
            self.grants.change_if(|grants| grants.forget(login));
        }
    }

    /// Answers a request. A change is on disk when this returns.
    ///
    /// # Errors
    /// The text for the reply.
    ///
    /// # Cancel safety
    /// A change may have been made and its reply lost.
    pub async fn answer(&self, call: &Call) -> Result<Answer, AuthError> {
        match call.capability.as_str() {
            MANAGE_CLIENTS => self.manage(call).await,
            PROFILE => self.profile(call).await,
            // Roles are a fixed set; the original accepts both and does nothing.
            ROLES => match call.method.as_str() {
                "createRole" | "deleteRole" => Ok(Answer::default()),
                _ => Err(AuthError::RolesMethod {
                    method: clipped(&call.method),
                    sender: call.sender.clone(),
                }),
            },
            other => Err(AuthError::Capability {
                capability: clipped(other),
            }),
        }
    }
}

impl Call {
    fn args<T: GoValue + Default>(&self) -> Result<T, AuthError> {
        Ok(golang::decode(&self.payload)?)
    }

    fn unknown_method(&self) -> AuthError {
        AuthError::Method {
            method: clipped(&self.method),
            capability: self.capability.clone(),
        }
    }
}

/// # Errors
/// The word is no role; none at all is one.
fn check_role(word: &str) -> Result<(), AuthError> {
    if !word.is_empty() && Role::from_word(word) == Role::Nobody {
        return Err(AuthError::BadRole {
            found: clipped(word),
        });
    }
    Ok(())
}

/// What of a stranger's text goes into a reply (spec §8).
fn clipped(text: &str) -> String {
    text.chars().take(64).collect()
}

fn now_ms() -> i64 {
    bus::wire::unix_ms(SystemTime::now())
}
