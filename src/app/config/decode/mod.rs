//! From the tree of a file to a [`Config`].
//!
//! Invariants: all problems are found in one pass; a tree without problems gives a whole [`Config`]; nothing is read but the
//! tree, so the same file always gives the same.

mod blocks;
mod core;
mod keys;
mod limits;
mod needs;
mod plugins;
mod reader;
mod ready;

use super::problem::{KeyPath, Problem};
use super::tree::Node;
use super::{Config, CoreAuth};
use crate::app::launcher::LogLevel;
use keys::{TOP, Top};
use os::cgroup::CgroupUse;
use reader::{At, Reader, text_of};
use supervision::policy::RestartMode;

const LEVELS: [(&str, ()); 5] = [
    ("debug", ()),
    ("info", ()),
    ("warning", ()),
    ("warn", ()),
    ("error", ()),
];

const CGROUPS: [(&str, CgroupUse); 2] = [("auto", CgroupUse::Auto), ("off", CgroupUse::Off)];

/// Reads a document; `client_id` is the launcher's own, which no plugin may have. The problems are in no order.
#[must_use]
pub fn decode(root: Option<&Node>, client_id: &str) -> (Config, Vec<Problem>) {
    let mut reader = Reader::default();
    let mut config = Config::default();
    if let Some(node) = root {
        let path = KeyPath::top();
        reader.file(&At { node, path }, client_id, &mut config);
    }
    (config, reader.problems)
}

impl Reader {
    fn file(&mut self, at: &At<'_>, client_id: &str, config: &mut Config) {
        let (mut creds, mut restart, mut autostart, mut plugins) = (None, None, None, None);
        let mut core = None;
        let mut auto_restart = true;
        for (key, at) in self.fields(at, &TOP) {
            match key {
                Top::AttachStderr => self.switch(&at, &mut config.attach_stderr),
                Top::AttachStdout => self.switch(&at, &mut config.attach_stdout),
                Top::AutoRestart => self.switch(&at, &mut auto_restart),
                Top::Cgroups => {
                    if let Some(cgroups) = self.word(&at, &CGROUPS) {
                        config.cgroups = cgroups;
                    }
                }
                Top::CreatePluginCred => self.switch(&at, &mut config.create_plugin_cred),
                Top::LogToFile => self.switch(&at, &mut config.log_to_file),
                Top::LogPlugins => self.switch(&at, &mut config.log_plugins),
                Top::LogLevel => config.log_level = self.level(&at),
                Top::CoreBin => core = Some(at),
                Top::Creds => {
                    self.creds(&at, &mut config.creds);
                    creds = Some(at);
                }
                Top::Events => self.events(&at, &mut config.events_spool),
                Top::Start => self.start(&at, &mut config.start),
                Top::Stop => self.stop(&at, &mut config.stop),
                Top::Logs => self.logs(&at, &mut config.logs),
                Top::Limits => self.limits(&at, &mut config.limits),
                Top::Monitor => self.monitor(&at, &mut config.sampling),
                Top::Restart => restart = Some(at),
                Top::AutoStart => autostart = Some(at),
                Top::Plugins => plugins = Some(at),
            }
        }
        // The rest builds on what was read above, wherever it stands in the file.
        if !auto_restart {
            config.restart.mode = RestartMode::Never;
        }
        if let Some(at) = restart {
            self.restart(&at, &mut config.restart);
        }
        if let Some(at) = core {
            config.core = self.core(&at, config.limits);
        }
        if let Some(core) = &config.core
            && core.auth == CoreAuth::Certificate
            && config.create_plugin_cred
            && !config.creds.client_cert
            && let Some(at) = creds
        {
            self.problem(
                at.node.place,
                &at.path.key("clientCert"),
                "is false, but corebin has auth: certificate: no plugin could log in",
                "true, or createPluginCred: false when the certificates are there",
            );
        }
        if let Some(at) = plugins {
            self.plugins(&at, client_id, config);
            self.no_circles(&at, config);
        }
        if let Some(at) = autostart {
            self.autostart(&at, client_id, config);
        }
    }

    fn level(&mut self, at: &At<'_>) -> Option<LogLevel> {
        // The original takes any word and means info by it; a mistyped level is better told.
        if text_of(at.node) == Some("") {
            return None;
        }
        self.word(at, &LEVELS)?;
        text_of(at.node).and_then(LogLevel::strict)
    }
}

/// A name of a file in a folder, neither hidden nor a path.
fn is_file_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && !text.starts_with('.') && !text.contains('/')
}
