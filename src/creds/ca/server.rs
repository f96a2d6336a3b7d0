//! The hub's key and its server certificate.
//!
//! Invariants: `hubKey.pem` is made once and never replaced, as every token hangs on it (HP 1.16); `hubCert.pem` is replaced
//! only by one that serves better, and not at all while the present one serves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::issue::{Span, unique_addresses};
use super::{Ca, CaError, SERVER_LIFE, Signing};
use crate::atomic::{self, PUBLIC_MODE};
use crate::check::{Certificate, Validity};
use crate::files::{HUB_CERT, HUB_KEY};
use crate::keys::{self, KeyPair};
use crate::time::UnixTime;

/// Share of its life after which a server certificate is renewed (spec §6).
const RENEW_AT: f64 = 2.0 / 3.0;

/// Under which names clients reach the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerNames {
    hostname: String,
    addresses: Vec<IpAddr>,
}

impl ServerNames {
    /// `localhost` and both loopback addresses, this host name and these addresses. No network or DNS is asked (T26).
    #[must_use]
    pub fn new(hostname: &str, addresses: &[IpAddr]) -> Self {
        ServerNames {
            hostname: hostname.trim().to_owned(),
            addresses: addresses.to_vec(),
        }
    }

    /// Common name of the subject: `nats-{hostname}`, as the Go cores name it, the MQTT one too (HP 1.18).
    pub(super) fn common_name(&self) -> String {
        format!(
            "nats-{}",
            if self.hostname.is_empty() {
                "localhost"
            } else {
                &self.hostname
            }
        )
    }

    /// Host names without repetition. One that a certificate cannot express is left out: nobody can ask for it.
    pub(super) fn dns_names(&self) -> Vec<String> {
        let mut names = vec!["localhost".to_owned()];
        let fits = self
            .hostname
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        if fits && !self.hostname.is_empty() && self.hostname != "localhost" {
            names.push(self.hostname.clone());
        }
        names
    }

    /// Addresses without repetition.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let loopback = [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ];
        unique_addresses(loopback.into_iter().chain(self.addresses.iter().copied()))
    }

    fn are_in(&self, cert: &Certificate) -> bool {
        self.dns_names()
            .iter()
            .all(|name| cert.dns_names().contains(name))
            && self
                .addresses()
                .iter()
                .all(|address| cert.addresses().contains(address))
    }
}

/// The address packets to the world would leave from, which needs a route but sends nothing; none without a route (T26).
#[must_use]
pub fn outbound_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect(SocketAddr::from(([1, 1, 1, 1], 80))).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
}

/// Where the server certificate came from, for one line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerOrigin {
    /// The one on disk serves.
    Found,
    /// Made now; why the one on disk did not do.
    Made {
        /// Completes "hubCert.pem …".
        why: &'static str,
    },
    /// The one on disk should be renewed but still serves, and nothing can be signed (T35).
    KeptInNeed {
        /// Completes "hubCert.pem …".
        why: &'static str,
        /// Why nothing can be signed.
        cause: String,
    },
}

/// Key and certificate of the server.
#[derive(Debug)]
pub struct Server {
    /// `hubKey.pem`: TLS key of the server and signer of tokens.
    pub key: KeyPair,
    /// Content of `hubCert.pem`: the leaf only.
    pub cert_pem: String,
    /// The same, read.
    pub cert: Certificate,
    /// Where it came from.
    pub origin: ServerOrigin,
}

/// Where key and certificate of the server lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// The certificate, `hubCert.pem`.
    pub cert: PathBuf,
    /// The key, `hubKey.pem`.
    pub key: PathBuf,
}

impl ServerFiles {
    /// Under their names in the folder `certs`.
    #[must_use]
    pub fn in_folder(certs: &Path) -> ServerFiles {
        ServerFiles {
            cert: certs.join(HUB_CERT),
            key: certs.join(HUB_KEY),
        }
    }
}

/// How far the certificate on disk serves.
enum Present {
    Serves(String, Certificate),
    ServesFor(String, Certificate, &'static str),
    Useless(&'static str),
}

/// Loads `hubKey.pem` and `hubCert.pem` from the folder `certs`, and makes what is missing or no longer serves.
///
/// The certificate is renewed from 2/3 of its life on unless a new one would end no later, when it is of another key or CA,
/// when a name is missing in it, and when it was made by a clock that was never set and is by now.
/// When nothing can be signed, one that is in date, of our key and CA is kept with whatever names it has.
///
/// # Errors
/// The file, what is wrong and the way out. Without a CA key no `hubKey.pem` is made, as no certificate could follow.
pub fn load_or_create_server(
    certs: &Path,
    ca: &Ca,
    names: &ServerNames,
    now: UnixTime,
) -> Result<Server, CaError> {
    load_or_create_server_at(&ServerFiles::in_folder(certs), ca, names, now)
}

/// As [`load_or_create_server`], for files elsewhere.
///
/// # Errors
/// As there.
pub fn load_or_create_server_at(
    files: &ServerFiles,
    ca: &Ca,
    names: &ServerNames,
    now: UnixTime,
) -> Result<Server, CaError> {
    let path = files.cert.clone();
    let key = match &ca.signing {
        Signing::Possible(_) => keys::load_or_create_key(&files.key)?.0,
        Signing::Impossible(_) => keys::load(&files.key)?,
    };
    let present = present(&path, &key, ca, names, now);
    let (why, kept) = match present {
        Present::Serves(cert_pem, cert) => {
            return Ok(Server {
                key,
                cert_pem,
                cert,
                origin: ServerOrigin::Found,
            });
        }
        Present::ServesFor(cert_pem, cert, why) => (why, Some((cert_pem, cert))),
        Present::Useless(why) => (why, None),
    };
    let issuer = match (&ca.signing, kept) {
        (Signing::Possible(issuer), _) => issuer,
        (Signing::Impossible(reason), Some((cert_pem, cert))) => {
            let origin = ServerOrigin::KeptInNeed {
                why,
                cause: reason.to_string(),
            };
            return Ok(Server {
                key,
                cert_pem,
                cert,
                origin,
            });
        }
        (Signing::Impossible(reason), None) => {
            return Err(CaError::NoServerCert {
                path,
                why,
                cause: reason.to_string(),
            });
        }
    };
    let cert_pem = issuer.server(names, key.public(), SERVER_LIFE, now)?;
    let cert = match Certificate::from_pem(&cert_pem) {
        Ok(cert) => cert,
        Err(fault) => return Err(CaError::Content { path, fault }),
    };
    atomic::write(&path, cert_pem.as_bytes(), PUBLIC_MODE)?;
    Ok(Server {
        key,
        cert_pem,
        cert,
        origin: ServerOrigin::Made { why },
    })
}

fn present(path: &Path, key: &KeyPair, ca: &Ca, names: &ServerNames, now: UnixTime) -> Present {
    let cert_pem = match atomic::read_text(path) {
        Ok(text) => text,
        Err(error) if error.is_missing() => return Present::Useless("is missing"),
        Err(_) => return Present::Useless("cannot be read"),
    };
    let Ok(cert) = Certificate::from_pem(&cert_pem) else {
        return Present::Useless("is damaged");
    };
    if !cert.is_of_key(key.public()) {
        return Present::Useless("is of another key");
    }
    if !cert.is_signed_by(&ca.cert) {
        return Present::Useless("is signed by another CA");
    }
    match judge(&cert, names, Span::of(&ca.cert), now) {
        Verdict::Serves => Present::Serves(cert_pem, cert),
        Verdict::ServesFor(why) => Present::ServesFor(cert_pem, cert, why),
        Verdict::Useless(why) => Present::Useless(why),
    }
}

enum Verdict {
    Serves,
    ServesFor(&'static str),
    Useless(&'static str),
}

/// Whether a certificate of our key serves, which a CA signed that is good for that span; and whether a new one would
/// serve better. Pure.
fn judge(cert: &Certificate, names: &ServerNames, ca: Span, now: UnixTime) -> Verdict {
    match cert.validity(now) {
        Validity::Expired => Verdict::Useless("is expired"),
        // A clock that was never set says nothing: others have the right time.
        Validity::NotYet if now < UnixTime::EARLIEST_PLAUSIBLE => Verdict::Serves,
        // The clock was set back. When the CA's time has not come either, new dates would be no better.
        Validity::NotYet if ca.begin(now) <= now => Verdict::ServesFor("is not valid yet"),
        Validity::NotYet => Verdict::Serves,
        Validity::Valid if !names.are_in(cert) => {
            Verdict::ServesFor("lacks a name of this machine")
        }
        Validity::Valid if now < UnixTime::EARLIEST_PLAUSIBLE => Verdict::Serves,
        Validity::Valid if cert.not_before() < UnixTime::EARLIEST_PLAUSIBLE => {
            Verdict::ServesFor("was made before the clock was set")
        }
        // Nothing outlives its CA: another one would end at the same moment.
        Validity::Valid
            if now >= cert.renew_after(RENEW_AT) && ca.end(SERVER_LIFE, now) > cert.not_after() =>
        {
            Verdict::ServesFor("is near its end")
        }
        Validity::Valid => Verdict::Serves,
    }
}

impl Server {
    /// From when on it is to be looked at again, if neither files nor names nor the clock change before.
    #[must_use]
    pub fn due(&self, ca: &Ca, now: UnixTime) -> UnixTime {
        let end = self.cert.not_after().after(Duration::from_secs(1));
        let at = self.cert.renew_after(RENEW_AT);
        let helps = Span::of(&ca.cert).end(SERVER_LIFE, now.max(at)) > self.cert.not_after();
        match self.cert.validity(now) {
            Validity::NotYet => self.cert.not_before(),
            Validity::Valid if helps && ca.issuer().is_some() => at,
            // Its end is to be told.
            Validity::Valid | Validity::Expired => end,
        }
    }
}
