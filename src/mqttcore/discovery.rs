//! The core tells the local network where it is, by DNS-SD (HP 1.11, T26).
//!
//! Invariants: nothing is told before the core is ready, nor of a core that only this machine can reach; what cannot be told
//! is a warning and keeps nobody from working; at the end it is taken back, which holds nothing up.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bus::discovery::{CORE_KEY, MQTT, SERVICE_TYPE, URL_KEY};
use creds::atomic;
use mdns_sd::{ServiceDaemon, ServiceInfo};
use tokio::sync::watch;

/// The instance's name, as the original's core has it.
const INSTANCE: &str = "mqttcore";
/// Mode of the file with the URL: no secret.
const URL_MODE: u32 = 0o644;

/// Where clients reach a core on `host`: `tcp://{host}:{port}`, as the original writes it (TLS in spite of the name).
#[must_use]
pub fn url(host: &str, port: u16) -> String {
    format!("tcp://{host}:{port}")
}

/// Whether a host of a URL can be reached from this machine only.
fn is_local(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost"
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// A record on the network; taken back when dropped.
struct Record(ServiceDaemon, String);

impl Record {
    fn publish(host: &str, port: u16) -> mdns_sd::Result<Record> {
        let daemon = ServiceDaemon::new()?;
        let published = Record::register(&daemon, host, port);
        match published {
            Ok(name) => Ok(Record(daemon, name)),
            Err(error) => {
                let _ = daemon.shutdown();
                Err(error)
            }
        }
    }

    fn register(daemon: &ServiceDaemon, host: &str, port: u16) -> mdns_sd::Result<String> {
        // It would wake up every few seconds; who publishes knows when addresses change.
        daemon.set_ip_check_interval(0)?;
        let hostname = nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| INSTANCE.to_owned());
        let name = format!("{}.local.", hostname.trim_end_matches(".local"));
        let url = url(host, port);
        let text = [(URL_KEY, url.as_str()), (CORE_KEY, MQTT)];
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let info = match bare.parse::<IpAddr>() {
            Ok(address) => {
                ServiceInfo::new(SERVICE_TYPE, INSTANCE, &name, address, port, &text[..])?
            }
            Err(_) => ServiceInfo::new(SERVICE_TYPE, INSTANCE, &name, "", port, &text[..])?
                .enable_addr_auto(),
        };
        let full = info.get_fullname().to_owned();
        daemon.register(info)?;
        Ok(full)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // Both are only handed to its thread, in order. An error is that it has ended.
        let _ = self.0.unregister(&self.1);
        let _ = self.0.shutdown();
    }
}

impl Record {
    /// Takes it back and waits until that is told.
    ///
    /// # Cancel safety
    /// When dropped, it is taken back without waiting.
    async fn take_back(self) {
        if let Ok(told) = self.0.unregister(&self.1) {
            let _ = told.recv_async().await;
        }
    }
}

/// Tells the network where the core is, if `announced`, and writes `url_file`, both anew whenever the host changes, until
/// nobody can say any more where it is: then the record is taken back.
///
/// # Cancel safety
/// When dropped, the record is taken back without waiting for it.
pub async fn tell(
    mut hosts: watch::Receiver<String>,
    port: u16,
    announced: bool,
    url_file: PathBuf,
) {
    let mut record = None;
    loop {
        let host = hosts.borrow_and_update().clone();
        drop(record.take());
        if announced && !is_local(&host) {
            match Record::publish(&host, port) {
                Ok(published) => record = Some(published),
                Err(error) => {
                    tracing::warn!(%error, "the network is not told where the core is");
                }
            }
        }
        if hosts.changed().await.is_err() {
            if let Some(record) = record {
                record.take_back().await;
            }
            return;
        }
        let url = url(&hosts.borrow(), port);
        tracing::info!(url, "this machine's address has changed");
        let file = url_file.clone();
        let write =
            tokio::task::spawn_blocking(move || atomic::write(&file, url.as_bytes(), URL_MODE));
        if let Ok(Err(error)) = write.await {
            tracing::warn!(
                error = crate::chain(&error),
                "cannot say where the core is now"
            );
        }
    }
}

/// How long taking a record back may hold up the end of the core: a packet for each interface.
pub const TAKEN_BACK: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_machine_can_reach_is_told_nobody() {
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["10.0.0.3", "[fe80::1]", "box.local", "localhost.example"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
