//! Making certificates.
//!
//! Invariants: every parameter is set, as the library's defaults are not ours (its validity runs from 1975 to 4096); serial
//! numbers are random; nothing outlives the CA or begins before it; what a clock that was never set has to do with is good
//! by that clock and by the right one.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use ring::rand::{SecureRandom, SystemRandom};

use super::{CaError, EARLY, ServerNames};
use crate::check::Certificate;
use crate::keys::{KeyError, KeyPair, PublicKey};
use crate::time::UnixTime;

/// Bytes of a serial number: RFC 5280 §4.1.2.2 allows 20.
const SERIAL_BYTES: usize = 16;

/// Whom a client certificate is for (HP 1.18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientSubject<'a> {
    /// Login name: the common name.
    pub client_id: &'a str,
    /// Role: the organizational unit; `service` for plugins.
    pub unit: &'a str,
}

/// Signs with the CA's key.
pub struct CaIssuer {
    issuer: Issuer<'static, rcgen::KeyPair>,
    span: Span,
}

/// From when to when a CA is good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    not_before: UnixTime,
    not_after: UnixTime,
}

impl Span {
    pub(super) fn of(ca: &Certificate) -> Span {
        Span {
            not_before: ca.not_before(),
            not_after: ca.not_after(),
        }
    }

    /// When a certificate that the CA makes at `now` begins: 5 minutes before, but not before the CA.
    pub(super) fn begin(self, now: UnixTime) -> UnixTime {
        now.before(EARLY).max(self.not_before)
    }

    /// When a certificate of that life ends that is made at `now`; never after the CA.
    ///
    /// A clock that is before the CA's making is wrong and will be set to after it, so the life is counted from there on.
    /// How far after, a clock that was never set does not tell, and others have the right time: until it is set, and all
    /// is made anew, certificates are good as long as the CA.
    pub(super) fn end(self, life: Duration, now: UnixTime) -> UnixTime {
        if now < UnixTime::EARLIEST_PLAUSIBLE {
            return self.not_after;
        }
        now.max(self.not_before).after(life).min(self.not_after)
    }
}

impl CaIssuer {
    pub(super) fn new(issuer: Issuer<'static, rcgen::KeyPair>, cert: &Certificate) -> Self {
        CaIssuer {
            issuer,
            span: Span::of(cert),
        }
    }

    /// A client certificate for `key`, as PEM: CN = id, OU = role, clientAuth, begins 5 minutes before `now` (spec §6).
    ///
    /// # Errors
    /// The certificate library refuses, for instance a name it cannot express.
    pub fn client(
        &self,
        subject: ClientSubject<'_>,
        key: &PublicKey,
        life: Duration,
        now: UnixTime,
    ) -> Result<String, CaError> {
        let mut params = self.params(subject.client_id, life, now)?;
        params.distinguished_name = name(&[
            (DnType::CountryName, "CA"),
            (DnType::StateOrProvinceName, "BC"),
            (DnType::LocalityName, "local"),
            (DnType::OrganizationName, "HiveOT"),
            (DnType::OrganizationalUnitName, subject.unit),
            (DnType::CommonName, subject.client_id),
        ]);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params, subject.client_id, key)
    }

    /// The server certificate for the hub's key, as PEM.
    pub(super) fn server(
        &self,
        names: &ServerNames,
        key: &PublicKey,
        life: Duration,
        now: UnixTime,
    ) -> Result<String, CaError> {
        let common_name = names.common_name();
        let mut params = self.params(&common_name, life, now)?;
        params.distinguished_name = name(&[
            (DnType::CountryName, "CA"),
            (DnType::StateOrProvinceName, "BC"),
            (DnType::LocalityName, "local"),
            (DnType::OrganizationName, "hiveot"),
            (DnType::OrganizationalUnitName, "hiveot"),
            (DnType::CommonName, &common_name),
        ]);
        params.subject_alt_names = alt_names(names).map_err(|source| CaError::Sign {
            subject: common_name.clone(),
            source,
        })?;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::DataEncipherment,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        self.sign(&params, &common_name, key)
    }

    /// Serial and dates.
    fn params(
        &self,
        subject: &str,
        life: Duration,
        now: UnixTime,
    ) -> Result<CertificateParams, CaError> {
        base(subject, self.span.begin(now), self.span.end(life, now))
    }

    fn sign(
        &self,
        params: &CertificateParams,
        subject: &str,
        key: &PublicKey,
    ) -> Result<String, CaError> {
        let refused = |source| CaError::Sign {
            subject: subject.to_owned(),
            source,
        };
        let key = SubjectPublicKeyInfo::from_der(&key.spki_der()).map_err(refused)?;
        let cert = params.signed_by(&key, &self.issuer).map_err(refused)?;
        Ok(cert.pem())
    }
}

impl fmt::Debug for CaIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaIssuer(…)")
    }
}

/// The PEM of a CA's own certificate (HP 1.18).
pub(super) fn self_signed(
    key: &KeyPair,
    common_name: &str,
    life: Duration,
    now: UnixTime,
) -> Result<String, CaError> {
    let refused = |source| CaError::Sign {
        subject: common_name.to_owned(),
        source,
    };
    // A CA of 1970 would be over when the clock is set, and one of today not valid before it is.
    let made = now.max(UnixTime::EARLIEST_PLAUSIBLE);
    let mut params = base(common_name, now.before(EARLY), made.after(life))?;
    params.distinguished_name = name(&[
        (DnType::CountryName, "CA"),
        (DnType::StateOrProvinceName, "BC"),
        (DnType::LocalityName, "HiveOT zone"),
        (DnType::OrganizationName, "HiveOT"),
        (DnType::CommonName, common_name),
    ]);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DataEncipherment,
        KeyUsagePurpose::KeyEncipherment,
    ];
    let signer = rcgen::KeyPair::try_from(key.pkcs8_der()).map_err(refused)?;
    let cert = params.self_signed(&signer).map_err(refused)?;
    Ok(cert.pem())
}

fn base(subject: &str, begin: UnixTime, end: UnixTime) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    // Many that read certificates know no time before the epoch.
    params.not_before = begin.max(UnixTime(0)).to_system().into();
    params.not_after = end.to_system().into();
    params.serial_number = Some(serial()?);
    params.use_authority_key_identifier_extension = true;
    // Replaced by the callers; set here so that the library's own default never gets into a certificate.
    params.distinguished_name = name(&[(DnType::CommonName, subject)]);
    Ok(params)
}

fn name(parts: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for (kind, value) in parts {
        name.push(kind.clone(), *value);
    }
    name
}

fn alt_names(names: &ServerNames) -> Result<Vec<SanType>, rcgen::Error> {
    let mut all = Vec::new();
    for name in names.dns_names() {
        all.push(SanType::DnsName(name.as_str().try_into()?));
    }
    all.extend(names.addresses().into_iter().map(SanType::IpAddress));
    Ok(all)
}

/// Random and positive: the top bit is clear, and it is never zero (RFC 5280 §4.1.2.2).
fn serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0; SERIAL_BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| CaError::Key(KeyError::NoRandom))?;
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}

/// Addresses without repetition, in order.
pub(super) fn unique_addresses(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut unique = Vec::new();
    for address in addresses {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    unique
}
