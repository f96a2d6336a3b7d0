//! The keys `ready`, `watchdog` and `start` of a plugin.
//!
//! Invariant: a watchdog only where somebody listens to the signs it waits for.

use super::blocks::START_TIMEOUT;
use super::keys::{OF_PLUGIN_START, OF_READY, OfPluginStart, OfReady};
use super::reader::{At, Reader};
use crate::app::config::PluginConfig;
use crate::app::config::tree::Value;
use actors::ports::{ConnectTarget, Teller};
use logs::LinePattern;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

const GOOD_READY: &str =
    "started, notify, bus, {log: \"a regular expression\"} or {connect: \"host:port or path\"}";

const GOOD_PATTERN: &str =
    "a regular expression that a line of its output has when it is ready, of at most 1 KiB";

const GOOD_TARGET: &str = "host:port, or the path of a socket, with a / in it";

const WORDS: [(&str, Word); 3] = [
    ("started", Word::Started),
    ("notify", Word::Notify),
    ("bus", Word::Bus),
];

/// What can be said of readiness in one word.
#[derive(Debug, Clone, Copy)]
enum Word {
    Started,
    Notify,
    Bus,
}

/// Shorter ones would be missed by a machine that is busy.
const WATCHDOG: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(24 * 3600);

/// The longest path of a socket, in bytes.
const LONGEST_SOCKET: usize = 107;

impl Reader {
    pub fn ready(&mut self, at: &At<'_>) -> Option<Teller> {
        match &at.node.value {
            Value::Map(_) => self.ready_map(at),
            Value::Plain(_) | Value::Quoted(_) => self.word(at, &WORDS).map(|word| match word {
                Word::Started => Teller::Started,
                Word::Notify => Teller::Itself,
                Word::Bus => Teller::Login,
            }),
            Value::List(_) => {
                self.wrong_value(at, GOOD_READY);
                None
            }
        }
    }

    fn ready_map(&mut self, at: &At<'_>) -> Option<Teller> {
        let before = self.problems.len();
        let mut tellers = Vec::new();
        for (key, at) in self.fields(at, &OF_READY) {
            let teller = match key {
                OfReady::Log => self.pattern(&at).map(Teller::Log),
                OfReady::Connect => self.target(&at).map(Teller::Connect),
            };
            tellers.extend(teller);
        }
        match (tellers.pop(), tellers.is_empty()) {
            (Some(teller), true) => Some(teller),
            (Some(_), false) => {
                let wrong = "has both log and connect";
                self.problem(at.node.place, &at.path, wrong, "one of the two");
                None
            }
            (None, _) => {
                if self.problems.len() == before {
                    self.wrong_value(at, GOOD_READY);
                }
                None
            }
        }
    }

    fn pattern(&mut self, at: &At<'_>) -> Option<LinePattern> {
        let text = self.text(at, GOOD_PATTERN)?;
        match LinePattern::new(text) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                self.problem(at.node.place, &at.path, error.to_string(), GOOD_PATTERN);
                None
            }
        }
    }

    fn target(&mut self, at: &At<'_>) -> Option<ConnectTarget> {
        let text = self.text(at, GOOD_TARGET)?;
        let target = target(text);
        if target.is_none() {
            self.wrong_value(at, GOOD_TARGET);
        }
        target
    }

    pub fn plugin_start(&mut self, at: &At<'_>, timeout: &mut Duration) {
        for (key, at) in self.fields(at, &OF_PLUGIN_START) {
            match key {
                OfPluginStart::Timeout => self.duration(&at, START_TIMEOUT, timeout),
            }
        }
    }

    pub fn watchdog(&mut self, at: &At<'_>) -> Option<Duration> {
        let mut watchdog = Duration::ZERO;
        self.duration(at, WATCHDOG, &mut watchdog);
        Some(watchdog).filter(|read| !read.is_zero())
    }

    /// The signs a watchdog waits for come the way on which readiness is told.
    pub fn watchdog_is_heard(&mut self, at: &At<'_>, plugin: &PluginConfig) {
        match plugin.ready {
            Teller::Itself => {}
            Teller::Started | Teller::Login | Teller::Log(_) | Teller::Connect(_) => {
                let wrong = "is given, but nobody listens for its signs";
                self.problem(at.node.place, &at.path, wrong, "ready: notify beside it");
            }
        }
    }
}

/// A text with a `/` is a path.
fn target(text: &str) -> Option<ConnectTarget> {
    if text.contains('/') {
        let others_home = text.starts_with('~') && !text.starts_with("~/");
        let fits = text.len() <= LONGEST_SOCKET && !text.contains('\0');
        return (fits && !others_home).then(|| ConnectTarget::Unix(PathBuf::from(text)));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
        None if host.is_empty() || host.contains([':', ' ', '[', ']']) => return None,
        None => host.to_owned(),
    };
    Some(ConnectTarget::Tcp { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_address_or_a_path() {
        for (text, shown) in [
            ("localhost:80", "localhost:80"),
            ("127.0.0.1:65535", "127.0.0.1:65535"),
            ("[::1]:80", "[::1]:80"),
            ("run/x.sock", "run/x.sock"),
            ("/run/x:80", "/run/x:80"),
            ("~/x", "~/x"),
        ] {
            assert_eq!(target(text).map(|t| t.to_string()).as_deref(), Some(shown));
        }
        let long = "/x".repeat(54);
        for text in [
            "", "80", ":80", "h:0", "h:65536", "h:", "::1:80", "[x]:80", "a b:1", "~bob/x", &long,
        ] {
            assert_eq!(target(text), None, "{text}");
        }
    }
}
