//! The key `corebin`.
//!
//! Invariant: the map form is whole or not there; what it lacks is said.

use super::is_file_name;
use super::keys::{OF_CORE, OfCore};
use super::reader::{At, Reader};
use crate::app::config::tree::Value;
use crate::app::config::{CoreAuth, CoreConfig, CoreReady, CoreSearch};
use bus::client::Endpoint;
use supervision::limits::Limits;

const GOOD_NAME: &str = "the file name of a program in the bin folder, like mqttcore, or for another broker a map \
     with bin, args, url, auth, ready and limits";

const GOOD_BIN: &str = "the file name of a program in the bin folder or in PATH, or its whole path";

const GOOD_URL: &str = "where the broker listens, mqtts://host:port or unix:///path";

const GOOD_TLS_URL: &str =
    "an address with TLS, mqtts://host:port: certificates serve nowhere else";

const AUTHS: [(&str, CoreAuth); 2] = [
    ("token", CoreAuth::Token),
    ("certificate", CoreAuth::Certificate),
];

const READIES: [(&str, CoreReady); 2] = [("bus", CoreReady::Bus), ("notify", CoreReady::Notify)];

impl Reader {
    /// `limits` are those of all.
    pub fn core(&mut self, at: &At<'_>, limits: Limits) -> Option<CoreConfig> {
        match &at.node.value {
            Value::Map(_) => self.core_map(at, limits),
            Value::Plain(_) | Value::Quoted(_) | Value::List(_) => {
                let text = self.text(at, GOOD_NAME)?;
                if text.is_empty() {
                    return None;
                }
                if !is_file_name(text) {
                    self.wrong_value(at, GOOD_NAME);
                    return None;
                }
                Some(CoreConfig::named(text))
            }
        }
    }

    fn core_map(&mut self, at: &At<'_>, limits: Limits) -> Option<CoreConfig> {
        let before = self.problems.len();
        let mut core = CoreConfig {
            search: CoreSearch::Everywhere,
            ..CoreConfig::named("")
        };
        let (mut bin_at, mut url_at) = (None, None);
        for (key, at) in self.fields(at, &OF_CORE) {
            match key {
                OfCore::Bin => {
                    core.bin = self.core_bin(&at).unwrap_or_default();
                    bin_at = Some(at);
                }
                OfCore::Args => core.args = self.args(&at),
                OfCore::Url => {
                    core.url = self.url(&at);
                    url_at = Some(at);
                }
                OfCore::Auth => core.auth = self.word(&at, &AUTHS).unwrap_or_default(),
                OfCore::Limits => self.limits(&at, core.limits.insert(limits)),
                OfCore::Ready => core.ready = self.word(&at, &READIES).unwrap_or_default(),
            }
        }
        if bin_at.is_none() {
            let missing = at.path.key("bin");
            self.problem(at.node.place, &missing, "is missing", GOOD_BIN);
        }
        match (core.auth, url_at, &core.url) {
            (CoreAuth::Certificate, None, _) => {
                let missing = at.path.key("url");
                let wrong = "is missing, but needed with auth: certificate";
                self.problem(at.node.place, &missing, wrong, GOOD_TLS_URL);
            }
            (CoreAuth::Certificate, Some(at), Some(Endpoint::Unix(_) | Endpoint::Abstract(_))) => {
                self.wrong_value(&at, GOOD_TLS_URL)
            }
            (CoreAuth::Certificate, Some(_), Some(Endpoint::Tls { .. }) | None)
            | (CoreAuth::Token, _, _) => {}
        }
        (self.problems.len() == before).then_some(core)
    }

    fn core_bin(&mut self, at: &At<'_>) -> Option<String> {
        let text = self.text(at, GOOD_BIN)?;
        let is_path = text.starts_with('/') && !text.ends_with('/');
        if !is_path && !is_file_name(text) {
            self.wrong_value(at, GOOD_BIN);
            return None;
        }
        Some(text.to_owned())
    }

    fn url(&mut self, at: &At<'_>) -> Option<Endpoint> {
        let text = self.text(at, GOOD_URL)?;
        let url = text.parse().ok();
        if url.is_none() {
            self.wrong_value(at, GOOD_URL);
        }
        url
    }
}
