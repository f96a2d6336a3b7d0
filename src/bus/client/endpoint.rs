//! Where a bus can be reached, and the spellings of it (HP 1.11, 1.12).
//!
//! Invariant: what is written is read back as the same endpoint.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The port of MQTT over TLS when none is named.
pub const TLS_PORT: u16 = 8883;

/// A place where a bus may listen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A socket file.
    Unix(PathBuf),
    /// A socket in Linux' abstract namespace, by its name without the leading NUL.
    Abstract(String),
    /// TLS over TCP; the certificate must be for `host`.
    Tls {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
}

/// Why a text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// A scheme that the hub does not speak.
    #[error("'{url}' has the scheme '{scheme}'; use mqtts://host:port or unix:///path")]
    Scheme {
        /// The text.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// No host, or no path.
    #[error("'{url}' names no host and no path; use mqtts://host:port or unix:///path")]
    Empty {
        /// The text.
        url: String,
    },
    /// What stands for the port is none.
    #[error("'{url}' has no valid port; use mqtts://host:port")]
    Port {
        /// The text.
        url: String,
    },
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(url: &str) -> Result<Self, EndpointError> {
        let empty = || EndpointError::Empty {
            url: url.to_owned(),
        };
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        match scheme {
            "unix" | "" if rest.starts_with('@') => match rest.trim_start_matches('@') {
                "" | "/" => Err(empty()),
                name => Ok(Endpoint::Abstract(name.to_owned())),
            },
            "unix" if rest.starts_with('/') && rest.len() > 1 => Ok(Endpoint::Unix(rest.into())),
            "unix" => Err(empty()),
            // The original's URLs say tcp and mean TLS (HP 1.12).
            "" | "tcp" | "tcps" | "tls" | "mqtts" | "ssl" => tls(url, rest),
            other => Err(EndpointError::Scheme {
                url: url.to_owned(),
                scheme: other.to_owned(),
            }),
        }
    }
}

fn tls(url: &str, rest: &str) -> Result<Endpoint, EndpointError> {
    let authority = rest.split('/').next().unwrap_or_default();
    let bad_port = || EndpointError::Port {
        url: url.to_owned(),
    };
    let (host, port) = match authority.strip_prefix('[') {
        // An IPv6 address in brackets.
        Some(bracketed) => {
            let (host, after) = bracketed.split_once(']').ok_or_else(bad_port)?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(bad_port()),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err(EndpointError::Empty {
            url: url.to_owned(),
        });
    }
    let port = match port {
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(bad_port)?,
        None => TLS_PORT,
    };
    Ok(Endpoint::Tls {
        host: host.to_owned(),
        port,
    })
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

    #[test]
    fn the_spellings_of_the_original_and_ours() {
        let tls = |host: &str, port| Endpoint::Tls {
            host: host.to_owned(),
            port,
        };
        for (text, endpoint) in [
            (
                "unix://@/MqttInMemUDSProd",
                Endpoint::Abstract("/MqttInMemUDSProd".to_owned()),
            ),
            (
                "@/MqttInMemUDSProd",
                Endpoint::Abstract("/MqttInMemUDSProd".to_owned()),
            ),
            (
                "unix:///run/hiveot/mqttcore.sock",
                Endpoint::Unix("/run/hiveot/mqttcore.sock".into()),
            ),
            ("tcp://192.168.1.10:8883", tls("192.168.1.10", 8883)),
            ("mqtts://hub.local", tls("hub.local", 8883)),
            ("localhost:18883", tls("localhost", 18883)),
            ("mqtts://[::1]:1/x", tls("::1", 1)),
        ] {
            assert_eq!(text.parse(), Ok(endpoint.clone()), "{text}");
            assert_eq!(endpoint.to_string().parse(), Ok(endpoint), "{text}");
        }
        for text in [
            "",
            "unix://",
            "unix://@",
            "http://x",
            "mqtts://",
            "h:0",
            "h:x",
            "[::1",
            "mqtts://:1",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
