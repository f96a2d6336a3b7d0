//! From a place to a stream that may be trusted, and the words for what went wrong on the way to a login.
//!
//! Invariant: nothing is written to a unix socket before its peer was found to be root's or the owner's.

use super::{
    ClientCertificate, ConnectError, Credentials, Endpoint, MAX_PACKET, Options, Proof, Refusal,
};
use rumqttc::{
    Broker, ConnectReturnCode, ConnectionError, MqttOptions, StateError, TlsConfiguration,
    TlsError, Transport,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// How many packets go out in one write, when so many wait.
const BATCH: usize = 16;

/// A stream to a place, checked as far as it can be before TLS.
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Dials `endpoint`.
pub(super) async fn dial(endpoint: &Endpoint, owner: u32) -> Result<Stream, ConnectError> {
    let fail = |error| unreachable(endpoint, error);
    match endpoint {
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(fail)?;
            check_peer(endpoint, &stream, owner)?;
            Ok(Stream::Unix(stream))
        }
        Endpoint::Abstract(name) => {
            // The leading NUL is how the runtime names the abstract name space.
            let stream = UnixStream::connect(format!("\0{name}"))
                .await
                .map_err(fail)?;
            check_peer(endpoint, &stream, owner)?;
            Ok(Stream::Unix(stream))
        }
        Endpoint::Tls { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port))
                .await
                .map_err(fail)?;
            stream.set_nodelay(true).map_err(fail)?;
            Ok(Stream::Tcp(stream))
        }
    }
}

fn unreachable(endpoint: &Endpoint, error: io::Error) -> ConnectError {
    let endpoint = endpoint.clone();
    if matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
    ) {
        ConnectError::NobodyListens { endpoint }
    } else {
        ConnectError::Unreachable {
            endpoint,
            text: error.to_string(),
        }
    }
}

fn check_peer(endpoint: &Endpoint, stream: &UnixStream, owner: u32) -> Result<(), ConnectError> {
    let peer = stream
        .peer_cred()
        .map_err(|error| unreachable(endpoint, error))?;
    let uid = peer.uid();
    if !is_trusted(uid, owner) {
        return Err(ConnectError::UntrustedPeer {
            endpoint: endpoint.clone(),
            uid,
            owner,
        });
    }
    Ok(())
}

/// Anybody may bind an abstract name while the core is down (crates.md §2).
fn is_trusted(peer: u32, owner: u32) -> bool {
    peer == 0 || peer == owner
}

/// How the bytes travel: plain over a unix socket, else by TLS.
///
/// # Errors
/// There is no certificate of the hub's CA, or it is not valid, or that of the login; or a certificate is the proof where
/// there is no TLS.
pub(super) fn transport(
    endpoint: &Endpoint,
    credentials: &Credentials,
    proof: &Proof,
) -> Result<Transport, ConnectError> {
    match (endpoint, proof) {
        (Endpoint::Unix(_) | Endpoint::Abstract(_), Proof::Token(_)) => Ok(Transport::tcp()),
        (Endpoint::Unix(_) | Endpoint::Abstract(_), Proof::Certificate(_)) => {
            Err(ConnectError::NeedsToken {
                endpoint: endpoint.clone(),
            })
        }
        (Endpoint::Tls { .. }, _) => {
            let config = TlsConfiguration::Rustls(tls_config(endpoint, credentials, proof)?);
            Ok(Transport::tls_with_config(config))
        }
    }
}

/// The library's options for one connection over `stream`.
pub(super) fn mqtt_options(
    options: &Options,
    proof: &Proof,
    endpoint: &Endpoint,
    (stream, transport): (Stream, Transport),
    mqtt_client_id: &str,
) -> MqttOptions {
    // Only the host counts, as the name to be proved; the stream is there already.
    let host = match endpoint {
        Endpoint::Unix(_) | Endpoint::Abstract(_) => "localhost",
        Endpoint::Tls { host, .. } => host,
    };
    let mut mqtt = MqttOptions::new(mqtt_client_id, Broker::tcp(host, super::endpoint::TLS_PORT));
    mqtt.set_transport(transport);
    match proof {
        Proof::Token(token) => mqtt.set_credentials(options.login.as_str(), token.bytes()),
        // The core compares it with the certificate's common name, or takes that one instead.
        Proof::Certificate(_) => mqtt.set_username(options.login.as_str()),
    };
    mqtt.set_clean_start(true);
    mqtt.set_keep_alive(u16::try_from(options.keep_alive.as_secs()).unwrap_or(u16::MAX));
    mqtt.set_max_packet_size(Some(MAX_PACKET));
    // As the original's clients. Without it the broker of the original's core acknowledges a publication that has user
    // properties with reason 1, which is none of a PUBACK's, and the library ends the connection for it: each reply to
    // the original's hubcli would cost the launcher the bus.
    mqtt.set_request_problem_info(Some(0));
    // Without a bound the library scans a table of 65,535 entries when idle.
    mqtt.set_outgoing_inflight_upper_limit(100);
    // What waits goes out together: a start tells two events and an end two more.
    mqtt.set_max_request_batch(BATCH);
    // The whole attempt has a bound of its own.
    mqtt.set_connect_timeout(options.attempt_timeout);
    let once = Mutex::new(Some(stream));
    mqtt.set_socket_connector(move |_, _| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    mqtt
}

/// TLS 1.3 towards servers of the hub's CA and no other.
fn tls_config(
    endpoint: &Endpoint,
    credentials: &Credentials,
    proof: &Proof,
) -> Result<Arc<ClientConfig>, ConnectError> {
    let file = &credentials.ca_file;
    let Some(pem) = &credentials.ca_pem else {
        return Err(ConnectError::NoCa {
            endpoint: endpoint.clone(),
            file: file.clone(),
        });
    };
    let bad = |text: String| ConnectError::BadCa {
        file: file.clone(),
        text,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("no certificate in it".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| bad(error.to_string()))?
        .with_root_certificates(roots);
    let config = match proof {
        Proof::Token(_) => config.with_no_client_auth(),
        Proof::Certificate(own) => {
            let unfit = |text| ConnectError::BadCertificate {
                file: own.file.clone(),
                text,
            };
            let (chain, key) = read_certificate(own).map_err(unfit)?;
            config
                .with_client_auth_cert(chain, key)
                .map_err(|error| unfit(error.to_string()))?
        }
    };
    Ok(Arc::new(config))
}

fn read_certificate(
    own: &ClientCertificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(own.cert_pem())
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if chain.is_empty() {
        return Err("no certificate in it".to_owned());
    }
    // Its text would show nothing of the key, but what is wrong with it is better told by those who make it.
    let key = PrivateKeyDer::from_pem_slice(own.key_pem())
        .map_err(|_| "its key cannot be read".to_owned())?;
    Ok((chain, key))
}

/// What an error of the library before the login was through means.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "errors of a library; those not told apart show in its own words"
)]
pub(super) fn classified(
    endpoint: &Endpoint,
    options: &Options,
    (credentials, proof): (&Credentials, &Proof),
    error: ConnectionError,
) -> ConnectError {
    let closed = |text: String| ConnectError::Closed {
        endpoint: endpoint.clone(),
        text,
    };
    // With TLS 1.3 the server judges our certificate after the handshake is over for us: its alert comes as an error of
    // reading.
    if let Some(alert) = alert_in(&error) {
        return told_by_server(endpoint, proof, alert);
    }
    match error {
        ConnectionError::ConnectionRefused(code) => ConnectError::Login {
            endpoint: endpoint.clone(),
            login: options.login.clone(),
            refusal: refusal(code),
        },
        ConnectionError::Tls(error) => tls_error(endpoint, credentials, error),
        ConnectionError::Timeout(_) => ConnectError::Timeout {
            endpoint: endpoint.clone(),
            after: options.attempt_timeout,
        },
        ConnectionError::Io(error) => closed(error.to_string()),
        ConnectionError::MqttState(error) => closed(in_words(&error)),
        other => closed(other.to_string()),
    }
}

/// The alert by which the server ended the connection, wherever the library has put it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "errors of a library, of which one is special"
)]
fn alert_in(error: &ConnectionError) -> Option<AlertDescription> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = match error {
        // It does not tell its source.
        ConnectionError::MqttState(StateError::Deserialization(error)) => Some(error),
        error => Some(error),
    };
    while let Some(error) = cause {
        // The source of an I/O error is that of what it holds, which itself is left out.
        let held = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .and_then(|held| held.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(alert)) = held.or(error.downcast_ref()) {
            return Some(*alert);
        }
        cause = error.source();
    }
    None
}

/// What an alert of the server means.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "alerts of a library; those not told apart show in its own words"
)]
fn told_by_server(endpoint: &Endpoint, proof: &Proof, alert: AlertDescription) -> ConnectError {
    let endpoint = endpoint.clone();
    let own = match proof {
        Proof::Token(_) => None,
        Proof::Certificate(own) => Some(own.file.clone()),
    };
    let why = match alert {
        AlertDescription::CertificateRequired => {
            return ConnectError::CertificateWanted { endpoint };
        }
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            Some("it is of a CA that is not known there")
        }
        AlertDescription::CertificateExpired => Some("it has expired, or is not valid yet"),
        AlertDescription::CertificateRevoked => Some("it is revoked"),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => Some("it is not valid there"),
        _ => None,
    };
    match (own, why) {
        (Some(file), Some(why)) => ConnectError::CertificateRefused {
            endpoint,
            file,
            why,
        },
        (Some(_) | None, _) => ConnectError::Tls {
            endpoint,
            text: format!("it answered with the alert {alert:?}"),
        },
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "errors of a library; those not told apart show in its own words"
)]
fn tls_error(endpoint: &Endpoint, credentials: &Credentials, error: TlsError) -> ConnectError {
    let endpoint = endpoint.clone();
    let error = match error {
        TlsError::TLS(error) => error,
        TlsError::Io(error) => match error.downcast::<rustls::Error>() {
            Ok(error) => error,
            Err(error) => {
                let text = error.to_string();
                return ConnectError::Closed { endpoint, text };
            }
        },
        other => {
            let text = other.to_string();
            return ConnectError::Tls { endpoint, text };
        }
    };
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => ConnectError::ForeignCa {
            endpoint,
            file: credentials.ca_file.clone(),
        },
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => ConnectError::WrongName { endpoint },
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => ConnectError::NotInTime { endpoint },
        other => ConnectError::Tls {
            endpoint,
            text: other.to_string(),
        },
    }
}

fn refusal(code: ConnectReturnCode) -> Refusal {
    match code {
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
            Refusal::BadCredentials
        }
        ConnectReturnCode::ClientIdentifierNotValid | ConnectReturnCode::BadClientId => {
            Refusal::ClientId
        }
        ConnectReturnCode::ServerUnavailable
        | ConnectReturnCode::ServerBusy
        | ConnectReturnCode::ServiceUnavailable
        | ConnectReturnCode::QuotaExceeded
        | ConnectReturnCode::ConnectionRateExceeded => Refusal::Busy,
        ConnectReturnCode::Success
        | ConnectReturnCode::RefusedProtocolVersion
        | ConnectReturnCode::UnspecifiedError
        | ConnectReturnCode::MalformedPacket
        | ConnectReturnCode::ProtocolError
        | ConnectReturnCode::ImplementationSpecificError
        | ConnectReturnCode::UnsupportedProtocolVersion
        | ConnectReturnCode::Banned
        | ConnectReturnCode::BadAuthenticationMethod
        | ConnectReturnCode::TopicNameInvalid
        | ConnectReturnCode::PacketTooLarge
        | ConnectReturnCode::PayloadFormatInvalid
        | ConnectReturnCode::RetainNotSupported
        | ConnectReturnCode::QoSNotSupported
        | ConnectReturnCode::UseAnotherServer
        | ConnectReturnCode::ServerMoved => Refusal::Other(format!("{code:?}")),
    }
}

/// Why a connection that worked ended, for people.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "errors of a library; those not told apart show in its own words"
)]
pub(super) fn end_in_words(error: &ConnectionError) -> String {
    match error {
        ConnectionError::MqttState(error) => in_words(error),
        ConnectionError::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "errors of a library; those not told apart show in its own words"
)]
fn in_words(error: &StateError) -> String {
    match error {
        StateError::Io(error) => error.to_string(),
        StateError::ServerDisconnect {
            reason_code,
            reason_string,
        } => match reason_string {
            Some(text) => format!("the hub ended it: {reason_code:?}, {text}"),
            None => format!("the hub ended it: {reason_code:?}"),
        },
        StateError::AwaitPingResp => "the hub does not answer any more".to_owned(),
        StateError::ConnectionAborted => "the hub closed it".to_owned(),
        other => other.to_string(),
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_owner_are_trusted() {
        assert!(is_trusted(0, 1000) && is_trusted(1000, 1000));
        assert!(!is_trusted(1001, 1000) && !is_trusted(1000, 0));
    }
}
