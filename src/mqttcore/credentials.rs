//! The core's keys and certificates, and those of `launcher` and `admin` (HP 1.16–1.18).
//!
//! Invariants: never a new CA while `caCert.pem` exists (T35); `launcher.token` and `admin.token` are written after
//! everything else and replaced in one step; no network is asked for names (T26).

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bus::wire::{AUTH, ClientProfile, LAUNCHER, unix_ms};
use creds::atomic::AtomicError;
use creds::ca::{self, Ca, CaError, Server, ServerNames, ServerOrigin, Signing};
use creds::files::{CredentialPaths, write_token};
use creds::keys::{self, KeyError};
use creds::{KeyPair, Secret, UnixTime};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use thiserror::Error;

use crate::auth::{AuthError, Validity};
use crate::clients::{SERVICE, USER};
use crate::roles::Role;
use crate::tls::{self, TlsError};

/// The administrator's login (HP 1.20).
pub const ADMIN: &str = "admin";

/// Keys, certificates or tokens that cannot be had.
#[derive(Debug, Error)]
pub enum CredentialError {
    /// CA or server certificate.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file.
    #[error(transparent)]
    File(#[from] AtomicError),
    /// A token.
    #[error(transparent)]
    Token(#[from] AuthError),
}

/// Under which names this machine is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// For the URL.
    host: String,
    certificate: ServerNames,
}

/// Finds the names of this machine: its host name, and the address packets to the world would leave from, which
/// needs a route but sends nothing. Without one the URL says `localhost` (T26).
#[must_use]
pub fn server_names(configured: Option<&str>) -> Names {
    let hostname = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default();
    let outbound = outbound_address();
    let given = configured.and_then(|host| host.parse::<IpAddr>().ok());
    let addresses: Vec<IpAddr> = outbound.into_iter().chain(given).collect();
    let host = match (configured, outbound) {
        (Some(host), _) => host.to_owned(),
        (None, Some(address)) => address.to_string(),
        (None, None) => "localhost".to_owned(),
    };
    // A configured name takes the host name's place in the certificate, or nobody could connect by it.
    let name = configured.filter(|_| given.is_none()).unwrap_or(&hostname);
    Names {
        host: if host.contains(':') {
            format!("[{host}]")
        } else {
            host
        },
        certificate: ServerNames::new(name, &addresses),
    }
}

fn outbound_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect(SocketAddr::from(([1, 1, 1, 1], 80))).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
}

/// What a core needs before it listens.
#[derive(Debug)]
pub struct Credentials {
    certs: PathBuf,
    ca: Ca,
    server: Server,
    hub: Arc<KeyPair>,
    host: String,
    auth: KeyPair,
    launcher: KeyPair,
    admin: KeyPair,
}

impl Credentials {
    /// Loads everything from the folder `certs` and makes what is missing. Blocks.
    ///
    /// # Errors
    /// The file, what is wrong and the way out. A CA or a key that is there is never replaced.
    pub fn prepare(certs: &Path, names: &Names) -> Result<Credentials, CredentialError> {
        let now = UnixTime::from(SystemTime::now());
        let ca = ca::load_or_create_ca(certs, now)?;
        if let Signing::Impossible(reason) = &ca.signing {
            tracing::warn!(reason = crate::chain(reason), "the CA can only verify");
        }
        let server = ca::load_or_create_server(certs, &ca, &names.certificate, now)?;
        match &server.origin {
            ServerOrigin::Found => {}
            ServerOrigin::Made { why } => tracing::info!(why, "hubCert.pem made"),
            ServerOrigin::KeptInNeed { why, cause } => {
                tracing::warn!(why, cause, "hubCert.pem cannot be renewed");
            }
        }
        let hub = keys::load(&certs.join(creds::files::HUB_KEY))?;
        Ok(Credentials {
            certs: certs.to_owned(),
            ca,
            server,
            hub: Arc::new(hub),
            host: names.host.clone(),
            auth: KeyPair::generate()?,
            launcher: keys::load_or_create(certs, LAUNCHER)?.0,
            admin: keys::load_or_create(certs, ADMIN)?.0,
        })
    }

    /// TLS with them.
    ///
    /// # Errors
    /// The library does not take them.
    pub fn tls(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let der = |cert: &creds::check::Certificate| CertificateDer::from(cert.der().to_vec());
        tls::server(
            der(&self.ca.cert),
            vec![der(&self.server.cert)],
            PrivatePkcs8KeyDer::from(self.server.key.pkcs8_der().to_vec()).into(),
        )
    }

    /// The key that signs tokens.
    #[must_use]
    pub fn hub_key(&self) -> Arc<KeyPair> {
        Arc::clone(&self.hub)
    }

    /// The host of the URL.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The accounts every core has: `auth` (its key is new at each start), `launcher`, `admin` (HP 1.20).
    #[must_use]
    pub fn profiles(&self, validity: &Validity) -> [ClientProfile; 3] {
        let profile =
            |id: &str, client_type: &str, name: &str, role: Role, key: &KeyPair| ClientProfile {
                client_id: id.to_owned(),
                client_type: client_type.to_owned(),
                display_name: name.to_owned(),
                pub_key: key.public_text(),
                updated_mse: unix_ms(SystemTime::now()),
                token_validity_days: i64::from(validity.days(client_type)),
                role: role.word().to_owned(),
            };
        [
            profile(AUTH, SERVICE, "Auth Service", Role::Service, &self.auth),
            profile(
                LAUNCHER,
                SERVICE,
                "Launcher Service",
                Role::Service,
                &self.launcher,
            ),
            profile(ADMIN, USER, "Administrator", Role::Admin, &self.admin),
        ]
    }

    /// Writes `{id}.token` of each. Blocks.
    ///
    /// # Errors
    /// The file, and what went wrong; the old one is then still there.
    pub fn write_tokens(&self, tokens: &[(String, Secret)]) -> Result<(), CredentialError> {
        for (id, token) in tokens {
            let paths = CredentialPaths::new(&self.certs, id).map_err(KeyError::from)?;
            write_token(&paths.token, token)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_host_is_the_urls() {
        assert_eq!(server_names(Some("box.local")).host, "box.local");
        assert_eq!(server_names(Some("10.0.0.1")).host, "10.0.0.1");
        assert_eq!(server_names(Some("fe80::1")).host, "[fe80::1]");
        assert!(!server_names(None).host.is_empty());
    }
}
