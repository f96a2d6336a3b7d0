//! The launcher's command line and environment (spec §3, HP 1.3).
//!
//! Invariants: the original's spellings (`-home x`, `-home=x`) mean the same as ours; command line goes before
//! environment; an empty value counts as not given.

use crate::app::launcher::level::LogLevel;
use crate::app::paths::Overrides;
use clap::Parser;
use clap::builder::TypedValueParser;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Starts and supervises the core and the plugins of a HiveOT hub.
#[derive(Debug, Clone, Default, Parser)]
#[command(
    name = "launcher",
    version,
    after_help = "Each option may also be given by the environment: LAUNCHER_HOME, LAUNCHER_CONFIG, \
                  LAUNCHER_CONFIGFILE, LAUNCHER_CLIENTID, LAUNCHER_LOGLEVEL or LOGLEVEL, LAUNCHER_SERVER.\n\
                  Exit codes: 0 stopped as asked, 1 start failed, 2 wrong usage, 3 something was left running, \
                  78 wrong configuration."
)]
pub struct Cli {
    /// Folder of the hub [default: the folder above the one this program lies in].
    #[arg(long, value_name = "DIR", value_parser = any_path())]
    pub home: Option<PathBuf>,
    /// Folder of configuration files; relative to the home [default: config].
    #[arg(long, value_name = "DIR", value_parser = any_path())]
    pub config: Option<PathBuf>,
    /// Configuration file; relative to the configuration folder [default: {clientID}.yaml].
    #[arg(long = "configFile", value_name = "FILE", value_parser = any_path())]
    pub config_file: Option<PathBuf>,
    /// Login on the message bus [default: the name this program was called by].
    #[arg(long = "clientID", value_name = "ID")]
    pub client_id: Option<String>,
    /// How much is logged: debug, info, warning or error [default: logLevel of the configuration file, or warning].
    #[arg(long, value_name = "LEVEL")]
    pub loglevel: Option<String>,
    /// URL of the message bus [default: that of the core].
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Check configuration, folders and executables, print every problem and exit with 0 or 78.
    #[arg(long)]
    pub check: bool,
    /// Words that are no options; the original ignores them, so they are ignored with a warning.
    #[arg(hide = true, trailing_var_arg = false)]
    pub ignored: Vec<String>,
}

/// Takes also an empty path; it counts as not given.
fn any_path() -> impl TypedValueParser<Value = PathBuf> {
    clap::builder::OsStringValueParser::new().map(PathBuf::from)
}

/// What command line and environment say, as far as the configuration file has no say in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Of folders and client id.
    pub overrides: Overrides,
    /// The log level; goes before the file's (T42).
    pub level: Option<LogLevel>,
    /// URL of the message bus.
    pub server: Option<String>,
    /// Only check.
    pub check: bool,
    /// Words that were ignored.
    pub ignored: Vec<String>,
}

impl Settings {
    /// Reads the arguments, `argv[0]` included, and the environment through `env`.
    ///
    /// # Errors
    /// Wrong usage, and also `--help` and `--version`; [`clap::Error::exit_code`] tells 2 from 0 and
    /// [`clap::Error::print`] prints to the right stream.
    pub fn read(
        argv: impl IntoIterator<Item = OsString>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, clap::Error> {
        Cli::try_parse_from(with_double_dashes(argv)).map(|cli| Self::merged(cli, env))
    }

    fn merged(cli: Cli, env: impl Fn(&str) -> Option<OsString>) -> Self {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let path = |given: Option<PathBuf>, name: &str| {
            let given = given.filter(|path| !path.as_os_str().is_empty());
            given.or_else(|| env(name).map(PathBuf::from))
        };
        let text = |given: Option<String>, names: &[&str]| {
            let from_env = || names.iter().find_map(|name| env(name));
            let given = given.filter(|text| !text.is_empty());
            given.or_else(|| from_env().map(|value| value.to_string_lossy().into_owned()))
        };
        Settings {
            overrides: Overrides {
                home: path(cli.home, "LAUNCHER_HOME"),
                config: path(cli.config, "LAUNCHER_CONFIG"),
                config_file: path(cli.config_file, "LAUNCHER_CONFIGFILE"),
                client_id: text(cli.client_id, &["LAUNCHER_CLIENTID"]),
            },
            level: text(cli.loglevel, &["LAUNCHER_LOGLEVEL", "LOGLEVEL"]).map(LogLevel::lenient),
            server: text(cli.server, &["LAUNCHER_SERVER"]),
            check: cli.check,
            ignored: cli.ignored,
        }
    }

    /// The level that holds: command line, environment, file, `warning` (spec §3, T42).
    #[must_use]
    pub fn level_with(&self, from_file: Option<&LogLevel>) -> LogLevel {
        self.level
            .as_ref()
            .or(from_file)
            .cloned()
            .unwrap_or_default()
    }
}

/// Gives options of the original's spelling (one dash, several letters) a second dash; up to `--`, and `argv[0]` not.
fn with_double_dashes(argv: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut options = true;
    let doubled = |(at, arg): (usize, OsString)| {
        options = options && arg != "--";
        if at > 0 && options && is_single_dash_word(&arg) {
            let mut longer = OsString::from("-");
            longer.push(arg);
            longer
        } else {
            arg
        }
    };
    argv.into_iter().enumerate().map(doubled).collect()
}

/// `-word`, but not `-w`, `--word` or a number.
fn is_single_dash_word(arg: &OsStr) -> bool {
    match arg.as_encoded_bytes() {
        [b'-', first, _, ..] => first.is_ascii_alphabetic(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str], env: &[(&str, &str)]) -> Result<Settings, clap::Error> {
        let argv = std::iter::once("launcher").chain(args.iter().copied());
        let find = |name: &str| {
            let found = env.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Settings::read(argv.map(OsString::from), find)
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn spellings_of_the_original_work() {
        let wanted = read(
            &[
                "--home",
                "h",
                "--config=c",
                "--configFile",
                "f",
                "--clientID",
                "i",
                "--loglevel",
                "debug",
                "--server=s",
            ],
            &[],
        )
        .expect("ours");
        let original = read(
            &[
                "-home",
                "h",
                "-config=c",
                "-configFile",
                "f",
                "-clientID=i",
                "-loglevel",
                "debug",
                "-server",
                "s",
            ],
            &[],
        )
        .expect("the original's");
        assert_eq!(wanted, original);
        assert_eq!(wanted.overrides.home, Some(PathBuf::from("h")));
        assert_eq!(wanted.overrides.config_file, Some(PathBuf::from("f")));
        assert_eq!(wanted.server.as_deref(), Some("s"));
        assert!(!wanted.check);
        assert!(read(&["-check"], &[]).expect("check").check);
    }

    #[test]
    fn the_command_line_goes_before_the_environment_before_the_file() {
        let env = [
            ("LAUNCHER_HOME", "/e"),
            ("LOGLEVEL", "error"),
            ("LAUNCHER_SERVER", ""),
        ];
        let settings = read(&["--home", "/c", "--server="], &env).expect("settings");
        assert_eq!(settings.overrides.home, Some(PathBuf::from("/c")));
        assert_eq!(settings.server, None);
        let file = LogLevel::lenient("debug".to_owned());
        assert_eq!(settings.level_with(Some(&file)).as_str(), "error");
        let none = read(&[], &[]).expect("settings");
        assert_eq!(none.level_with(Some(&file)).as_str(), "debug");
        assert_eq!(none.level_with(None).as_str(), "warning");
        let from_env = read(&["-home="], &env).expect("settings");
        assert_eq!(from_env.overrides.home, Some(PathBuf::from("/e")));
    }

    #[test]
    fn wrong_usage_is_2_and_words_are_ignored() {
        for wrong in [
            &["--hom", "x"][..],
            &["-x"],
            &["--home"],
            &["--home", "a", "--home", "b"],
            &["-nope=1"],
        ] {
            let error = read(wrong, &[]).expect_err("refused");
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
        for right in ["-h", "-help", "--help", "--version", "-version"] {
            let error = read(&[right], &[]).expect_err("shown");
            assert_eq!(error.exit_code(), 0, "{right}");
        }
        let settings = read(&["start", "--check", "-", "--", "-home"], &[]).expect("settings");
        assert_eq!(settings.ignored, ["start", "-", "-home"]);
    }
}
