//! Keys, tokens, certificates and the atomic files that hold them.
//!
//! Invariants:
//! - A file is either the old one or the new one, never half of one and never none ([`atomic`], T15, T16).
//! - `{id}.key` is the truth, `{id}.pub` follows it ([`keys`], T15).
//! - A CA is never replaced by a new one as a side effect ([`ca`], T35).
//! - Private keys and tokens have redacting types and occur in no error text (spec §6).
//! - Nothing here reads the clock: whoever decides by time is given [`UnixTime`].
//!
//! Everything blocks (files, fsync, signatures): asynchronous callers use a blocking thread.

pub mod atomic;
pub mod ca;
pub mod check;
pub mod clock;
pub mod ends;
pub mod files;
pub mod keys;
pub mod secret;
pub mod time;
pub mod token;

pub use files::CredentialPaths;
pub use keys::{KeyOrigin, KeyPair, PublicKey};
pub use secret::Secret;
pub use time::UnixTime;
pub use token::{Claims, TokenState};

#[cfg(test)]
mod testing;
