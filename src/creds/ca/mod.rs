//! The certificate authority of a Hub, and what it signs (HP 1.18, T35).
//!
//! Invariants: while `caCert.pem` exists nothing here makes another CA, except [`replace_ca`], which is asked for by name;
//! a key is written before its certificate; a CA without its key still serves for verification.

mod client;
mod issue;
mod server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::Issuer;
use thiserror::Error;

use crate::atomic::{self, AtomicError, PRIVATE_MODE, PUBLIC_MODE};
use crate::check::{CertFault, Certificate, Validity};
use crate::files::{CA_CERT, CA_KEY};
use crate::keys::{self, KeyError, KeyFault, KeyPair};
use crate::time::UnixTime;

pub use client::{ClientLife, ClientOrigin, load_or_create_client};
pub use issue::{CaIssuer, ClientSubject};
pub use server::{
    Server, ServerFiles, ServerNames, ServerOrigin, load_or_create_server,
    load_or_create_server_at, outbound_address,
};

/// Common name of a CA that the core makes (HP 1.18).
pub const CA_COMMON_NAME: &str = "hiveot";
/// Life of a CA that the core makes (HP 1.18).
pub const CA_LIFE: Duration = Duration::from_secs(3650 * DAY);
/// Life of a server certificate (HP 1.18).
pub const SERVER_LIFE: Duration = Duration::from_secs(365 * DAY);
/// Seconds of a day.
pub(crate) const DAY: u64 = 24 * 60 * 60;
/// How long before its making a certificate begins: clocks of clients may be behind (spec §6).
pub(crate) const EARLY: Duration = Duration::from_secs(5 * 60);

/// The way out when the CA itself is lost. Every client then needs the new `caCert.pem`.
const NEW_CA: &str =
    "for a new CA, whose caCert.pem every client must then be given: hubcli cca --force";

/// What went wrong with the CA or with the server certificate.
#[derive(Debug, Error)]
pub enum CaError {
    /// The CA certificate cannot be used. It is left as it is (T35).
    #[error("{path} {fault}; restore it from a backup; {NEW_CA}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: CertFault,
    },
    /// A certificate, but not one that may sign others.
    #[error("{path} is not the certificate of a CA; restore it from a backup; {NEW_CA}")]
    NotACa {
        /// The file.
        path: PathBuf,
    },
    /// Its time is over.
    #[error("{path} has expired, at {at}; check the clock of this machine; {NEW_CA}")]
    Expired {
        /// The file.
        path: PathBuf,
        /// Its last second.
        at: UnixTime,
    },
    /// `caCert.pem` is there, `caKey.pem` is not: it may be kept elsewhere on purpose (T35).
    #[error("{path} is missing, so nothing can be signed; restore it from a backup; {NEW_CA}")]
    KeyMissing {
        /// The key file.
        path: PathBuf,
    },
    /// The key is of another CA.
    #[error(
        "{path} is not the key of {CA_CERT}, so nothing can be signed; restore the right one; {NEW_CA}"
    )]
    KeyMismatch {
        /// The key file.
        path: PathBuf,
    },
    /// The key's file holds no usable key.
    #[error("{path} {fault}, so nothing can be signed; restore it from a backup; {NEW_CA}")]
    KeyContent {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        fault: KeyFault,
    },
    /// A server certificate is needed and cannot be signed.
    #[error("{path} {why} and cannot be renewed: {cause}")]
    NoServerCert {
        /// The server certificate's file.
        path: PathBuf,
        /// What is wrong with the present one.
        why: &'static str,
        /// Why none can be signed.
        cause: String,
    },
    /// A client certificate is needed and cannot be signed.
    #[error("{path} {why} and cannot be made: {cause}")]
    NoClientCert {
        /// The client certificate's file.
        path: PathBuf,
        /// What is wrong with the present one.
        why: &'static str,
        /// Why none can be signed.
        cause: String,
    },
    /// The certificate library refuses.
    #[error("cannot make a certificate for {subject}")]
    Sign {
        /// Common name wanted.
        subject: String,
        /// Its answer.
        #[source]
        source: rcgen::Error,
    },
    /// The hub's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Reading or writing failed.
    #[error(transparent)]
    File(#[from] AtomicError),
}

/// Where the CA came from, for one line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaOrigin {
    /// `caCert.pem` was there.
    Found,
    /// Neither file was there: key and certificate are new.
    Created,
    /// Only `caKey.pem` was there: a new certificate for the same key. What the key signed before stays valid with it,
    /// as name and key are the same. So ends a first start that was killed between the two files.
    CertRemade,
}

/// Whether this process can sign.
#[derive(Debug)]
pub enum Signing {
    /// With this.
    Possible(Box<CaIssuer>),
    /// For this reason; verifying works all the same.
    Impossible(CaError),
}

/// The certificate authority of a Hub.
#[derive(Debug)]
pub struct Ca {
    /// Content of `caCert.pem`.
    pub cert_pem: String,
    /// The same, read.
    pub cert: Certificate,
    /// Where it came from.
    pub origin: CaOrigin,
    /// Whether certificates can be signed.
    pub signing: Signing,
}

/// Where the CA lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaFiles {
    /// Its certificate, `caCert.pem`.
    pub cert: PathBuf,
    /// Its key, `caKey.pem`.
    pub key: PathBuf,
}

impl CaFiles {
    /// Under their names in the folder `certs`.
    #[must_use]
    pub fn in_folder(certs: &Path) -> CaFiles {
        CaFiles {
            cert: certs.join(CA_CERT),
            key: certs.join(CA_KEY),
        }
    }
}

impl Ca {
    /// What signs, when the CA's key is there.
    #[must_use]
    pub fn issuer(&self) -> Option<&CaIssuer> {
        match &self.signing {
            Signing::Possible(issuer) => Some(issuer),
            Signing::Impossible(_) => None,
        }
    }
}

/// Loads the CA from the folder `certs`; makes one (CN `hiveot`, 3650 days) only when there is no trace of any.
///
/// | `caCert.pem` | `caKey.pem` | result |
/// | --- | --- | --- |
/// | – | – | new key, new certificate |
/// | – | usable | new certificate for that key |
/// | – | unusable | error |
/// | usable | its key | as it is |
/// | usable | missing, unusable, of another CA | verification only, with the reason |
/// | unusable or expired | any | error; nothing is written (T35) |
///
/// A certificate whose time has not come is accepted: then the clock is wrong and will be set.
///
/// # Errors
/// The file, what is wrong and the way out.
pub fn load_or_create_ca(certs: &Path, now: UnixTime) -> Result<Ca, CaError> {
    load_or_create_ca_at(&CaFiles::in_folder(certs), now)
}

/// As [`load_or_create_ca`], for files elsewhere.
///
/// # Errors
/// As there.
pub fn load_or_create_ca_at(files: &CaFiles, now: UnixTime) -> Result<Ca, CaError> {
    match load_ca_at(files, now) {
        Err(CaError::File(AtomicError::Missing { .. })) => {}
        loaded => return loaded,
    }
    let (key, origin) = match keys::load(&files.key) {
        Ok(key) => (key, CaOrigin::CertRemade),
        Err(KeyError::File(AtomicError::Missing { .. })) => {
            (KeyPair::generate()?, CaOrigin::Created)
        }
        Err(KeyError::Content { path, fault }) => return Err(CaError::KeyContent { path, fault }),
        Err(other) => return Err(other.into()),
    };
    if origin == CaOrigin::Created {
        match atomic::write_new(&files.key, key.to_pem().expose().as_bytes(), PRIVATE_MODE) {
            Ok(()) => {}
            // Another core is at it at this moment: its key is the one.
            Err(AtomicError::Exists { .. }) => return load_or_create_ca_at(files, now),
            Err(error) => return Err(error.into()),
        }
    }
    let pem = issue::self_signed(&key, CA_COMMON_NAME, CA_LIFE, now)?;
    match atomic::write_new(&files.cert, pem.as_bytes(), PUBLIC_MODE) {
        Ok(()) | Err(AtomicError::Exists { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    load_ca_at(files, now).map(|ca| Ca { origin, ..ca })
}

/// Loads the CA as [`load_or_create_ca`] does, and writes nothing.
///
/// # Errors
/// `File(Missing)` without `caCert.pem`; else as there.
pub fn load_ca(certs: &Path, now: UnixTime) -> Result<Ca, CaError> {
    load_ca_at(&CaFiles::in_folder(certs), now)
}

/// As [`load_ca`], for files elsewhere.
///
/// # Errors
/// As there.
pub fn load_ca_at(files: &CaFiles, now: UnixTime) -> Result<Ca, CaError> {
    let path = files.cert.clone();
    let cert_pem = atomic::read_text(&path)?;
    let cert = match Certificate::from_pem(&cert_pem) {
        Ok(cert) => cert,
        Err(fault) => return Err(CaError::Content { path, fault }),
    };
    if !cert.is_ca() {
        return Err(CaError::NotACa { path });
    }
    match cert.validity(now) {
        Validity::Valid | Validity::NotYet => {}
        Validity::Expired => {
            return Err(CaError::Expired {
                path,
                at: cert.not_after(),
            });
        }
    }
    let signing = match load_issuer(&files.key, &cert) {
        Ok(issuer) => Signing::Possible(Box::new(issuer)),
        Err(reason) => Signing::Impossible(reason),
    };
    Ok(Ca {
        cert_pem,
        cert,
        origin: CaOrigin::Found,
        signing,
    })
}

/// Makes a new CA in place of whatever is there. Every certificate of the old one is then void.
///
/// Killed at any point it leaves a state from which [`load_or_create_ca`] goes on: never a certificate with a key of another CA.
///
/// # Errors
/// The file and what went wrong.
pub fn replace_ca(
    certs: &Path,
    common_name: &str,
    life: Duration,
    now: UnixTime,
) -> Result<Ca, CaError> {
    let key = KeyPair::generate()?;
    let pem = issue::self_signed(&key, common_name, life, now)?;
    let cert_path = certs.join(CA_CERT);
    match std::fs::remove_file(&cert_path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => {
            return Err(AtomicError::Replace {
                path: cert_path,
                source,
            }
            .into());
        }
    }
    atomic::write(
        &certs.join(CA_KEY),
        key.to_pem().expose().as_bytes(),
        PRIVATE_MODE,
    )?;
    atomic::write(&cert_path, pem.as_bytes(), PUBLIC_MODE)?;
    load_ca(certs, now).map(|ca| Ca {
        origin: CaOrigin::Created,
        ..ca
    })
}

/// A CA of the user's may have another kind of key than ours, so the library reads it, not [`keys`].
fn load_issuer(path: &Path, cert: &Certificate) -> Result<CaIssuer, CaError> {
    let text = match atomic::read_text(path) {
        Ok(text) => text,
        Err(AtomicError::Missing { path }) => return Err(CaError::KeyMissing { path }),
        Err(error) => return Err(error.into()),
    };
    let key = match rcgen::KeyPair::from_pem(&text) {
        Ok(key) => key,
        Err(_) => {
            // Ours says more precisely what is wrong.
            let fault = KeyPair::from_pem(&text).err().unwrap_or(KeyFault::NotP256);
            return Err(CaError::KeyContent {
                path: path.to_owned(),
                fault,
            });
        }
    };
    if !cert.is_of_spki(&rcgen::PublicKeyData::subject_public_key_info(&key)) {
        return Err(CaError::KeyMismatch {
            path: path.to_owned(),
        });
    }
    let issuer =
        Issuer::from_ca_cert_der(&cert.der().into(), key).map_err(|source| CaError::Sign {
            subject: cert.common_name().unwrap_or_default().to_owned(),
            source,
        })?;
    Ok(CaIssuer::new(issuer, cert))
}

#[cfg(test)]
mod tests;
