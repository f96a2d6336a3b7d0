//! Finding a hub on the local network by DNS-SD (HP 1.11, T27).
//!
//! Invariants:
//! - What is found is only a place to try: it is trusted when its certificate is of the hub's CA, and told nothing before.
//! - Answers are strangers' data: what is no plain address of an MQTT core is refused, with the reason.
//! - Nothing of the search is left when it ends, also when it is dropped.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mdns_sd::{ResolvedService, ServiceDaemon, ServiceEvent};
use thiserror::Error;
use tokio::time::Instant;

use crate::client::{Endpoint, EndpointError, EndpointSource};

/// The type of service of a hub's core (HP 1.11).
pub const SERVICE_TYPE: &str = "_hiveot._tcp.local.";
/// The key of the URL in the text of a record.
pub const URL_KEY: &str = "rawurl";
/// The key of the kind of core.
pub const CORE_KEY: &str = "core";
/// The kind that is served here.
pub const MQTT: &str = "mqtt";
/// The original looks for a second; but who has just answered another may be silent for that long (RFC 6762 §6), and the
/// question is repeated after it.
pub const PATIENCE: Duration = Duration::from_millis(2500);

/// The longest URL that is taken.
const MAX_URL_BYTES: usize = 256;
/// The most answers that are looked at in one search.
const MAX_ANSWERS: usize = 64;
/// How long the search may take to end.
const GOODBYE: Duration = Duration::from_millis(200);

/// What a core says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Its addresses, in any order.
    pub addresses: Vec<IpAddr>,
    /// Its host name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its text, entry by entry: what stands before the first `=`, and after it where there is one.
    pub text: Vec<(String, Option<Vec<u8>>)>,
}

/// Why a record is no hub for us.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RefusedRecord {
    /// A core of another kind.
    #[error("it is a '{core}' core, and only mqtt is served here")]
    OtherCore {
        /// At most 32 characters of what it says it is.
        core: String,
    },
    /// The URL is longer than any of ours.
    #[error("its address is {bytes} bytes long")]
    TooLong {
        /// How long.
        bytes: usize,
    },
    /// The URL is none of a core.
    #[error(transparent)]
    Url(#[from] EndpointError),
    /// A socket of the machine: the network cannot know of it.
    #[error("its address is a socket of this machine")]
    Local,
    /// Neither URL nor address.
    #[error("it has no address")]
    NoAddress,
}

/// Where the core of a record is (HP 1.11): what `rawurl` says, else its first address, IPv4 before IPv6, else its name.
///
/// # Errors
/// It is no place of an MQTT core.
pub fn place(record: &Record) -> Result<Endpoint, RefusedRecord> {
    let value = |key: &str| {
        let mut entries = record.text.iter().filter(|(name, _)| name == key);
        let bytes = entries.find_map(|(_, value)| value.as_deref())?;
        // As the original reads it: an entry with another `=` in it counts for nothing.
        std::str::from_utf8(bytes)
            .ok()
            .filter(|text| !text.contains('='))
    };
    if let Some(core) = value(CORE_KEY).filter(|core| *core != MQTT) {
        return Err(RefusedRecord::OtherCore {
            core: core
                .chars()
                .filter(|letter| !letter.is_control())
                .take(32)
                .collect(),
        });
    }
    let url = match value(URL_KEY) {
        Some(url) if url.len() > MAX_URL_BYTES => {
            return Err(RefusedRecord::TooLong { bytes: url.len() });
        }
        Some(url) => url.to_owned(),
        None => address_of(record).ok_or(RefusedRecord::NoAddress)?,
    };
    if url.contains(|letter: char| letter.is_control()) {
        return Err(RefusedRecord::NoAddress);
    }
    match url.parse()? {
        Endpoint::Unix(_) | Endpoint::Abstract(_) => Err(RefusedRecord::Local),
        place @ Endpoint::Tls { .. } => Ok(place),
    }
}

fn address_of(record: &Record) -> Option<String> {
    let mut addresses = record.addresses.clone();
    addresses.sort();
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    let host = match v4.or(addresses.first()) {
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => format!("[{address}]"),
        None => record.host.trim_end_matches('.').to_owned(),
    };
    (!host.is_empty() && host.len() <= MAX_URL_BYTES)
        .then(|| format!("tcp://{host}:{}", record.port))
}

/// Looks for a hub for at most `within`; the first that can be used wins. None when there is none, or when this machine has
/// no network to look in.
///
/// # Cancel safety
/// When dropped, the search ends.
pub async fn find(within: Duration) -> Option<Endpoint> {
    let until = Instant::now() + within;
    let search = Search::begin()
        .map_err(|error| tracing::debug!(%error, "no search for a hub on the network"))
        .ok()?;
    let found = tokio::time::timeout_at(until, search.first_place()).await;
    search.end().await;
    found.ok().flatten()
}

/// Looks for a hub whenever a connection is tried; what is found is tried from the next attempt on.
///
/// Invariant: one search at a time, so that attempts that follow each other fast cost no more.
#[derive(Debug, Default)]
pub struct Seeker {
    found: Mutex<Option<Endpoint>>,
    seeking: AtomicBool,
}

impl Seeker {
    /// What was found last.
    #[must_use]
    pub fn found(&self) -> Option<Endpoint> {
        self.lock().clone()
    }

    /// The places of `usual`, and what is found; looked for only while `may` says so, as a search asks the whole network.
    /// To be asked inside a runtime.
    #[must_use]
    pub fn beside(
        self: &Arc<Self>,
        usual: EndpointSource,
        may: impl Fn() -> bool + Send + Sync + 'static,
    ) -> EndpointSource {
        let seeker = Arc::clone(self);
        Arc::new(move || {
            let mut places = usual();
            places.extend(seeker.found());
            if may() && !seeker.seeking.swap(true, Ordering::AcqRel) {
                tokio::spawn(Arc::clone(&seeker).seek());
            }
            places
        })
    }

    async fn seek(self: Arc<Self>) {
        if let Some(place) = find(PATIENCE).await {
            let before = self.lock().replace(place.clone());
            if before.as_ref() != Some(&place) {
                tracing::info!("there is a hub on the network at {place}; it is tried");
            }
        }
        self.seeking.store(false, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Endpoint>> {
        // Replaced in one step, so whole even when a holder panicked.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A search that goes on; ends with it.
struct Search {
    daemon: ServiceDaemon,
    events: mdns_sd::Receiver<ServiceEvent>,
}

impl Search {
    fn begin() -> mdns_sd::Result<Search> {
        let daemon = ServiceDaemon::new()?;
        // A look of a second needs no look at new interfaces.
        let events = daemon
            .set_ip_check_interval(0)
            .and_then(|()| daemon.browse(SERVICE_TYPE));
        match events {
            Ok(events) => Ok(Search { daemon, events }),
            Err(error) => {
                let _ = daemon.shutdown();
                Err(error)
            }
        }
    }

    async fn first_place(&self) -> Option<Endpoint> {
        let mut answers = 0;
        while let Ok(event) = self.events.recv_async().await {
            let ServiceEvent::ServiceResolved(service) = event else {
                continue;
            };
            answers += 1;
            match place(&record_of(&service)) {
                Ok(place) => return Some(place),
                Err(refused) => {
                    tracing::debug!(%refused, "a hub on the network is not used");
                }
            }
            if answers == MAX_ANSWERS {
                return None;
            }
        }
        None
    }

    async fn end(&self) {
        if let Ok(ended) = self.daemon.shutdown() {
            let _ = tokio::time::timeout(GOODBYE, ended.recv_async()).await;
        }
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        // An error is that it has ended.
        let _ = self.daemon.shutdown();
    }
}

fn record_of(service: &ResolvedService) -> Record {
    Record {
        addresses: service
            .addresses
            .iter()
            .map(mdns_sd::ScopedIp::to_ip_addr)
            .collect(),
        host: service.host.clone(),
        port: service.port,
        text: service
            .txt_properties
            .iter()
            .map(|entry| (entry.key().to_owned(), entry.val().map(<[u8]>::to_vec)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(text: &[(&str, Option<&str>)]) -> Record {
        Record {
            addresses: ["fe80::1", "10.0.0.9", "10.0.0.3"]
                .map(|address| address.parse().unwrap())
                .to_vec(),
            host: "box.local.".to_owned(),
            port: 8883,
            text: text
                .iter()
                .map(|(key, value)| {
                    let value = value.map(|value| value.as_bytes().to_vec());
                    ((*key).to_owned(), value)
                })
                .collect(),
        }
    }

    fn shown(record: &Record) -> String {
        place(record).unwrap().to_string()
    }

    #[test]
    fn the_url_of_the_text_counts_then_an_address_then_the_name() {
        let both = record(&[
            ("core", Some("mqtt")),
            ("rawurl", Some("tcp://10.0.0.1:88")),
        ]);
        assert_eq!(shown(&both), "mqtts://10.0.0.1:88");
        let without = record(&[("core", Some("mqtt"))]);
        assert_eq!(shown(&without), "mqtts://10.0.0.3:8883");
        for dropped in [Some("tcp://10.0.0.1:88?a=b"), None] {
            let record = record(&[("rawurl", dropped)]);
            assert_eq!(shown(&record), "mqtts://10.0.0.3:8883");
        }
        let mut v6 = record(&[]);
        v6.addresses.retain(IpAddr::is_ipv6);
        assert_eq!(shown(&v6), "mqtts://[fe80::1]:8883");
        v6.addresses.clear();
        assert_eq!(shown(&v6), "mqtts://box.local:8883");
    }

    #[test]
    fn what_is_no_place_of_a_core_is_refused() {
        let long = format!("tcp://{}:1", "a".repeat(300));
        for url in [
            "tcp://<nil>:8883",
            "unix:///run/evil.sock",
            "@/MqttInMemUDSProd",
            "wss://10.0.0.1:8884",
            "nats://10.0.0.1:4222",
            "tcp://joe:secret@10.0.0.1:8883",
            "tcp://10.0.0.1:8883\u{1b}[2J",
            "",
            &long,
        ] {
            let refused = place(&record(&[("rawurl", Some(url))]));
            assert!(refused.is_err(), "{url}: {refused:?}");
        }
        let nats = place(&record(&[("core", Some("nats"))])).unwrap_err();
        assert!(nats.to_string().contains("only mqtt"), "{nats}");
        assert_eq!(place(&Record::default()), Err(RefusedRecord::NoAddress));
    }

    proptest! {
        #[test]
        fn whatever_is_found_is_a_place_in_the_network(
            host in ".{0,20}",
            port: u16,
            addresses: Vec<IpAddr>,
            text: Vec<(String, Option<Vec<u8>>)>,
            url in "(tcp|tls|mqtts|unix)?(://)?.{0,30}",
        ) {
            let mut record = Record { addresses, host, port, text };
            for _ in 0..2 {
                if let Ok(found) = place(&record) {
                    let is_tls = matches!(found, Endpoint::Tls { .. });
                    prop_assert!(is_tls && !found.to_string().contains(char::is_control));
                }
                record.text.insert(0, (URL_KEY.to_owned(), Some(url.clone().into_bytes())));
            }
        }
    }
}
