//! Key pairs: P-256, as every account of an MQTT Hub has one (HP 1.16).
//!
//! Invariants: `{id}.key` is the truth and never replaced here; `{id}.pub` is always derived from it, so the two cannot
//! differ for longer than one start (T15). No error text holds key material.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls_pki_types::pem::{self, PemObject, SectionKind};
use thiserror::Error;

use crate::atomic::{self, AtomicError, PRIVATE_MODE, PUBLIC_MODE};
use crate::files::{BadId, CredentialPaths, is_nats_key};
use crate::secret::Secret;

/// DER of a SubjectPublicKeyInfo of a P-256 key up to the point: SEQUENCE, id-ecPublicKey, prime256v1, BIT STRING
/// (RFC 5480 §2).
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const POINT_BYTES: usize = 65;
const SPKI_BYTES: usize = SPKI_PREFIX.len() + POINT_BYTES;

/// Why a text is not the private key it should be. Never holds any of the text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyFault {
    /// Nothing in it.
    #[error("is empty, as after a crash or on a full disk")]
    Empty,
    /// The text of a NATS core (T44).
    #[error("holds a NATS seed; a NATS core and an MQTT core cannot share a certs folder")]
    NatsSeed,
    /// PEM that stops in the middle, or with broken base64.
    #[error("is half-written or damaged PEM")]
    Damaged,
    /// No `PRIVATE KEY` in it.
    #[error("holds no PEM block PRIVATE KEY")]
    NoKey,
    /// `EC PRIVATE KEY` or `RSA PRIVATE KEY`.
    #[error(
        "holds a key in the older {label} form; convert it with: openssl pkcs8 -topk8 -nocrypt"
    )]
    OldForm {
        /// The label of the block.
        label: &'static str,
    },
    /// A key of another kind, or numbers that do not fit together.
    #[error("holds no usable P-256 key")]
    NotP256,
}

/// What went wrong with a key pair.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file's content. Nothing was changed.
    #[error(
        "{path} {fault}; put the right key there, or move the file away to have a new one made"
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: KeyFault,
    },
    /// A text that is no key, without a file.
    #[error("the key {fault}")]
    Text {
        /// What is wrong with it.
        fault: KeyFault,
    },
    /// The id cannot be part of a file name.
    #[error(transparent)]
    Id(#[from] BadId),
    /// Reading or writing failed.
    #[error(transparent)]
    File(#[from] AtomicError),
    /// The system gives no random numbers.
    #[error("cannot make a key: no random numbers")]
    NoRandom,
}

/// Where a key pair came from, for one line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrigin {
    /// Both files were there and agreed.
    Found,
    /// The key was there; `.pub` was missing or of another key and has been written anew (T15).
    PublicRewritten,
    /// No key was there; both files are new.
    Created,
}

/// A P-256 key pair. `Debug` shows the public half only.
pub struct KeyPair {
    /// PKCS#8, as in the file.
    der: Vec<u8>,
    public: PublicKey,
}

impl KeyPair {
    /// A new random pair.
    ///
    /// # Errors
    /// `NoRandom`.
    pub fn generate() -> Result<Self, KeyError> {
        let der =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .map_err(|_| KeyError::NoRandom)?;
        Self::from_der(der.as_ref().to_vec()).map_err(|fault| KeyError::Text { fault })
    }

    /// Reads the first block of a PEM text, which must be `PRIVATE KEY` (PKCS#8) and P-256.
    ///
    /// # Errors
    /// What is wrong with the text, without any of it.
    pub fn from_pem(text: &str) -> Result<Self, KeyFault> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(KeyFault::Empty);
        }
        if is_nats_key(trimmed, "S") {
            return Err(KeyFault::NatsSeed);
        }
        match <(SectionKind, Vec<u8>)>::from_pem_slice(trimmed.as_bytes()) {
            Ok((SectionKind::PrivateKey, der)) => Self::from_der(der),
            Ok((SectionKind::EcPrivateKey, _)) => Err(KeyFault::OldForm {
                label: "EC PRIVATE KEY",
            }),
            Ok((SectionKind::RsaPrivateKey, _)) => Err(KeyFault::OldForm {
                label: "RSA PRIVATE KEY",
            }),
            Ok(_) | Err(pem::Error::NoItemsFound) => Err(KeyFault::NoKey),
            Err(_) => Err(KeyFault::Damaged),
        }
    }

    fn from_der(der: Vec<u8>) -> Result<Self, KeyFault> {
        let ring =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &SystemRandom::new())
                .map_err(|_| KeyFault::NotP256)?;
        let point = ring
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| KeyFault::NotP256)?;
        Ok(KeyPair {
            der,
            public: PublicKey { point },
        })
    }

    /// The text of `{id}.key`: PKCS#8 PEM with a newline at its end.
    #[must_use]
    pub fn to_pem(&self) -> Secret {
        let mut text = String::from("-----BEGIN PRIVATE KEY-----\n");
        let body = STANDARD.encode(&self.der);
        for (at, letter) in body.chars().enumerate() {
            if at > 0 && at % 64 == 0 {
                text.push('\n');
            }
            text.push(letter);
        }
        text.push_str("\n-----END PRIVATE KEY-----\n");
        Secret::new(text)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The text of `{id}.pub`; see [`PublicKey::text`].
    #[must_use]
    pub fn public_text(&self) -> String {
        self.public.text()
    }

    /// PKCS#8, for a TLS server or client that needs its key.
    #[must_use]
    pub fn pkcs8_der(&self) -> &[u8] {
        &self.der
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair(public {}, private …)", self.public)
    }
}

/// A text that is not the public key it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "not a public key: expected the base64 of a P-256 SubjectPublicKeyInfo, 124 characters on one line"
)]
pub struct PublicKeyError;

/// The public half of a P-256 key: identity of a client, and of the hub as issuer of tokens (HP 1.17).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey {
    /// Uncompressed: 4, x, y.
    point: [u8; POINT_BYTES],
}

impl PublicKey {
    /// Reads what [`PublicKey::text`] writes; white space around it does not matter.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_text(text: &str) -> Result<Self, PublicKeyError> {
        let der = STANDARD.decode(text.trim()).map_err(|_| PublicKeyError)?;
        Self::from_spki_der(&der)
    }

    /// Reads a DER SubjectPublicKeyInfo, as certificates hold one.
    ///
    /// # Errors
    /// It is something else, or of another curve.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, PublicKeyError> {
        let point = der
            .strip_prefix(SPKI_PREFIX.as_slice())
            .ok_or(PublicKeyError)?;
        let point: [u8; POINT_BYTES] = point.try_into().map_err(|_| PublicKeyError)?;
        if point.first() != Some(&4) {
            return Err(PublicKeyError);
        }
        Ok(PublicKey { point })
    }

    /// The text of `{id}.pub`, of `pubKey` in requests and of `iss` and `sub` in tokens: padded standard base64 of
    /// the DER SubjectPublicKeyInfo, 124 characters, no newline (HP 1.16).
    #[must_use]
    pub fn text(&self) -> String {
        STANDARD.encode(self.spki_der())
    }

    /// DER SubjectPublicKeyInfo, 91 bytes.
    #[must_use]
    pub fn spki_der(&self) -> [u8; SPKI_BYTES] {
        let mut der = [0; SPKI_BYTES];
        let (prefix, point) = der.split_at_mut(SPKI_PREFIX.len());
        prefix.copy_from_slice(&SPKI_PREFIX);
        point.copy_from_slice(&self.point);
        der
    }

    /// The uncompressed point: what the signature library calls the key.
    pub(crate) fn point(&self) -> &[u8] {
        &self.point
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// Loads the pair of `id` from the folder `certs`, or makes one when there is no `{id}.key`.
///
/// `.key` gets 0400 and is never replaced, not even when it is unusable; `.pub` gets 0444 and is rewritten when it is
/// missing or different (T15). With both right nothing is written. Two that create at once end with the same pair.
///
/// # Errors
/// The file and what is wrong with it; a key that cannot be used is an error, not a reason for a new one.
pub fn load_or_create(certs: &Path, id: &str) -> Result<(KeyPair, KeyOrigin), KeyError> {
    load_or_create_at(&CredentialPaths::new(certs, id)?)
}

/// As [`load_or_create`], for files elsewhere.
///
/// # Errors
/// As there.
pub fn load_or_create_at(paths: &CredentialPaths) -> Result<(KeyPair, KeyOrigin), KeyError> {
    let (pair, created) = load_or_create_key(&paths.key)?;
    let rewritten =
        atomic::write_if_different(&paths.public, pair.public_text().as_bytes(), PUBLIC_MODE)?;
    let origin = match (created, rewritten) {
        (KeyOrigin::Found, true) => KeyOrigin::PublicRewritten,
        (origin, _) => origin,
    };
    Ok((pair, origin))
}

/// Loads the key file at `path`, or makes one (0400) when there is none. No `.pub` is kept: the hub's key has none.
///
/// # Errors
/// As [`load_or_create`].
pub fn load_or_create_key(path: &Path) -> Result<(KeyPair, KeyOrigin), KeyError> {
    match load(path) {
        Err(KeyError::File(AtomicError::Missing { .. })) => {}
        loaded => return loaded.map(|pair| (pair, KeyOrigin::Found)),
    }
    let pair = KeyPair::generate()?;
    match atomic::write_new(path, pair.to_pem().expose().as_bytes(), PRIVATE_MODE) {
        Ok(()) => Ok((pair, KeyOrigin::Created)),
        Err(AtomicError::Exists { .. }) => load(path).map(|pair| (pair, KeyOrigin::Found)),
        Err(error) => Err(error.into()),
    }
}

/// Loads the key file at `path`.
///
/// # Errors
/// `File(Missing)` when there is none; else what is wrong with it.
pub fn load(path: &Path) -> Result<KeyPair, KeyError> {
    let text = atomic::read_text(path)?;
    KeyPair::from_pem(&text).map_err(|fault| KeyError::Content {
        path: path.to_owned(),
        fault,
    })
}

#[cfg(test)]
mod tests;
