//! Reaching an endpoint, and deciding whether it may be given a credential.
//!
//! Invariant: a stream is only handed out when its other end is root, the trusted owner, or (over TLS) proves itself by
//! the hub's CA when the first byte is sent; anybody may bind an abstract name while the core is down (crates.md §2).

use super::{ConnectError, Endpoint};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// How long reaching an endpoint may take.
pub(super) const DIAL_WITHIN: Duration = Duration::from_secs(5);

/// A connection of whatever kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// Connects; for TLS this is the TCP connection only.
///
/// # Errors
/// Nobody is there, or it is somebody who is not trusted.
pub(super) async fn dial(
    endpoint: &Endpoint,
    trusted_uid: u32,
) -> Result<Box<dyn Stream>, ConnectError> {
    match tokio::time::timeout(DIAL_WITHIN, dial_now(endpoint, trusted_uid)).await {
        Ok(stream) => stream,
        Err(_elapsed) => Err(unreachable(endpoint, io::ErrorKind::TimedOut.into())),
    }
}

async fn dial_now(endpoint: &Endpoint, trusted_uid: u32) -> Result<Box<dyn Stream>, ConnectError> {
    let unreachable = |source| unreachable(endpoint, source);
    let stream = match endpoint {
        Endpoint::Unix(path) => UnixStream::connect(path).await.map_err(unreachable)?,
        Endpoint::Abstract(name) => abstract_stream(name).map_err(unreachable)?,
        Endpoint::Tls { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port))
                .await
                .map_err(unreachable)?;
            stream.set_nodelay(true).map_err(unreachable)?;
            return Ok(Box::new(stream));
        }
    };
    let peer = stream.peer_cred().map_err(unreachable)?.uid();
    if peer != 0 && peer != trusted_uid {
        return Err(ConnectError::Untrusted {
            endpoint: endpoint.to_string(),
            uid: peer,
        });
    }
    Ok(Box::new(stream))
}

/// Connecting to an abstract name never waits: either somebody listens or nobody does.
fn abstract_stream(name: &str) -> io::Result<UnixStream> {
    let address = SocketAddr::from_abstract_name(name.as_bytes())?;
    let stream = std::os::unix::net::UnixStream::connect_addr(&address)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

fn unreachable(endpoint: &Endpoint, source: io::Error) -> ConnectError {
    ConnectError::Unreachable {
        endpoint: endpoint.to_string(),
        source,
    }
}

/// TLS 1.3 that trusts this CA and nobody else (HP 1.12).
///
/// # Errors
/// The text holds no usable CA certificate.
pub(super) fn tls_config(ca_pem: &[u8]) -> Result<Arc<rustls::ClientConfig>, ConnectError> {
    let bad = |text: String| ConnectError::BadCa { text };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("it holds no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| bad(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
