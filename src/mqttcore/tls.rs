//! TLS: 1.3 only, a client certificate of the hub's CA is welcome and not needed (HP 1.12).
//!
//! Invariants: only the first common name of a verified leaf certificate is an identity; each connection proves its own
//! anew, and no session is resumed.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use creds::check::Certificate;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Credentials the TLS library does not take.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The CA certificate.
    #[error("the CA certificate is no use for TLS: {0}")]
    Ca(String),
    /// The server's certificate or key.
    #[error("the server certificate is no use for TLS: {0}")]
    Server(#[from] rustls::Error),
}

/// A certificate of which the core can make no use, and where it lies.
#[derive(Debug, Error)]
#[error("{path} cannot be used; put back a copy of it, or move it away to have another one made")]
pub struct Unusable {
    /// Its file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: TlsError,
}

/// What new connections are shown; may be replaced at any time, and connections that are open stay as they are.
pub struct Front(RwLock<Arc<ServerConfig>>);

impl Front {
    /// Shows this.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Front(RwLock::new(config))
    }

    /// Shows this from now on.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        // Replaced in one step, so whole even when a holder panicked.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// For one connection.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        let config = self.0.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&config))
    }
}

/// The server's side; certificates of clients are to be signed by one of `cas`.
///
/// # Errors
/// What the library does not like about the certificates.
pub fn server<'a>(
    cas: impl IntoIterator<Item = &'a Certificate>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for ca in cas {
        let ca = CertificateDer::from(ca.der().to_vec());
        roots
            .add(ca)
            .map_err(|error| TlsError::Ca(error.to_string()))?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| TlsError::Ca(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    // A session that is resumed proves nothing anew: a certificate would serve beyond its end.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The name in the client's certificate, which the handshake has verified.
#[must_use]
pub fn client_name(stream: &TlsStream<TcpStream>) -> Option<String> {
    let (_, session) = stream.get_ref();
    let leaf = session.peer_certificates()?.first()?;
    let certificate = Certificate::from_der(leaf).ok()?;
    certificate.common_name().map(str::to_owned)
}
