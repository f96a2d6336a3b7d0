//! `mqttcore.yaml` (HP 1.4): the original's keys.
//!
//! Invariants: an unknown key is an error with its line; a key of the original that has no effect yet is accepted and
//! named, so that the log can say so.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::auth::Validity;

/// The abstract socket of the original, without the leading `@` (HP 1.12).
pub const DEFAULT_SOCKET: &str = "/MqttInMemUDSProd";
/// Port of MQTT over TLS.
pub const DEFAULT_PORT: u16 = 8883;

/// A file that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// What is in it.
    #[error("{path}:{place} {fault}")]
    Content {
        /// The file.
        path: PathBuf,
        /// `line:column:`, where known.
        place: String,
        /// What is wrong; its text is part of this one's, which would say nothing without.
        fault: serde_yaml::Error,
    },
    /// A value that is none.
    #[error("{path}: {key}: '{found}' is none of {expected}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// What was given.
        found: String,
        /// What can be.
        expected: &'static str,
    },
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct File {
    ca_cert_file: Option<PathBuf>,
    ca_key_file: Option<PathBuf>,
    server_cert_file: Option<PathBuf>,
    server_key_file: Option<PathBuf>,
    mqttserver: Server,
    natsserver: serde_yaml::Value,
    auth: AuthPart,
    #[serde(rename = "enableMDNS")]
    enable_mdns: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Server {
    host: Option<String>,
    port: Option<u16>,
    ws_port: Option<u16>,
    log_level: Option<String>,
    log_file: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    no_auto_start: Option<bool>,
    #[serde(rename = "inMemUDSName")]
    in_mem_uds_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct AuthPart {
    password_file: Option<PathBuf>,
    encryption: Option<String>,
    device_token_validity_days: Option<u32>,
    service_token_validity_days: Option<u32>,
    user_token_validity_days: Option<u32>,
    no_auto_start: Option<bool>,
    admin_user_key_file: Option<PathBuf>,
    admin_user_token_file: Option<PathBuf>,
    launcher_key_file: Option<PathBuf>,
    launcher_token_file: Option<PathBuf>,
}

/// What a configuration file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name or address in the URL and in the server certificate; none = found out.
    pub host: Option<String>,
    /// Port of MQTT over TLS; 0 = a free one.
    pub port: u16,
    /// Name of the abstract socket; none = there is none.
    pub abstract_socket: Option<String>,
    /// File of the clients; relative to `{stores}/auth`.
    pub password_file: PathBuf,
    /// Validity of tokens.
    pub validity: Validity,
    /// Level of the log.
    pub log_level: Option<String>,
    /// Keys that were given and have no effect.
    pub without_effect: Vec<&'static str>,
}

impl Default for Config {
    fn default() -> Self {
        Config::from(File::default())
    }
}

impl Config {
    /// Reads the file at `path`. None when there is none. Blocks.
    ///
    /// # Errors
    /// It cannot be read, or something in it is wrong.
    pub fn load(path: &Path) -> Result<Option<Config>, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Config::parse(path, &text).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ConfigError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Reads a text; `path` is for the errors.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        // A file of comments only is an empty document.
        let file: Option<File> = serde_yaml::from_str(text).map_err(|fault| {
            let place = fault
                .location()
                .map(|at| format!("{}:{}:", at.line(), at.column()));
            ConfigError::Content {
                path: path.to_owned(),
                place: place.unwrap_or_default(),
                fault,
            }
        })?;
        let file = file.unwrap_or_default();
        if let Some(found) = file.auth.encryption.as_deref().filter(|e| *e != "bcrypt") {
            return Err(ConfigError::Value {
                path: path.to_owned(),
                key: "auth.encryption",
                found: found.to_owned(),
                expected: "bcrypt",
            });
        }
        Ok(Config::from(file))
    }
}

impl From<File> for Config {
    fn from(file: File) -> Self {
        let server = &file.mqttserver;
        let auth = &file.auth;
        let without_effect = [
            ("caCertFile", file.ca_cert_file.is_some()),
            ("caKeyFile", file.ca_key_file.is_some()),
            ("serverCertFile", file.server_cert_file.is_some()),
            ("serverKeyFile", file.server_key_file.is_some()),
            ("natsserver", !file.natsserver.is_null()),
            ("enableMDNS", file.enable_mdns == Some(true)),
            (
                "mqttserver.wsPort",
                server.ws_port.is_some_and(|port| port != 0),
            ),
            ("mqttserver.logFile", server.log_file.is_some()),
            ("mqttserver.dataDir", server.data_dir.is_some()),
            ("mqttserver.noAutoStart", server.no_auto_start == Some(true)),
            ("auth.noAutoStart", auth.no_auto_start == Some(true)),
            ("auth.adminUserKeyFile", auth.admin_user_key_file.is_some()),
            (
                "auth.adminUserTokenFile",
                auth.admin_user_token_file.is_some(),
            ),
            ("auth.launcherKeyFile", auth.launcher_key_file.is_some()),
            ("auth.launcherTokenFile", auth.launcher_token_file.is_some()),
        ];
        let default = Validity::default();
        let days =
            |given: Option<u32>, default: u32| given.filter(|days| *days > 0).unwrap_or(default);
        Config {
            host: server.host.clone().filter(|host| !host.is_empty()),
            port: server.port.unwrap_or(DEFAULT_PORT),
            abstract_socket: match server.in_mem_uds_name.as_deref() {
                None => Some(DEFAULT_SOCKET.to_owned()),
                Some(name) => Some(name.strip_prefix('@').unwrap_or(name).to_owned()),
            }
            .filter(|name| !name.is_empty()),
            password_file: auth
                .password_file
                .clone()
                .unwrap_or_else(|| "hub.passwd".into()),
            validity: Validity {
                device: days(auth.device_token_validity_days, default.device),
                service: days(auth.service_token_validity_days, default.service),
                user: days(auth.user_token_validity_days, default.user),
            },
            log_level: server.log_level.clone(),
            without_effect: without_effect
                .into_iter()
                .filter(|(_, given)| *given)
                .map(|(key, _)| key)
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("/h/mqttcore.yaml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_the_default() {
        for text in ["", "# nothing\n", "{}", "mqttserver: {}\nauth: {}\n"] {
            assert_eq!(parse(text), Ok(Config::default()), "{text}");
        }
        let config = Config::default();
        assert_eq!(config.port, 8883);
        assert_eq!(config.abstract_socket.as_deref(), Some("/MqttInMemUDSProd"));
        assert_eq!(config.without_effect, Vec::<&str>::new());
    }

    #[test]
    fn the_originals_keys_are_known() {
        let text = "
caCertFile: a
caKeyFile: b
serverCertFile: c
serverKeyFile: d
enableMDNS: true
mqttserver: {host: box, port: 0, wsPort: 8884, logLevel: info, logFile: l, dataDir: d, noAutoStart: false, inMemUDSName: '@/x'}
natsserver: {port: 4222, anything: 1}
auth: {passwordFile: p, encryption: bcrypt, deviceTokenValidityDays: 1, serviceTokenValidityDays: 2, userTokenValidityDays: 0, noAutoStart: false}
";
        let config = parse(text).unwrap();
        assert_eq!((config.host.as_deref(), config.port), (Some("box"), 0));
        assert_eq!(config.abstract_socket.as_deref(), Some("/x"));
        assert_eq!(
            config.validity,
            Validity {
                device: 1,
                service: 2,
                user: 30
            }
        );
        assert_eq!(
            config.without_effect,
            [
                "caCertFile",
                "caKeyFile",
                "serverCertFile",
                "serverKeyFile",
                "natsserver",
                "enableMDNS",
                "mqttserver.wsPort",
                "mqttserver.logFile",
                "mqttserver.dataDir"
            ]
        );
        let off = parse("mqttserver: {inMemUDSName: '', wsPort: 0}\nenableMDNS: false").unwrap();
        assert_eq!(off.abstract_socket, None);
        assert!(off.without_effect.is_empty());
    }

    #[test]
    fn errors_name_file_line_and_key() {
        for (text, parts) in [
            ("mqttserver:\n  prot: 1\n", ["/h/mqttcore.yaml:2:", "prot"]),
            ("enableMdns: true\n", ["/h/mqttcore.yaml:1:", "enableMdns"]),
            (
                "mqttserver:\n  port: 70000\n",
                ["/h/mqttcore.yaml:2:", "port"],
            ),
            (
                "mqttserver:\n  port: 1\n  port: 2\n",
                ["/h/mqttcore.yaml:", "port"],
            ),
            (
                "auth: {encryption: argon2id}",
                ["auth.encryption", "argon2id"],
            ),
            ("mqttserver: [", ["/h/mqttcore.yaml:", ""]),
        ] {
            let error = parse(text).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{text:?}: {error}");
            }
        }
    }
}
