//! `mqttcore.yaml` (HP 1.4): the original's keys.
//!
//! Invariants: all that is wrong is told at once, each with its place; an unknown key is an error; a key of the original
//! that has no effect is accepted and named, so that the log can say so, and why.

mod section;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::limits::Limits;
use crate::validity::Validity;
use section::{Problem, Section, quoted};

/// The abstract socket of the original, without the leading `@` (HP 1.12).
pub const DEFAULT_SOCKET: &str = "/MqttInMemUDSProd";
/// Port of MQTT over TLS.
pub const DEFAULT_PORT: u16 = 8883;
/// Port of MQTT in a secure websocket.
pub const DEFAULT_WS_PORT: u16 = 8884;

const NATS: &str = "this core speaks MQTT only";
const LOG_FILE: &str =
    "the core's log goes to standard error, which the launcher keeps in core.log and rotates";
const DATA_DIR: &str = "the core keeps no messages on disk";
const NO_START: &str = "a core is a message server with its auth service; leave corebin out of launcher.yaml to start none";

/// The most bytes of a file that are read, as the launcher has it for its own.
const MAX_BYTES: u64 = 1024 * 1024;

/// A file that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// What is in it: a line for each problem, in the order of the file.
    #[error("{}", lines.join("\n"))]
    Content {
        /// `{file}:{line}:{column}: {key}: {what is wrong}; expected {what}`; at least one.
        lines: Vec<String>,
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

/// Files of keys, certificates and tokens that are not where they are by default; relative to the certs folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFiles {
    /// The CA's certificate.
    pub ca_cert: Option<PathBuf>,
    /// The CA's key.
    pub ca_key: Option<PathBuf>,
    /// The certificate that clients are shown.
    pub server_cert: Option<PathBuf>,
    /// Its key.
    pub server_key: Option<PathBuf>,
    /// The administrator's key.
    pub admin_key: Option<PathBuf>,
    /// The administrator's token.
    pub admin_token: Option<PathBuf>,
    /// The launcher's key.
    pub launcher_key: Option<PathBuf>,
    /// The launcher's token.
    pub launcher_token: Option<PathBuf>,
}

/// What a configuration file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name or address in the URL and in the server certificate; none = found out.
    pub host: Option<String>,
    /// Port of MQTT over TLS; 0 = a free one.
    pub port: u16,
    /// Port of MQTT in a secure websocket, 0 = a free one; none = there is no websocket (`wsPort: 0`).
    pub ws_port: Option<u16>,
    /// Whether the core goes on when that port is taken: it was not asked for, and `port: 0` tells that this hub takes
    /// what is free.
    pub ws_port_may_be_taken: bool,
    /// Port of MQTT without TLS on the loopback addresses, 0 = a free one; none = there is none.
    pub loopback_port: Option<u16>,
    /// Files of keys, certificates and tokens elsewhere.
    pub files: KeyFiles,
    /// What the core allows at most.
    pub limits: Limits,
    /// Name of the abstract socket; none = there is none.
    pub abstract_socket: Option<String>,
    /// File of the clients; relative to `{stores}/auth`.
    pub password_file: PathBuf,
    /// Validity of tokens.
    pub validity: Validity,
    /// Level of the log.
    pub log_level: Option<String>,
    /// `enableMDNS`: whether the network is told where the core is.
    pub announced: bool,
    /// Keys that were given and have no effect, in the original either, and why.
    pub without_effect: Vec<(&'static str, &'static str)>,
}

impl Default for Config {
    fn default() -> Self {
        Config::decode(
            Section::whole(serde_yaml::Value::Null, &mut Vec::new()),
            &mut Vec::new(),
        )
    }
}

impl Config {
    /// Reads the file at `path`. None when there is none. Blocks.
    ///
    /// # Errors
    /// It cannot be read, or something in it is wrong.
    pub fn load(path: &Path) -> Result<Option<Config>, ConfigError> {
        match read_bounded(path) {
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
    /// All that is wrong, and where.
    pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        // A file of comments only is an empty document.
        let value: Option<serde_yaml::Value> = serde_yaml::from_str(text).map_err(|fault| {
            let place = fault
                .location()
                .map(|at| format!("{}:{}: ", at.line(), at.column()));
            let place = place.unwrap_or_else(|| " ".to_owned());
            ConfigError::Content {
                lines: vec![format!("{}:{place}is not YAML: {fault}", path.display())],
            }
        })?;
        let mut problems = Vec::new();
        let whole = Section::whole(value.unwrap_or_default(), &mut problems);
        let config = Config::decode(whole, &mut problems);
        if problems.is_empty() {
            return Ok(config);
        }
        let mut lines: Vec<_> = problems
            .iter()
            .map(|problem| problem.line(path, text))
            .collect();
        lines.sort();
        Err(ConfigError::Content {
            lines: lines.into_iter().map(|(_, line)| line).collect(),
        })
    }

    /// What the keys say; whatever is wrong is added to `problems`.
    fn decode(mut file: Section, problems: &mut Vec<Problem>) -> Config {
        let mut config = Config {
            host: None,
            port: DEFAULT_PORT,
            ws_port: None,
            ws_port_may_be_taken: false,
            loopback_port: None,
            files: KeyFiles::default(),
            limits: Limits::default(),
            abstract_socket: None,
            password_file: PathBuf::new(),
            validity: Validity::default(),
            log_level: None,
            announced: true,
            without_effect: Vec::new(),
        };
        for (key, to) in [
            ("caCertFile", &mut config.files.ca_cert),
            ("caKeyFile", &mut config.files.ca_key),
            ("serverCertFile", &mut config.files.server_cert),
            ("serverKeyFile", &mut config.files.server_key),
        ] {
            *to = file
                .take(key, problems)
                .filter(|path: &PathBuf| is_given(path));
        }
        config.ignore(file.anything("natsserver").is_some(), "natsserver", NATS);
        config.announced = file.take("enableMDNS", problems).unwrap_or(true);
        let server = file.part("mqttserver", problems);
        config.decode_server(server, problems);
        let auth = file.part("auth", problems);
        config.decode_auth(auth, problems);
        file.finish(problems);
        config
    }

    fn decode_server(&mut self, mut server: Section, problems: &mut Vec<Problem>) {
        self.host = server
            .take::<String>("host", problems)
            .filter(|host| !host.is_empty());
        self.port = server.take("port", problems).unwrap_or(DEFAULT_PORT);
        self.abstract_socket = server
            .take::<String>("inMemUDSName", problems)
            .map_or(Some(DEFAULT_SOCKET.to_owned()), |name| {
                Some(name.strip_prefix('@').unwrap_or(&name).to_owned())
            })
            .filter(|name| !name.is_empty());
        self.log_level = server.take("logLevel", problems);
        let ws_port: Option<u16> = server.take("wsPort", problems);
        self.ws_port_may_be_taken = ws_port.is_none() && self.port == 0;
        self.ws_port = Some(ws_port.unwrap_or(DEFAULT_WS_PORT)).filter(|port| *port != 0);
        self.loopback_port = server
            .take("loopbackPort", problems)
            .filter(|port| *port != 0);
        let log_file: Option<PathBuf> = server.take("logFile", problems);
        self.ignore(log_file.is_some(), "mqttserver.logFile", LOG_FILE);
        let data_dir: Option<PathBuf> = server.take("dataDir", problems);
        self.ignore(data_dir.is_some(), "mqttserver.dataDir", DATA_DIR);
        let no_start: Option<bool> = server.take("noAutoStart", problems);
        let key = "mqttserver.noAutoStart";
        self.ignore(no_start == Some(true), key, NO_START);
        let limits = server.part("limits", problems);
        self.decode_limits(limits, problems);
        server.finish(problems);
    }

    fn decode_limits(&mut self, mut limits: Section, problems: &mut Vec<Problem>) {
        const MIB: usize = 1024 * 1024;
        let Limits {
            not_logged_in,
            connections,
            login,
            connect_bytes,
            packet_bytes,
            in_flight,
            subscriptions,
            filter_bytes,
            shared_filters,
            retained_messages,
            retained_bytes,
            queued_messages,
            queued_bytes,
            all_queued_bytes,
            will_bytes,
            waiting_requests,
            free_guesses,
            address_free_guesses,
            guess_delay,
            guess_delay_max,
        } = &mut self.limits;
        for (key, limit, range) in [
            ("notLoggedIn", not_logged_in, 1..=65_536),
            ("connections", connections, 1..=1_000_000),
            ("connectBytes", connect_bytes, 4096..=MIB),
            ("packetBytes", packet_bytes, 1024..=256 * MIB),
            ("subscriptions", subscriptions, 1..=1_000_000),
            ("filterBytes", filter_bytes, 64..=65_535),
            ("sharedFilters", shared_filters, 1..=1_000_000),
            ("retainedMessages", retained_messages, 1..=10_000_000),
            ("retainedBytes", retained_bytes, 1..=256 * MIB),
            ("queuedMessages", queued_messages, 1..=10_000_000),
            ("queuedBytes", queued_bytes, 1024..=4096 * MIB),
            ("allQueuedBytes", all_queued_bytes, 1024..=65_536 * MIB),
            ("willBytes", will_bytes, 64..=MIB),
            ("waitingRequests", waiting_requests, 1..=1_000_000),
        ] {
            limits.take_within(key, limit, range, problems);
        }
        limits.take_within("inFlight", in_flight, 1..=65_535, problems);
        for (key, limit) in [
            ("freeGuesses", free_guesses),
            ("addressFreeGuesses", address_free_guesses),
        ] {
            limits.take_within(key, limit, 1..=1_000_000, problems);
        }
        for (key, limit, range) in [
            ("loginSeconds", login, 1..=600),
            ("guessDelaySeconds", guess_delay, 1..=3600),
            ("guessDelayMaxSeconds", guess_delay_max, 1..=86_400),
        ] {
            let mut seconds = limit.as_secs();
            limits.take_within(key, &mut seconds, range, problems);
            *limit = Duration::from_secs(seconds);
        }
        limits.finish(problems);
    }

    fn decode_auth(&mut self, mut auth: Section, problems: &mut Vec<Problem>) {
        self.password_file = auth
            .take("passwordFile", problems)
            .unwrap_or_else(|| "hub.passwd".into());
        let encryption: Option<String> = auth.take("encryption", problems);
        if let Some(found) = encryption.filter(|found| found != "bcrypt") {
            auth.refuse("encryption", &quoted(&found), "bcrypt", problems);
        }
        let default = Validity::default();
        let mut days = |key, default: u32| {
            auth.take::<u32>(key, problems)
                .filter(|days| *days > 0)
                .unwrap_or(default)
        };
        self.validity = Validity {
            device: days("deviceTokenValidityDays", default.device),
            service: days("serviceTokenValidityDays", default.service),
            user: days("userTokenValidityDays", default.user),
        };
        let no_start: Option<bool> = auth.take("noAutoStart", problems);
        self.ignore(no_start == Some(true), "auth.noAutoStart", NO_START);
        for (key, to) in [
            ("adminUserKeyFile", &mut self.files.admin_key),
            ("adminUserTokenFile", &mut self.files.admin_token),
            ("launcherKeyFile", &mut self.files.launcher_key),
            ("launcherTokenFile", &mut self.files.launcher_token),
        ] {
            *to = auth
                .take(key, problems)
                .filter(|path: &PathBuf| is_given(path));
        }
        auth.finish(problems);
    }

    /// Notes a key that has no effect.
    fn ignore(&mut self, is_given: bool, key: &'static str, why: &'static str) {
        if is_given {
            self.without_effect.push((key, why));
        }
    }
}

/// The text of a file that is no larger than a configuration can be.
fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_BYTES) {
        let why = format!("it is larger than {MAX_BYTES} bytes, and no configuration");
        return Err(std::io::Error::other(why));
    }
    Ok(text)
}

/// An empty path is none, as in the original.
fn is_given(path: &Path) -> bool {
    !path.as_os_str().is_empty()
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
        assert_eq!((config.port, config.ws_port), (8883, Some(8884)));
        assert_eq!(config.loopback_port, None);
        assert!(!config.ws_port_may_be_taken);
        assert_eq!(config.abstract_socket.as_deref(), Some("/MqttInMemUDSProd"));
        assert_eq!(config.without_effect, []);
    }

    #[test]
    fn a_file_that_never_ends_is_not_read_to_its_end() {
        let error = Config::load(Path::new("/dev/zero")).unwrap_err();
        assert!(crate::chain(&error).contains("no configuration"), "{error}");
    }

    #[test]
    fn the_originals_keys_are_known() {
        let text = "
caCertFile: a
caKeyFile: b
serverCertFile: c
serverKeyFile: d
enableMDNS: true
mqttserver: {host: box, port: 0, wsPort: 8885, logLevel: info, logFile: l, dataDir: d, noAutoStart: false, inMemUDSName: '@/x'}
natsserver: {port: 4222, anything: 1}
auth: {passwordFile: p, encryption: bcrypt, deviceTokenValidityDays: 1, serviceTokenValidityDays: 2, userTokenValidityDays: 0, noAutoStart: false,
  adminUserKeyFile: e, adminUserTokenFile: f, launcherKeyFile: g, launcherTokenFile: ''}
";
        let config = parse(text).unwrap();
        assert_eq!((config.host.as_deref(), config.port), (Some("box"), 0));
        assert_eq!(config.ws_port, Some(8885));
        let given = |name: &str| Some(PathBuf::from(name));
        let files = KeyFiles {
            ca_cert: given("a"),
            ca_key: given("b"),
            server_cert: given("c"),
            server_key: given("d"),
            admin_key: given("e"),
            admin_token: given("f"),
            launcher_key: given("g"),
            launcher_token: None,
        };
        assert_eq!(config.files, files);
        assert!(config.announced);
        assert!(!config.ws_port_may_be_taken);
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
            config
                .without_effect
                .iter()
                .map(|(key, _)| *key)
                .collect::<Vec<_>>(),
            ["natsserver", "mqttserver.logFile", "mqttserver.dataDir"]
        );
        let off = parse("mqttserver: {inMemUDSName: '', wsPort: 0}\nenableMDNS: false").unwrap();
        assert_eq!((off.abstract_socket, off.ws_port), (None, None));
        let free = parse("mqttserver: {port: 0, loopbackPort: 1883}").unwrap();
        assert!(free.ws_port_may_be_taken);
        assert_eq!(free.loopback_port, Some(1883));
        let none = parse("mqttserver: {noAutoStart: true}\nauth: {noAutoStart: yes}").unwrap();
        let keys = ["mqttserver.noAutoStart", "auth.noAutoStart"];
        assert_eq!(none.without_effect, keys.map(|key| (key, NO_START)));
        assert!(off.without_effect.is_empty() && !off.announced);
    }

    #[test]
    fn every_limit_has_a_key_and_a_range() {
        assert_eq!(Config::default().limits, Limits::default());
        let text = "mqttserver: {limits: {notLoggedIn: 1, connections: 17, loginSeconds: 2, connectBytes: 4097, packetBytes: 2048, inFlight: 4, \
            subscriptions: 5, filterBytes: 66, sharedFilters: 7, retainedMessages: 8, retainedBytes: 9, \
            queuedMessages: 10, queuedBytes: 2050, allQueuedBytes: 2051, willBytes: 67, waitingRequests: 12, freeGuesses: 13, addressFreeGuesses: 16, guessDelaySeconds: 14, \
            guessDelayMaxSeconds: 15}}";
        let second = Duration::from_secs(1);
        let expected = Limits {
            not_logged_in: 1,
            connections: 17,
            login: 2 * second,
            connect_bytes: 4097,
            packet_bytes: 2048,
            in_flight: 4,
            subscriptions: 5,
            filter_bytes: 66,
            shared_filters: 7,
            retained_messages: 8,
            retained_bytes: 9,
            queued_messages: 10,
            queued_bytes: 2050,
            all_queued_bytes: 2051,
            will_bytes: 67,
            waiting_requests: 12,
            free_guesses: 13,
            address_free_guesses: 16,
            guess_delay: 14 * second,
            guess_delay_max: 15 * second,
        };
        assert_eq!(parse(text).unwrap().limits, expected);
        let error = parse("mqttserver: {limits: {notLoggedIn: 0, inFlight: 70000, login: 1}}");
        let error = error.unwrap_err();
        for part in [
            "mqttserver.limits.notLoggedIn: is 0; expected a whole number, 1 to 65536",
            "mqttserver.limits.inFlight: is 70000; expected a whole number, 1 to 65535",
            "mqttserver.limits.login: is no known key",
        ] {
            assert!(error.contains(part), "{error}");
        }
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
            ("- a\n", ["/h/mqttcore.yaml:1:1: ", "a list"]),
        ] {
            let error = parse(text).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{text:?}: {error}");
            }
        }
    }

    #[test]
    fn all_errors_are_told_at_once_in_the_order_of_the_file() {
        let text = "
enableMDNS: maybe
mqttserver:
  prot: 1
  port: 70000
auth: {encryption: argon2id, userTokenValidityDays: soon,
  zzzzzz: 1}
mqttServer: {}
";
        let error = parse(text).unwrap_err();
        let lines: Vec<_> = error
            .lines()
            .map(|line| line.strip_prefix("/h/mqttcore.yaml:").unwrap())
            .collect();
        assert_eq!(
            lines[0],
            "2:13: enableMDNS: is 'maybe'; expected true or false"
        );
        assert!(
            lines[1]
                .starts_with("4:3: mqttserver.prot: is no known key; expected one of host port")
                && lines[1].ends_with("; did you mean port?"),
            "{error}"
        );
        assert_eq!(
            lines[2],
            "5:9: mqttserver.port: is 70000; expected a port, 0 to 65535"
        );
        assert_eq!(
            lines[3],
            "6:20: auth.encryption: is 'argon2id'; expected bcrypt"
        );
        assert_eq!(
            lines[4],
            "6:53: auth.userTokenValidityDays: is 'soon'; expected a whole number of days"
        );
        assert!(
            lines[5].starts_with("7:3: auth.zzzzzz: is no known key"),
            "{error}"
        );
        assert!(
            lines[6].starts_with("8:1: mqttServer: ")
                && lines[6].ends_with("did you mean mqttserver?"),
            "{error}"
        );
        assert_eq!(lines.len(), 7);
    }
}
