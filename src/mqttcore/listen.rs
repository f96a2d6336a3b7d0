//! The doors: TLS and secure websockets, each on a port, a socket in the run folder, an abstract socket, TCP on loopback
//! where configured; and one task for each connection.
//!
//! Invariants:
//! - Accepting waits for nobody: handshake and login happen in the connection's task, within one time limit.
//! - A connection is forgotten when its task ends, however it ends.
//! - A socket file is replaced only when nobody listens on it; it appears finished and open to all (a token is asked
//!   for).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mqtt5::broker::client_handler::ClientHandler;
use mqtt5::broker::config::BrokerConfig;
use mqtt5::broker::resource_monitor::ResourceMonitor;
use mqtt5::broker::sys_topics::BrokerStats;
use mqtt5::broker::transport::BrokerTransport;
use nix::sys::socket::{getsockopt, sockopt};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::connections::{Connection, Door};
use crate::cork::{Uncorking, cork};
use crate::hub::{Gate, Hub};
use crate::limits::Limits;
use crate::metered::Metered;
use crate::stream::{Raw, Stream};
use crate::tls::{self, Front};
use crate::websocket;

/// How long to wait when a connection cannot be accepted because descriptors are used up: until one is free there is
/// nothing to wait for.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const SOCKET_MODE: u32 = 0o666;

/// A door that cannot be opened.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The port.
    #[error("cannot listen on port {port}; free it, or set {} ({})", purpose.key(), purpose.zero())]
    Port {
        /// Which.
        port: u16,
        /// For what.
        purpose: Purpose,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody listens there already.
    #[error("another core{} listens on {path}; stop it first", pid_text(*pid))]
    InUse {
        /// The socket.
        path: PathBuf,
        /// The other's process, where known.
        pid: Option<i32>,
    },
    /// The socket file cannot be made.
    #[error("cannot listen on {path}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The abstract socket.
    #[error("cannot listen on the abstract socket @{name}")]
    Abstract {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// MQTT over TLS.
    Tls,
    /// MQTT in a secure websocket.
    Web,
    /// MQTT without TLS, for this machine.
    Loopback,
}

impl Purpose {
    const fn key(self) -> &'static str {
        match self {
            Purpose::Tls => "mqttserver.port",
            Purpose::Web => "mqttserver.wsPort",
            Purpose::Loopback => "mqttserver.loopbackPort",
        }
    }

    /// What 0 means there.
    const fn zero(self) -> &'static str {
        match self {
            Purpose::Tls => "0 takes a free one",
            Purpose::Web => "0 = no websocket",
            Purpose::Loopback => "0 = none",
        }
    }

    /// IPv6 and IPv4.
    const fn addresses(self) -> (Ipv6Addr, Ipv4Addr) {
        match self {
            Purpose::Tls | Purpose::Web => (Ipv6Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED),
            Purpose::Loopback => (Ipv6Addr::LOCALHOST, Ipv4Addr::LOCALHOST),
        }
    }
}

/// `" (pid 7)"`, or nothing.
pub(crate) fn pid_text(pid: Option<i32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

/// Listens on `port` of all addresses that go with its purpose, IPv6 and IPv4; the first listener tells which port that
/// is.
///
/// # Errors
/// The port is in use, or the process may not have it.
pub async fn port(port: u16, purpose: Purpose) -> Result<Vec<TcpListener>, ListenError> {
    let failed = |source| ListenError::Port {
        port,
        purpose,
        source,
    };
    let (ipv6, ipv4) = purpose.addresses();
    let first = match TcpListener::bind((ipv6, port)).await {
        Err(error) if is_without_ipv6(&error) => {
            let only = TcpListener::bind((ipv4, port)).await;
            return only.map(|only| vec![only]).map_err(failed);
        }
        result => result.map_err(failed)?,
    };
    let port = first.local_addr().map_err(failed)?.port();
    match (TcpListener::bind((ipv4, port)).await, purpose) {
        (Ok(second), _) => Ok(vec![first, second]),
        // In use already: by the listener above, which takes IPv4 too unless the system is set otherwise
        // (net.ipv6.bindv6only).
        (Err(_), Purpose::Tls | Purpose::Web) => Ok(vec![first]),
        (Err(error), Purpose::Loopback) => Err(failed(error)),
    }
}

fn is_without_ipv6(error: &io::Error) -> bool {
    use nix::libc::{EADDRNOTAVAIL, EAFNOSUPPORT};
    matches!(error.raw_os_error(), Some(EAFNOSUPPORT | EADDRNOTAVAIL))
}

/// Listens on a socket file. A file that a dead core has left is replaced. Blocks, but for no stranger.
///
/// # Errors
/// Somebody listens there, or it cannot be made.
pub fn path(path: &Path) -> Result<UnixListener, ListenError> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(ListenError::InUse {
            path: path.to_owned(),
            pid: listener(path),
        });
    }
    let made = || {
        // Made under another name, so that it is never there without being open to all.
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let _ = std::fs::remove_file(&new);
        let listener = std::os::unix::net::UnixListener::bind(&new)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(SOCKET_MODE))
            .and_then(|()| std::fs::rename(&new, path))
            .inspect_err(|_| {
                let _ = std::fs::remove_file(&new);
            })?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    made().map_err(|source| ListenError::Socket {
        path: path.to_owned(),
        source,
    })
}

/// The process that listens on a socket file.
pub(crate) fn listener(path: &Path) -> Option<i32> {
    let other = std::os::unix::net::UnixStream::connect(path).ok()?;
    let peer = getsockopt(&other, sockopt::PeerCredentials).ok()?;
    Some(peer.pid())
}

/// Listens on the abstract socket `name`.
///
/// # Errors
/// Another hub of this machine has it, most of the time.
pub fn abstract_socket(name: &str) -> Result<UnixListener, ListenError> {
    let made = || {
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        let listener = std::os::unix::net::UnixListener::bind_addr(&address)?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    made().map_err(|source| ListenError::Abstract {
        name: name.to_owned(),
        source,
    })
}

/// What every connection's task needs.
pub struct Floor {
    /// The core.
    pub hub: Arc<Hub>,
    /// The library's configuration.
    pub broker: Arc<BrokerConfig>,
    /// The library's counters.
    pub stats: Arc<BrokerStats>,
    /// The library's limits.
    pub monitor: Arc<ResourceMonitor>,
    /// From accept to login.
    pub login_limit: Duration,
    /// Told at each end of a connection.
    pub closed: Notify,
    /// How many connections have ended.
    pub endings: AtomicU64,
}

/// After so many ends of connections the library is told to forget what it keeps of them.
const SWEEP_EVERY: u64 = 64;

/// How a connection becomes a stream of MQTT.
#[derive(Clone)]
pub enum Entry {
    /// By TLS.
    Tls(Arc<Front>),
    /// By TLS and a websocket in it.
    Web(Arc<Front>),
    /// It is one.
    Plain,
}

impl Entry {
    const fn door(&self) -> Door {
        match self {
            Entry::Tls(_) => Door::Network,
            Entry::Web(_) => Door::Web,
            Entry::Plain => Door::Loopback,
        }
    }

    /// Goes through the handshakes.
    async fn enter(
        &self,
        stream: TcpStream,
        connection: &Arc<Connection>,
        limits: &Limits,
    ) -> io::Result<Box<dyn Raw>> {
        let front = match self {
            Entry::Plain => return Ok(Box::new(metered(stream, connection, limits))),
            Entry::Tls(front) | Entry::Web(front) => front,
        };
        let stream = front.acceptor().accept(stream).await?;
        let name = tls::client_name(&stream);
        let stream = metered(stream, connection, limits);
        let (stream, name): (Box<dyn Raw>, _) = match self {
            Entry::Plain | Entry::Tls(_) => (Box::new(stream), name),
            Entry::Web(_) => {
                let accepted = websocket::accept(stream, limits.packet_bytes).await;
                let (stream, is_foreign) = accepted.map_err(io::Error::other)?;
                (Box::new(stream), name.filter(|_| !is_foreign))
            }
        };
        if let Some(name) = name {
            // Set once, here.
            let _ = connection.certificate.set(name);
        }
        Ok(stream)
    }
}

fn metered<S>(stream: S, connection: &Arc<Connection>, limits: &Limits) -> Metered<S> {
    Metered::new(stream, Arc::clone(connection), limits.connect_bytes)
}

/// Accepts on a port.
pub async fn accept_network(floor: Arc<Floor>, listener: TcpListener, entry: Entry) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let connection = floor.hub.connections.open(entry.door(), peer.ip());
                let task =
                    serve_network(Arc::clone(&floor), connection, entry.clone(), stream, peer);
                tokio::spawn(task);
            }
            Err(error) => pause(&error).await,
        }
    }
}

/// Accepts on a socket of the machine.
pub async fn accept_local(floor: Arc<Floor>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let connection = floor.hub.connections.open(Door::Local, peer.ip());
                let stream = metered(stream, &connection, &floor.hub.limits);
                let deadline = Instant::now() + floor.login_limit;
                let visit = Visit::begin(Arc::clone(&floor), connection, deadline);
                tokio::spawn(visit.serve(Box::new(stream), peer));
            }
            Err(error) => pause(&error).await,
        }
    }
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn serve_network(
    floor: Arc<Floor>,
    connection: Arc<Connection>,
    entry: Entry,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let deadline = Instant::now() + floor.login_limit;
    let visit = Visit::begin(floor, Arc::clone(&connection), deadline);
    // Or calls wait for delayed acknowledgements (crates-mqtt §2).
    let _ = stream.set_nodelay(true);
    let entering = entry.enter(stream, &connection, &visit.floor.hub.limits);
    let entered = tokio::select! {
        entered = tokio::time::timeout_at(deadline, entering) => entered,
        () = connection.cut.wait() => return,
    };
    match entered {
        Ok(Ok(stream)) => visit.serve(stream, peer).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS, or no websocket"),
        Err(_) => tracing::debug!(%peer, "silent during the handshake"),
    }
}

/// A connection from accept to its end; the end is its drop.
struct Visit {
    floor: Arc<Floor>,
    connection: Arc<Connection>,
    deadline: Instant,
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.floor.hub.connections.close(&self.connection);
        self.floor.closed.notify_waiters();
        let endings = self.floor.endings.fetch_add(1, Ordering::Relaxed);
        if endings % SWEEP_EVERY == SWEEP_EVERY - 1
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let router = Arc::clone(&self.floor.hub.router);
            runtime.spawn(async move { router.sweep_sessions().await });
        }
    }
}

impl Visit {
    fn begin(floor: Arc<Floor>, connection: Arc<Connection>, deadline: Instant) -> Visit {
        Visit {
            floor,
            connection,
            deadline,
        }
    }

    async fn serve(self, raw: Box<dyn Raw>, peer: SocketAddr) {
        let hub = Arc::clone(&self.floor.hub);
        let connection = Arc::clone(&self.connection);
        let (raw, outlet) = cork(raw);
        let stream = Stream::new(
            Box::new(raw),
            Arc::clone(&connection),
            Arc::clone(&hub.numbers),
        );
        let handler = ClientHandler::new(
            BrokerTransport::WebSocket(Box::new(stream)),
            peer,
            Arc::clone(&self.floor.broker),
            Arc::clone(&hub.router),
            Arc::new(Gate {
                hub: Arc::clone(&hub),
                connection: Arc::clone(&connection),
            }),
            None,
            Arc::clone(&self.floor.stats),
            Arc::clone(&self.floor.monitor),
            connection.leave_signal(),
        );
        let mut run = Uncorking::new(handler.run(), outlet);
        let ended = tokio::select! {
            ended = &mut run => Some(ended),
            () = tokio::time::sleep_until(self.deadline) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                if !connection.is_logged_in() {
                    // Not dropped: the library has to clean up (crates-mqtt §10).
                    connection.cut.cut();
                }
                run.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, login = connection.login(), %error, "connection ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mqttcore.sock");
        let first = path(&file).unwrap();
        let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, SOCKET_MODE);
        let error = path(&file).unwrap_err().to_string();
        let pid = format!("(pid {})", std::process::id());
        assert!(
            error.contains("mqttcore.sock") && error.contains(&pid),
            "{error}"
        );
        drop(first);
        assert!(file.exists(), "the file of a dead core stays");
        let second = path(&file).unwrap();
        let (client, server) =
            tokio::join!(tokio::net::UnixStream::connect(&file), second.accept());
        assert!(client.is_ok() && server.is_ok());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let first = port(0, Purpose::Tls).await.unwrap();
        let taken = first[0].local_addr().unwrap().port();
        for (purpose, key) in [
            (Purpose::Tls, "mqttserver.port "),
            (Purpose::Web, "mqttserver.wsPort "),
            (Purpose::Loopback, "mqttserver.loopbackPort "),
        ] {
            let error = crate::chain(&port(taken, purpose).await.unwrap_err());
            for part in [&taken.to_string(), key, "in use"] {
                assert!(error.contains(part), "{error}");
            }
        }
    }
}
