//! Where a hub listens.
//!
//! Invariant: a text that was read can be written and read again with the same result.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The port of MQTT over TLS when none is named.
pub const TLS_PORT: u16 = 8883;

/// Where a hub listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A socket in the file system, without TLS.
    Unix(PathBuf),
    /// A socket in Linux' abstract name space, without TLS; the name without the leading NUL.
    Abstract(String),
    /// TCP with TLS 1.3. The host is also the name the certificate must be for.
    Tls {
        /// Name or address, an IPv6 address without brackets.
        host: String,
        /// TCP port, not 0.
        port: u16,
    },
}

/// Why a text is no place where a hub listens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is no address of a hub: {why}; expected mqtts://host:port, unix:///path or unix://@/name"
)]
pub struct EndpointError {
    text: String,
    why: &'static str,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Reads `unix:///path`, `/path`, `unix://@/name`, `@/name`, `tcp://` `tls://` `mqtts://` with host and port, and
    /// `host:port` alone. As in the original `tcp://` means TLS; without a port it is 8883.
    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        let fail = |why| EndpointError {
            text: text.chars().take(256).collect(),
            why,
        };
        if text.contains('\0') {
            return Err(fail("it contains NUL"));
        }
        if let Some(rest) = text.strip_prefix("unix://") {
            return socket(rest).ok_or_else(|| fail("the path of the socket must be absolute"));
        }
        if text.starts_with(['@', '/']) {
            return socket(text).ok_or_else(|| fail("the socket has no name"));
        }
        let address = match text.split_once("://") {
            Some(("tcp" | "tls" | "mqtts", address)) => address,
            Some(("mqtt", _)) => return Err(fail("the hub takes no unencrypted TCP")),
            Some(_) => return Err(fail("this scheme is not supported")),
            None if text.contains(':') => text,
            None => return Err(fail("the port is missing")),
        };
        let (host, port) = host_and_port(address.strip_suffix('/').unwrap_or(address))
            .ok_or_else(|| fail("host or port is not valid"))?;
        Ok(Endpoint::Tls { host, port })
    }
}

fn socket(text: &str) -> Option<Endpoint> {
    match text.strip_prefix('@') {
        Some("") => None,
        Some(name) => Some(Endpoint::Abstract(name.to_owned())),
        None if text.len() > 1 && text.starts_with('/') => Some(Endpoint::Unix(text.into())),
        None => None,
    }
}

fn host_and_port(address: &str) -> Option<(String, u16)> {
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port),
            None if after.is_empty() => None,
            None => return None,
        };
        (host, port)
    } else {
        match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        }
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => TLS_PORT,
    };
    let is_plain = |host: &str| !host.contains(['/', '@', '?', '#', '<', '>', ' ']);
    (!host.is_empty() && is_plain(host)).then(|| (host.to_owned(), port))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Abstract(name) => write!(f, "unix://@{name}"),
            Endpoint::Tls { host, port } if host.contains(':') => {
                write!(f, "mqtts://[{host}]:{port}")
            }
            Endpoint::Tls { host, port } => write!(f, "mqtts://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, shown) in [
            ("unix:///run/x.sock", "unix:///run/x.sock"),
            ("/run/x.sock", "unix:///run/x.sock"),
            ("unix://@/MqttInMemUDSProd", "unix://@/MqttInMemUDSProd"),
            ("@/MqttInMemUDSProd", "unix://@/MqttInMemUDSProd"),
            ("tcp://127.0.0.1:8883", "mqtts://127.0.0.1:8883"),
            ("tls://hub:1", "mqtts://hub:1"),
            ("mqtts://hub/", "mqtts://hub:8883"),
            ("hub.local:8883", "mqtts://hub.local:8883"),
            ("[::1]:8883", "mqtts://[::1]:8883"),
            ("mqtts://[::1]", "mqtts://[::1]:8883"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(shown.parse(), Ok(endpoint));
        }
        for bad in [
            "",
            "hub",
            "hub:",
            "hub:0",
            "hub:70000",
            "wss://hub:1",
            "mqtt://hub:1",
            "unix://",
            "unix://x",
            "unix:///",
            "@",
            ":1",
            "[::1",
            "[x]:1",
            "a\0:1",
            "tcp://<nil>:8883",
        ] {
            let error = bad.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains("expected mqtts://"), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn reading_and_writing_agree(text in "(unix://|tcp://|mqtts://)?[@/\\[\\]:a-z0-9.]{0,20}") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
            }
        }
    }
}
