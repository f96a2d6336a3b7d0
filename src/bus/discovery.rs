//! Finding a hub on the local network by DNS-SD (HP 1.11, T27).
//!
//! Invariants:
//! - What is found is only a place to try: it is trusted when its certificate is of the hub's CA, and told nothing before.
//! - Answers are strangers' data: what is no plain address of an MQTT core is refused, with the reason.
//! - Nothing of the search is left when it ends, also when it is dropped.

use std::net::IpAddr;
use std::time::Duration;

use mdns_sd::{ResolvedService, ServiceDaemon, ServiceEvent};
use thiserror::Error;
use tokio::time::Instant;

use crate::client::{Endpoint, EndpointError};

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
/// The most places that a search gives: the first answer may be of somebody who only wants to be in the way (T27).
pub const MAX_PLACES: usize = 8;
/// How often the end of a search is told to a library that is too busy to hear of it.
const END_TRIES: u32 = 100;
/// How long between two of these.
const END_PAUSE: Duration = Duration::from_millis(20);

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
    /// The address contains what no address of a hub does: control characters, a login, or others than a name's.
    #[error("its address is no plain one")]
    NotPlain,
    /// An address that no single machine has, as `0.0.0.0`.
    #[error("its address is none of a machine")]
    NoMachine,
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
    if let Some(core) = value(CORE_KEY).filter(|core| !core.is_empty() && *core != MQTT) {
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
    if url.contains('@') && !url.starts_with("unix:") || !url.bytes().all(|b| b.is_ascii_graphic())
    {
        return Err(RefusedRecord::NotPlain);
    }
    match url.parse()? {
        Endpoint::Unix(_) | Endpoint::Abstract(_) => Err(RefusedRecord::Local),
        Endpoint::Tls { host, port } => machine(host, port),
    }
}

/// The place, if its host may be one machine's.
fn machine(host: String, port: u16) -> Result<Endpoint, RefusedRecord> {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_for_many = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    };
    match host.parse::<IpAddr>() {
        Ok(address) if is_for_many(address) => Err(RefusedRecord::NoMachine),
        Err(_) if !host.bytes().all(is_of_name) => Err(RefusedRecord::NotPlain),
        Ok(_) | Err(_) => Ok(Endpoint::Tls { host, port }),
    }
}

fn address_of(record: &Record) -> Option<String> {
    // By a link-local address alone nobody can be reached.
    let is_of_use = |address: &IpAddr| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    };
    let mut addresses = record.addresses.clone();
    addresses.retain(is_of_use);
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

/// Why there is no hub on the network to be tried.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotFound {
    /// The library cannot search.
    #[error("the network cannot be searched for a hub: {0}")]
    NoSearch(String),
    /// Nobody answered.
    #[error("no hub announces itself on the network")]
    Nobody,
    /// Those who answered are of no use; who they are and why, at most [`MAX_PLACES`].
    #[error("no hub on the network can be used: {}", .0.join("; "))]
    Refused(Vec<String>),
}

/// Looks for a hub for at most `within`; the first that can be used wins.
///
/// # Errors
/// There is none.
///
/// # Cancel safety
/// When dropped, the search ends.
pub async fn find(within: Duration) -> Result<Endpoint, NotFound> {
    let mut search = Search::begin(within)?;
    match search.next().await {
        Some(place) => Ok(place),
        None => Err(search.why_none()),
    }
}

/// A search that goes on; ends when it is dropped.
pub struct Search {
    daemon: ServiceDaemon,
    events: mdns_sd::Receiver<ServiceEvent>,
    until: Instant,
    answers: usize,
    given: Vec<Endpoint>,
    refused: Vec<String>,
}

impl Search {
    /// Asks the network. Answers are awaited for `within` from now on.
    ///
    /// # Errors
    /// [`NotFound::NoSearch`]. A machine without a network is no error: nobody answers then.
    pub fn begin(within: Duration) -> Result<Search, NotFound> {
        let failed = |error: mdns_sd::Error| NotFound::NoSearch(error.to_string());
        let daemon = ServiceDaemon::new().map_err(failed)?;
        // A look of a second needs no look at new interfaces.
        let events = daemon
            .set_ip_check_interval(0)
            .and_then(|()| daemon.browse(SERVICE_TYPE));
        match events {
            Ok(events) => Ok(Search {
                daemon,
                events,
                until: Instant::now() + within,
                answers: 0,
                given: Vec::new(),
                refused: Vec::new(),
            }),
            Err(error) => {
                end(&daemon);
                Err(failed(error))
            }
        }
    }

    /// The next hub that can be tried, each place once, at most [`MAX_PLACES`]; none = the time is over, or there were too
    /// many answers.
    ///
    /// # Cancel safety
    /// Safe: the next call goes on.
    pub async fn next(&mut self) -> Option<Endpoint> {
        while self.answers < MAX_ANSWERS && self.given.len() < MAX_PLACES {
            let event = tokio::time::timeout_at(self.until, self.events.recv_async()).await;
            // The library closes the channel when there are more answers than anybody needs.
            let Ok(Ok(event)) = event else { return None };
            let ServiceEvent::ServiceResolved(service) = event else {
                continue;
            };
            self.answers += 1;
            match place(&record_of(&service)) {
                Ok(place) if self.given.contains(&place) => {}
                Ok(place) => {
                    self.given.push(place.clone());
                    return Some(place);
                }
                Err(refused) => self.refuse(&service, &refused),
            }
        }
        None
    }

    /// Why [`Search::next`] gave nothing.
    #[must_use]
    pub fn why_none(self) -> NotFound {
        if self.refused.is_empty() {
            NotFound::Nobody
        } else {
            NotFound::Refused(self.refused.clone())
        }
    }

    fn refuse(&mut self, service: &ResolvedService, refused: &RefusedRecord) {
        let name = service.fullname.split("._hiveot.").next();
        let name = name.unwrap_or_default().chars();
        let name: String = name
            .filter(|letter| !letter.is_control())
            .take(63)
            .collect();
        let text = format!("'{name}': {refused}");
        if self.refused.len() < MAX_PLACES && !self.refused.contains(&text) {
            self.refused.push(text);
        }
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        end(&self.daemon);
    }
}

/// Has the library's thread end. It hears of it at once unless its queue of orders is full, as in a flood of answers; then a
/// thread of its own tells it again, as nobody may wait here.
fn end(daemon: &ServiceDaemon) {
    let is_told = |daemon: &ServiceDaemon| !matches!(daemon.shutdown(), Err(mdns_sd::Error::Again));
    if is_told(daemon) {
        return;
    }
    let daemon = daemon.clone();
    let told = std::thread::Builder::new()
        .name("mdns_end".to_owned())
        .spawn(move || {
            for _ in 0..END_TRIES {
                std::thread::sleep(END_PAUSE);
                if is_told(&daemon) {
                    return;
                }
            }
        });
    if let Err(error) = told {
        tracing::warn!(%error, "a search for a hub goes on in the background");
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
        let mut v6 = record(&[("core", Some(""))]);
        v6.addresses.retain(IpAddr::is_ipv6);
        assert_eq!(shown(&v6), "mqtts://box.local:8883");
        v6.addresses.push("2001:db8::1".parse().unwrap());
        assert_eq!(shown(&v6), "mqtts://[2001:db8::1]:8883");
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
            "tcp://joe@10.0.0.1:8883",
            "tcp://h\u{fc}b:8883",
            "tcp://hub%0a:8883",
            "tcp://0.0.0.0:8883",
            "tcp://[::]:8883",
            "tcp://224.0.0.251:8883",
            "tcp://255.255.255.255:8883",
            "tcp://10.0.0.1:0",
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

    #[test]
    fn the_golden_record_is_a_place() {
        let all = crate::vectors::file("auth-events.json");
        let all: Vec<serde_json::Value> = serde_json::from_str(&all).unwrap();
        let vector = all.iter().find(|one| one["vector"] == "dns-sd").unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let kind = format!("{}.{}.", text(&vector["type"]), text(&vector["domain"]));
        assert_eq!(kind, SERVICE_TYPE);
        let mut record = record(&[]);
        for entry in vector["txt"].as_array().unwrap() {
            let entry = text(entry);
            let (key, value) = entry.split_once('=').unwrap();
            let value = Some(value.as_bytes().to_vec());
            record.text.push((key.to_owned(), value));
        }
        assert_eq!(shown(&record), "mqtts://192.168.1.10:8883");
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
