//! What a certificate says, and whether it serves.
//!
//! Invariant: a certificate is never trusted because a file has the right name; what this crate needs of it is read out of
//! it and checked, since neither the file nor the library that signs does (crate `rcgen`).

use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject};
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::keys::PublicKey;
use crate::time::{UnixTime, share_of_life};

/// Why a text is not a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CertFault {
    /// No `CERTIFICATE` in it.
    #[error("holds no PEM block CERTIFICATE")]
    NoCertificate,
    /// PEM that stops in the middle, or DER that cannot be read.
    #[error("is half-written or damaged")]
    Damaged,
}

/// Where a moment lies in the life of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Before its beginning: most often a clock that was not set yet.
    NotYet,
    /// Within.
    Valid,
    /// After its end.
    Expired,
}

/// A certificate with what the Hub needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    spki: Vec<u8>,
    version: u32,
    subject: String,
    issuer: String,
    is_ca: bool,
    not_before: UnixTime,
    not_after: UnixTime,
    common_name: Option<String>,
    unit: Option<String>,
    dns_names: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Certificate {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn from_pem(text: &str) -> Result<Self, CertFault> {
        match CertificateDer::from_pem_slice(text.as_bytes()) {
            Ok(der) => Self::from_der(&der),
            Err(pem::Error::NoItemsFound) => Err(CertFault::NoCertificate),
            Err(_) => Err(CertFault::Damaged),
        }
    }

    /// Reads a DER certificate.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn from_der(der: &[u8]) -> Result<Self, CertFault> {
        let parsed = parse(der)?;
        let mut dns_names = Vec::new();
        let mut addresses = Vec::new();
        if let Ok(Some(names)) = parsed.subject_alternative_name() {
            for name in &names.value.general_names {
                if let GeneralName::DNSName(name) = name {
                    dns_names.push((*name).to_owned());
                } else if let GeneralName::IPAddress(bytes) = name {
                    addresses.extend(address(bytes));
                }
            }
        }
        Ok(Certificate {
            der: der.to_vec(),
            spki: parsed.public_key().raw.to_vec(),
            version: parsed.version().0.saturating_add(1),
            subject: in_words(parsed.subject()),
            issuer: in_words(parsed.issuer()),
            is_ca: may_sign_certificates(&parsed),
            not_before: UnixTime(parsed.validity().not_before.timestamp()),
            not_after: UnixTime(parsed.validity().not_after.timestamp()),
            common_name: first_text(parsed.subject().iter_common_name()),
            unit: first_text(parsed.subject().iter_organizational_unit()),
            dns_names,
            addresses,
        })
    }

    /// DER of the whole certificate.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its version, 3 in all that are made today.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Whose it is, as the original shows it: `CN=hiveot,ST=BC,L=HiveOT zone,O=HiveOT,C=CA`.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Who signed it, in the same form. Whether that is true, [`Certificate::is_signed_by`] tells.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whether it may sign others: `CA:true`, and `certSign` among its key usages if it lists any.
    #[must_use]
    pub fn is_ca(&self) -> bool {
        self.is_ca
    }

    /// Its first second.
    #[must_use]
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// Its last second.
    #[must_use]
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// Common name of the subject, where there is one: the login name in a client certificate.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// First organizational unit of the subject: the role in a client certificate (HP 1.18).
    #[must_use]
    pub fn unit(&self) -> Option<&str> {
        self.unit.as_deref()
    }

    /// Host names it is good for, in its order.
    #[must_use]
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// Addresses it is good for, in its order.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Where `now` lies in its life.
    #[must_use]
    pub fn validity(&self, now: UnixTime) -> Validity {
        if now < self.not_before {
            Validity::NotYet
        } else if now > self.not_after {
            Validity::Expired
        } else {
            Validity::Valid
        }
    }

    /// When the share `renew_at` (0 to 1) of its life is over.
    #[must_use]
    pub fn renew_after(&self, renew_at: f64) -> UnixTime {
        share_of_life(self.not_before, self.not_after, renew_at)
    }

    /// Whether it was made for this key.
    #[must_use]
    pub fn is_of_key(&self, key: &PublicKey) -> bool {
        self.spki == key.spki_der()
    }

    /// Whether it was made for the key with this DER SubjectPublicKeyInfo, of whatever kind.
    #[must_use]
    pub fn is_of_spki(&self, spki: &[u8]) -> bool {
        self.spki == spki
    }

    /// Its key, when that is P-256. Of `hubCert.pem` it is the issuer of the hub's tokens: one key serves for both
    /// (HP 1.16), and this file may be read by all.
    #[must_use]
    pub fn public_key(&self) -> Option<PublicKey> {
        PublicKey::from_spki_der(&self.spki).ok()
    }

    /// Whether `ca` signed it: names its subject as issuer, and the signature holds. Dates are not looked at.
    #[must_use]
    pub fn is_signed_by(&self, ca: &Certificate) -> bool {
        let (Ok(own), Ok(other)) = (parse(&self.der), parse(&ca.der)) else {
            return false;
        };
        own.issuer().as_raw() == other.subject().as_raw()
            && own.verify_signature(Some(other.public_key())).is_ok()
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertFault> {
    match X509Certificate::from_der(der) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) | Err(_) => Err(CertFault::Damaged),
    }
}

fn may_sign_certificates(parsed: &X509Certificate<'_>) -> bool {
    let usage = match parsed.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        Ok(None) => true,
        Err(_) => false,
    };
    usage && parsed.is_ca()
}

/// The parts of a name that the hub's certificates have, in Go's order.
fn in_words(name: &X509Name<'_>) -> String {
    let parts: [(&str, Vec<&AttributeTypeAndValue<'_>>); 6] = [
        ("CN", name.iter_common_name().collect()),
        ("ST", name.iter_state_or_province().collect()),
        ("L", name.iter_locality().collect()),
        ("OU", name.iter_organizational_unit().collect()),
        ("O", name.iter_organization().collect()),
        ("C", name.iter_country().collect()),
    ];
    let mut words = Vec::new();
    for (kind, values) in parts {
        let texts = values.iter().filter_map(|value| value.as_str().ok());
        words.extend(texts.map(|text| format!("{kind}={}", without_separators(text))));
    }
    words.join(",")
}

/// A value that cannot be taken for the next part (RFC 2253).
fn without_separators(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn first_text<'a>(
    mut values: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>,
) -> Option<String> {
    values
        .next()
        .and_then(|value| value.as_str().ok())
        .map(str::to_owned)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_cannot_be_taken_for_the_next_part() {
        assert_eq!(without_separators(r#"a,O=b+"\"#), r#"a\,O=b\+\"\\"#);
    }

    #[test]
    fn what_is_no_certificate_is_told() {
        assert_eq!(
            Certificate::from_pem("").unwrap_err(),
            CertFault::NoCertificate
        );
        assert_eq!(
            Certificate::from_pem("-----BEGIN CERTIFICATE-----\nMIIB").unwrap_err(),
            CertFault::Damaged
        );
        assert_eq!(
            Certificate::from_pem("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
                .unwrap_err(),
            CertFault::Damaged
        );
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Certificate::from_der(&bytes).is_err());
        }
    }
}
