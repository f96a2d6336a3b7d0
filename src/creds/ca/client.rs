//! Client certificates on disk, for logins at cores that know no tokens (spec §2, §6).
//!
//! Invariant: a certificate that serves is left as it is; one that does not is replaced whole or stays.

use std::path::Path;
use std::time::Duration;

use super::{Ca, CaError, ClientSubject, Signing};
use crate::atomic::{self, PUBLIC_MODE};
use crate::check::{Certificate, Validity};
use crate::files::CredentialPaths;
use crate::keys::{self, KeyError};
use crate::time::UnixTime;

/// How long client certificates last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClientLife {
    /// How long, from their making.
    pub life: Duration,
    /// From this share of it on they are renewed; 0 to 1.
    pub renew_at: f64,
}

/// Where a client certificate came from, for one line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientOrigin {
    /// The one on disk serves.
    Found,
    /// It was made now.
    Made,
    /// The one on disk serves and is due, and nothing can be signed.
    KeptInNeed,
}

/// Loads `{id}.key` and `{id}Cert.pem` from the folder `certs`, and makes what is missing or no longer serves. Blocks.
///
/// Gives the moment from which it is to be looked at again, later than `now`.
///
/// # Errors
/// The file, what is wrong and the way out.
pub fn load_or_create_client(
    certs: &Path,
    ca: &Ca,
    subject: ClientSubject<'_>,
    plan: ClientLife,
    now: UnixTime,
) -> Result<(ClientOrigin, UnixTime), CaError> {
    let paths = CredentialPaths::new(certs, subject.client_id).map_err(KeyError::from)?;
    let (pair, _) = keys::load_or_create(certs, subject.client_id)?;
    let found = atomic::read_text(&paths.cert).ok();
    let found = found.and_then(|text| Certificate::from_pem(&text).ok());
    let found = found.filter(|cert| {
        cert.common_name() == Some(subject.client_id)
            && cert.unit() == Some(subject.unit)
            && cert.is_of_key(pair.public())
            && cert.is_signed_by(&ca.cert)
    });
    if let Some(cert) = &found {
        let until = cert.renew_after(plan.renew_at);
        match (cert.validity(now), &ca.signing) {
            (Validity::Valid, _) if now < until => return Ok((ClientOrigin::Found, until)),
            // The clock was set back, or is not set yet: new dates would be no better.
            (Validity::NotYet, _) => return Ok((ClientOrigin::Found, until)),
            (Validity::Valid, Signing::Impossible(_)) => {
                return Ok((ClientOrigin::KeptInNeed, cert.not_after()));
            }
            (Validity::Valid | Validity::Expired, _) => {}
        }
    }
    let issuer = match &ca.signing {
        Signing::Possible(issuer) => issuer,
        Signing::Impossible(reason) => {
            return Err(CaError::NoClientCert {
                path: paths.cert,
                why: match found {
                    Some(_) => "is expired",
                    None => "is missing, or of another key or CA",
                },
                cause: reason.to_string(),
            });
        }
    };
    let pem = issuer.client(subject, pair.public(), plan.life, now)?;
    atomic::write(&paths.cert, pem.as_bytes(), PUBLIC_MODE)?;
    let made = match Certificate::from_pem(&pem) {
        Ok(cert) => cert,
        Err(fault) => {
            let path = paths.cert;
            return Err(CaError::Content { path, fault });
        }
    };
    // None outlives its CA: near that one's end a new one is due when it is made, and another would be no better at once.
    let half = made.not_after().since(now) / 2;
    let until = made.renew_after(plan.renew_at).max(now.after(half));
    Ok((ClientOrigin::Made, until))
}
