//! The ports of a core.
//!
//! Invariant: a port that was asked for is had, or the core does not start.

use std::sync::Arc;

use tokio::net::TcpListener;

use crate::config::Config;
use crate::listen::{self, Entry, ListenError, Purpose};
use crate::tls::Front;

/// The ports of a core.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// MQTT over TLS.
    pub tls: u16,
    /// MQTT in a secure websocket, where there is one.
    pub web: Option<u16>,
    /// MQTT without TLS, where there is one.
    pub loopback: Option<u16>,
}

/// Listens on the ports that `config` wants; gives each listener with how its connections become streams of MQTT.
///
/// # Errors
/// One cannot be had.
pub async fn open_ports(
    config: &Config,
    front: &Arc<Front>,
) -> Result<(Vec<(TcpListener, Entry)>, Ports), ListenError> {
    let mut doors = Vec::new();
    let entry = Entry::Tls(Arc::clone(front));
    let tls = open_port(config.port, Purpose::Tls, &entry, &mut doors).await?;
    let mut web = None;
    if let Some(port) = config.ws_port {
        let entry = Entry::Web(Arc::clone(front));
        match open_port(port, Purpose::Web, &entry, &mut doors).await {
            Ok(port) => web = Some(port),
            Err(error) if config.ws_port_may_be_taken => {
                tracing::warn!(error = crate::chain(&error), "going on without websocket");
            }
            Err(error) => return Err(error),
        }
    }
    let mut loopback = None;
    if let Some(port) = config.loopback_port {
        let port = open_port(port, Purpose::Loopback, &Entry::Plain, &mut doors).await?;
        loopback = Some(port);
    }
    let ports = Ports { tls, web, loopback };
    Ok((doors, ports))
}

async fn open_port(
    port: u16,
    purpose: Purpose,
    entry: &Entry,
    doors: &mut Vec<(TcpListener, Entry)>,
) -> Result<u16, ListenError> {
    let listeners = listen::port(port, purpose).await?;
    let address = listeners.first().and_then(|first| first.local_addr().ok());
    doors.extend(listeners.into_iter().map(|one| (one, entry.clone())));
    Ok(address.map_or(port, |address| address.port()))
}
