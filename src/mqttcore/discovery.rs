//! The core tells the local network where it is, by DNS-SD (HP 1.11, T26).
//!
//! Invariants: nothing is told before the core is ready, nor of a core that only this machine can reach; what cannot be told
//! is a warning and keeps nobody from working; at the end it is taken back, which holds nothing up.
//!
//! What it costs, measured: a thread that does not wake up unless the network asks something, and 50 KiB.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bus::discovery::{CORE_KEY, MQTT, SERVICE_TYPE, URL_KEY};
use creds::atomic;
use mdns_sd::{ServiceDaemon, ServiceInfo};
use tokio::sync::watch;

use crate::machine::Names;

/// The instance's name, as the original's core has it.
const INSTANCE: &str = "mqttcore";
/// Mode of the file with the URL: no secret.
const URL_MODE: u32 = 0o644;

/// Where clients reach a core on `host`: `tcp://{host}:{port}`, as the original writes it (TLS in spite of the name).
#[must_use]
pub fn url(host: &str, port: u16) -> String {
    format!("tcp://{host}:{port}")
}

/// Whether others than this machine can reach it.
fn is_for_others(names: &Names) -> bool {
    let bare = names.host.trim_start_matches('[').trim_end_matches(']');
    let is_local = bare == "localhost"
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    !is_local && !names.addresses.is_empty()
}

/// A record on the network; taken back when dropped.
struct Record(ServiceDaemon, String);

impl Record {
    fn publish(names: &Names, port: u16) -> mdns_sd::Result<Record> {
        let daemon = ServiceDaemon::new()?;
        let published = Record::register(&daemon, names, port);
        match published {
            Ok(name) => Ok(Record(daemon, name)),
            Err(error) => {
                let _ = daemon.shutdown();
                Err(error)
            }
        }
    }

    fn register(daemon: &ServiceDaemon, names: &Names, port: u16) -> mdns_sd::Result<String> {
        // It would wake up every few seconds; who publishes knows when addresses change.
        daemon.set_ip_check_interval(0)?;
        let hostname = nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| INSTANCE.to_owned());
        let name = format!("{}.local.", hostname.trim_end_matches(".local"));
        let url = url(&names.host, port);
        let text = [(URL_KEY, url.as_str()), (CORE_KEY, MQTT)];
        let addresses = names.addresses.as_slice();
        // On each interface those that count there are told.
        let info = ServiceInfo::new(SERVICE_TYPE, INSTANCE, &name, addresses, port, &text[..])?;
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

/// Tells the network where the core is, if `announced`, and writes `url_file`, both anew whenever that changes, until nobody
/// can say any more where it is: then the record is taken back.
///
/// # Cancel safety
/// When dropped, the record is taken back without waiting for it.
pub async fn tell(
    mut names: watch::Receiver<Names>,
    port: u16,
    announced: bool,
    url_file: PathBuf,
) {
    let mut record = None;
    loop {
        let now = names.borrow_and_update().clone();
        drop(record.take());
        if announced && is_for_others(&now) {
            match Record::publish(&now, port) {
                Ok(published) => record = Some(published),
                Err(error) => {
                    tracing::warn!(%error, "the network is not told where the core is");
                }
            }
        }
        if names.changed().await.is_err() {
            if let Some(record) = record {
                record.take_back().await;
            }
            return;
        }
        let host = names.borrow().host.clone();
        if host != now.host {
            say_where(&url(&host, port), &url_file).await;
        }
    }
}

/// Writes the file with the URL.
async fn say_where(url: &str, file: &Path) {
    tracing::info!(url, "this machine's address has changed");
    let (text, file) = (url.to_owned(), file.to_owned());
    let write =
        tokio::task::spawn_blocking(move || atomic::write(&file, text.as_bytes(), URL_MODE));
    if let Ok(Err(error)) = write.await {
        tracing::warn!(
            error = crate::chain(&error),
            "cannot say where the core is now"
        );
    }
}

/// How long taking a record back may hold up the end of the core: a packet for each interface.
pub const TAKEN_BACK: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use creds::ca::ServerNames;

    use super::*;

    #[test]
    fn what_only_this_machine_can_reach_is_told_nobody() {
        let names = |host: &str| Names {
            host: host.to_owned(),
            addresses: vec![IpAddr::from([10, 0, 0, 3])],
            certificate: ServerNames::new("box", &[]),
        };
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            assert!(!is_for_others(&names(host)), "{host}");
        }
        for host in ["10.0.0.3", "[fe80::1]", "box.local", "localhost.example"] {
            assert!(is_for_others(&names(host)), "{host}");
        }
        let mut alone = names("box.local");
        alone.addresses.clear();
        assert!(!is_for_others(&alone));
    }
}
