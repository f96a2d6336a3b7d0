//! The command line (HP 1.22).
//!
//! Invariants: options stand before or after the command; the original's single-dash spellings mean the same.

use super::exit::Failure;
use super::watch::Watch;
pub(super) use super::wish::{Act, Certs, Chosen, Deed, Listen, NewUser, People};
use clap::{ArgAction, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// The login of who operates the hub.
pub(super) const ADMIN: &str = "admin";

/// Shows and steers the plugins of a HiveOT hub.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "hubcli",
    version,
    disable_version_flag = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no connection to the hub."
)]
pub(super) struct Cli {
    /// Folder of the hub [default: the folder above the one this program lies in].
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) home: Option<PathBuf>,
    /// Login on the message bus; its token is in the certs folder.
    #[arg(long, global = true, value_name = "ID", default_value = ADMIN)]
    pub(super) login: String,
    /// URL of the message bus, mqtts://host:port or unix:///path; with it no other is tried.
    #[arg(long, global = true, value_name = "URL")]
    pub(super) server: Option<String>,
    /// Print JSON for programs.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Never wrap lines; on a terminal they are cut at its edge by itself.
    #[arg(long, global = true)]
    pub(super) nowrap: bool,
    /// Say how the hub was reached.
    #[arg(long, global = true)]
    pub(super) loginfo: bool,
    /// Print the version.
    #[arg(short = 'v', long, short_alias = 'V', action = ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    command: Spoken,
}

#[derive(Debug, Clone, Subcommand)]
enum Spoken {
    /// List all plugins and the core.
    Ls {
        #[arg(hide = true)]
        rest: Vec<String>,
    },
    /// Start a plugin, and enable it; all: those that are enabled.
    Start {
        /// Name, or all.
        #[arg(value_name = "NAME|all")]
        names: Vec<String>,
        /// Do not enable it: it does not start with the launcher next time.
        #[arg(long)]
        once: bool,
    },
    /// Stop a plugin, and disable it; all: all but the core, none is disabled.
    Stop {
        /// Name, or all.
        #[arg(value_name = "NAME|all")]
        names: Vec<String>,
    },
    /// Stop a plugin and start it again.
    Restart {
        /// Name.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Let a plugin start with the launcher; nothing now.
    Enable {
        /// Name.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Forget what was set by hand: launcher.yaml decides.
        #[arg(long)]
        default: bool,
    },
    /// Let a plugin not start with the launcher; nothing now.
    Disable {
        /// Name.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Forget what was set by hand: launcher.yaml decides.
        #[arg(long)]
        default: bool,
    },
    /// Have the launcher read launcher.yaml anew; plugins of which nothing was changed keep running.
    Reload {
        #[arg(hide = true)]
        rest: Vec<String>,
        /// Only show what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Explain why a plugin, core or launcher is as it is; without a name all that are not as they should be.
    Why {
        /// Name.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Add a user with role and generate a temporary password, which is shown once.
    Addu {
        /// Login of the user, and role: viewer, operator, manager or admin.
        #[arg(value_name = "ID [ROLE]")]
        args: Vec<String>,
        /// viewer, operator, manager or admin; none = no rights yet.
        #[arg(long, value_name = "ROLE")]
        role: Option<String>,
        /// Name for people.
        #[arg(long, value_name = "TEXT")]
        name: Option<String>,
        /// Ask for the password on the terminal, or take a line of standard input, instead of generating one.
        #[arg(long)]
        password: bool,
    },
    /// List users, devices and services.
    Lu {
        #[arg(hide = true)]
        rest: Vec<String>,
    },
    /// Remove a user, device or service. Careful, no confirmation.
    Rmu {
        /// Login.
        #[arg(value_name = "ID")]
        args: Vec<String>,
    },
    /// Change a password, which is asked for on the terminal or taken from a line of standard input.
    Password {
        /// Login.
        #[arg(value_name = "ID")]
        args: Vec<String>,
        /// Generate one, which is shown once.
        #[arg(long)]
        generate: bool,
    },
    /// Change the role of a user.
    #[command(visible_alias = "setrole")]
    Role {
        /// Login, and viewer, operator, manager, admin, device, service or none.
        #[arg(value_name = "ID ROLE")]
        args: Vec<String>,
    },
    /// Request an action of a thing, and show its answer.
    Pub {
        /// Agent and thing as hubcli sub shows them, action, and its value if it needs one.
        #[arg(
            value_name = "AGENT THING ACTION [VALUE]",
            allow_negative_numbers = true
        )]
        args: Vec<String>,
    },
    /// Show events of things as they come, until Ctrl-C.
    #[command(visible_alias = "subev")]
    Sub {
        /// Only those of this agent, thing and name; + is any.
        #[arg(value_name = "AGENT [THING [NAME]]")]
        args: Vec<String>,
        /// End after so many.
        #[arg(short = 'n', long, value_name = "N")]
        count: Option<u64>,
    },
    /// Show how all plugins are, with -f followed by what happens to them.
    Events(Watch),
    /// Show descriptions of things as they come, until Ctrl-C.
    Subtd {
        #[arg(hide = true)]
        rest: Vec<String>,
        /// End after so many.
        #[arg(short = 'n', long, value_name = "N")]
        count: Option<u64>,
    },
    /// View CA, server and client certificates, and when they end.
    Vca {
        #[arg(hide = true)]
        rest: Vec<String>,
    },
    /// Create a new Hub CA certificate. All other certificates are then void until they are renewed.
    Cca {
        #[arg(hide = true)]
        rest: Vec<String>,
        /// Days it is valid.
        #[arg(long, value_name = "DAYS", default_value_t = 1825, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
        /// Also in place of another one; also makes the folder.
        #[arg(long)]
        force: bool,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Show all.
    List,
    /// Do something with one.
    One(Deed, String),
    /// Explain one, or all that are not as they should be.
    Why(Option<String>),
    /// Start all that are enabled.
    StartAll,
    /// Stop all but the core.
    StopAll,
    /// Have the configuration read anew.
    Reload { dry_run: bool },
    /// Something with those who may log in.
    People(People),
    /// A request to a thing.
    Act(Act),
    /// Events as they come.
    Listen(Listen),
    /// How all are, and what happens to them.
    Watch(Watch),
    /// Something with certificates, for which no hub needs to run.
    Certs(Certs),
}

impl Cli {
    /// Reads the arguments, `argv[0]` included.
    ///
    /// # Errors
    /// Wrong usage; also help and version, with exit code 0.
    pub(super) fn read(argv: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Cli::try_parse_from(argv.into_iter().map(with_two_dashes))
    }
}

/// `-home x` and `-home=x` as the original takes them.
fn with_two_dashes(arg: OsString) -> OsString {
    const KNOWN: [&str; 15] = [
        "home", "login", "server", "json", "nowrap", "loginfo", "help", "version", "role", "name",
        "days", "force", "once", "default", "dry-run",
    ];
    let known = arg.to_str().and_then(|text| {
        let name = text.strip_prefix('-')?;
        let bare = name.split('=').next().unwrap_or_default();
        KNOWN.contains(&bare).then(|| format!("-{text}"))
    });
    known.map_or(arg, OsString::from)
}

impl Command {
    /// The command of a command line, with the original's words for a wrong number of arguments.
    pub(super) fn of(cli: &Cli) -> Result<Command, Failure> {
        match &cli.command {
            Spoken::Ls { rest } if rest.is_empty() => Ok(Command::List),
            Spoken::Ls { .. } => Err(Failure::usage("no arguments expected", "type: hubcli ls")),
            Spoken::Why { names } => why(names),
            Spoken::Start { names, once: true } => Command::one(Deed::StartOnce, names),
            Spoken::Start { names, once: false } => Command::one(Deed::Start, names),
            Spoken::Stop { names } => Command::one(Deed::Stop, names),
            Spoken::Restart { names } => Command::one(Deed::Restart, names),
            Spoken::Enable {
                names,
                default: true,
            }
            | Spoken::Disable {
                names,
                default: true,
            } => Command::one(Deed::Forget, names),
            Spoken::Enable { names, .. } => Command::one(Deed::Enable, names),
            Spoken::Disable { names, .. } => Command::one(Deed::Disable, names),
            Spoken::Reload { rest, dry_run } if rest.is_empty() => {
                Ok(Command::Reload { dry_run: *dry_run })
            }
            Spoken::Reload { .. } => Err(Failure::usage(
                "no arguments expected",
                "type: hubcli reload [--dry-run]; the launcher reads its own file",
            )),
            Spoken::Addu {
                args,
                role,
                name,
                password,
            } => add_user(args, role.as_ref(), name.as_ref(), *password).map(Command::People),
            Spoken::Lu { rest } if rest.is_empty() => Ok(Command::People(People::List)),
            Spoken::Lu { .. } => Err(Failure::usage("too many arguments", "type: hubcli lu")),
            Spoken::Rmu { args } => remove_user(args).map(Command::People),
            Spoken::Password { args, generate } => password(args, *generate).map(Command::People),
            Spoken::Pub { args } => act(args).map(Command::Act),
            Spoken::Sub { args, count } => listen(args, *count).map(Command::Listen),
            Spoken::Events(watch) => Ok(Command::Watch(watch.clone())),
            Spoken::Subtd { rest, count } if rest.is_empty() => Ok(Command::Listen(Listen {
                name: "$td".to_owned(),
                things: true,
                count: *count,
                ..Listen::default()
            })),
            Spoken::Subtd { .. } => Err(Failure::usage(
                "Unexpected arguments",
                "type: hubcli subtd [-n N]",
            )),
            Spoken::Vca { rest } if rest.is_empty() => Ok(Command::Certs(Certs::View)),
            Spoken::Cca { rest, days, force } if rest.is_empty() => {
                Ok(Command::Certs(Certs::Create {
                    days: *days,
                    force: *force,
                }))
            }
            Spoken::Vca { rest } | Spoken::Cca { rest, .. } => Err(unexpected(rest)),
            Spoken::Role { args } => match args.as_slice() {
                [id, role] => Ok(Command::People(People::Role(id.clone(), role_word(role)?))),
                _ => Err(Failure::usage(
                    "expected 2 arguments",
                    "type: hubcli role ID ROLE; hubcli lu shows who there is",
                )),
            },
        }
    }

    fn one(deed: Deed, names: &[String]) -> Result<Command, Failure> {
        let word = deed.word();
        let [name] = names else {
            let hint = format!("type: hubcli {word} NAME; hubcli ls shows the names");
            return Err(Failure::usage("expected service name", hint));
        };
        match (deed, name.as_str()) {
            (Deed::Start, "all") => Ok(Command::StartAll),
            (Deed::Stop, "all") => Ok(Command::StopAll),
            (
                Deed::StartOnce | Deed::Restart | Deed::Enable | Deed::Disable | Deed::Forget,
                "all",
            ) => Err(Failure::usage(
                format!("{word} takes the name of one service"),
                "only start and stop take all",
            )),
            _ => Ok(Command::One(deed, name.clone())),
        }
    }
}

fn why(names: &[String]) -> Result<Command, Failure> {
    match names {
        [] => Ok(Command::Why(None)),
        [name] => Ok(Command::Why(Some(name.clone()))),
        _ => Err(Failure::usage(
            "expected 0 or 1 arguments",
            "type: hubcli why [NAME]; hubcli ls shows the names",
        )),
    }
}

fn remove_user(args: &[String]) -> Result<People, Failure> {
    match args {
        [id] => Ok(People::Remove(id.clone())),
        _ => Err(Failure::usage(
            "expected 1 arguments",
            "type: hubcli rmu ID; hubcli lu shows who there is",
        )),
    }
}

fn unexpected(rest: &[String]) -> Failure {
    Failure::usage(
        format!("unexpected argument(s) '{}'", rest.join(" ")),
        "type: hubcli vca, or hubcli cca [--days DAYS] [--force]",
    )
}

fn add_user(
    args: &[String],
    role: Option<&String>,
    name: Option<&String>,
    asked: bool,
) -> Result<People, Failure> {
    let (id, role) = match args {
        [id] => (id, role),
        [id, role] => (id, Some(role)),
        _ => {
            return Err(Failure::usage(
                "expected 1 or 2 arguments",
                "type: hubcli addu ID ROLE, with one of the roles viewer, operator, manager, admin",
            ));
        }
    };
    Ok(People::Add(NewUser {
        id: id.clone(),
        name: name.cloned().unwrap_or_default(),
        role: role_word(role.map_or("", String::as_str))?,
        password: if asked {
            Chosen::ByPeople
        } else {
            Chosen::ByChance
        },
    }))
}

fn act(args: &[String]) -> Result<Act, Failure> {
    let usage = "type: hubcli pub AGENT THING ACTION [VALUE]; quote a value with spaces";
    let (agent, thing, action, value) = match args {
        [agent, thing, action] => (agent, thing, action, ""),
        [agent, thing, action, value] => (agent, thing, action, value.as_str()),
        [_, _, _, _, _, ..] => return Err(Failure::usage("too many arguments", usage)),
        _ => return Err(Failure::usage("missing arguments", usage)),
    };
    Ok(Act {
        agent: agent.clone(),
        thing: thing.clone(),
        action: action.clone(),
        value: value.to_owned(),
    })
}

fn listen(args: &[String], count: Option<u64>) -> Result<Listen, Failure> {
    if args.len() > 3 {
        let hint = "type: hubcli sub [AGENT [THING [NAME]]] [-n N]";
        return Err(Failure::usage("Unexpected arguments", hint));
    }
    let part = |at: usize| match args.get(at).map_or("", String::as_str) {
        "+" => String::new(),
        word => word.to_owned(),
    };
    Ok(Listen {
        agent: part(0),
        thing: part(1),
        name: part(2),
        things: false,
        count,
    })
}

fn password(args: &[String], generate: bool) -> Result<People, Failure> {
    match args {
        [id] if generate => Ok(People::Password(id.clone(), Chosen::ByChance)),
        [id] => Ok(People::Password(id.clone(), Chosen::ByPeople)),
        [id, _] => Err(Failure::usage(
            "a password on the command line can be seen by every user of this machine",
            format!(
                "type: hubcli password {id}, and it is asked for; programs give it by standard input"
            ),
        )),
        _ => Err(Failure::usage(
            "expected 1 arguments",
            "type: hubcli password ID; hubcli lu shows who there is",
        )),
    }
}

/// A role as the hub writes it; `none` is the empty word.
fn role_word(word: &str) -> Result<String, Failure> {
    match word {
        "none" | "" => Ok(String::new()),
        "viewer" | "operator" | "manager" | "admin" | "device" | "service" => Ok(word.to_owned()),
        _ => Err(Failure::usage(
            format!("unknown role '{word}'"),
            "roles of users are viewer, operator, manager, admin and none; there are device and service, too",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ExitCode;
    use super::*;
    use clap::CommandFactory;

    fn read(line: &str) -> Result<Cli, clap::Error> {
        Cli::read(
            std::iter::once("hubcli")
                .chain(line.split_whitespace())
                .map(OsString::from),
        )
    }

    fn command(line: &str) -> Result<Command, Failure> {
        Command::of(&read(line).unwrap())
    }

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_are_understood() {
        assert_eq!(command("ls"), Ok(Command::List));
        assert_eq!(command("start all"), Ok(Command::StartAll));
        assert_eq!(command("stop all"), Ok(Command::StopAll));
        for (line, dry_run) in [("reload", false), ("reload --dry-run", true)] {
            assert_eq!(command(line), Ok(Command::Reload { dry_run }));
        }
        assert_eq!(
            command("reload file.yaml").unwrap_err().exit,
            ExitCode::Usage
        );
        for (line, deed) in [
            ("start a", Deed::Start),
            ("stop a", Deed::Stop),
            ("restart a", Deed::Restart),
            ("enable a", Deed::Enable),
            ("disable a", Deed::Disable),
            ("start --once a", Deed::StartOnce),
            ("start a -once", Deed::StartOnce),
            ("enable --default a", Deed::Forget),
            ("disable a --default", Deed::Forget),
        ] {
            assert_eq!(command(line), Ok(Command::One(deed, "a".to_owned())));
        }
    }

    #[test]
    fn messages_are_understood() {
        let act = |value: &str| {
            Ok(Command::Act(Act {
                agent: "a".to_owned(),
                thing: "t".to_owned(),
                action: "on".to_owned(),
                value: value.to_owned(),
            }))
        };
        assert_eq!(command("pub a t on"), act(""));
        assert_eq!(command("pub a t on -5"), act("-5"));
        assert_eq!(command("pub a t").unwrap_err().text, "missing arguments");
        let listen = |agent: &str, name: &str, count| {
            Ok(Command::Listen(Listen {
                agent: agent.to_owned(),
                name: name.to_owned(),
                count,
                ..Listen::default()
            }))
        };
        assert_eq!(command("sub"), listen("", "", None));
        assert_eq!(command("subev a + n -n 2"), listen("a", "n", Some(2)));
        assert_eq!(
            command("sub 1 2 3 4").unwrap_err().text,
            "Unexpected arguments"
        );
        let watch = |name: Option<&str>, follow, count| {
            let name = name.map(str::to_owned);
            let follow = Watch {
                name,
                follow,
                count,
            };
            Ok(Command::Watch(follow))
        };
        assert_eq!(command("events"), watch(None, false, None));
        assert_eq!(command("events -f a -n 3"), watch(Some("a"), true, Some(3)));
        assert_eq!(read("events -n 3").unwrap_err().exit_code(), 2);
        assert!(
            matches!(command("subtd"), Ok(Command::Listen(it)) if it.things && it.name == "$td")
        );
    }

    #[test]
    fn certificates_are_understood() {
        assert_eq!(command("vca"), Ok(Command::Certs(Certs::View)));
        for (line, days, force) in [
            ("cca", 1825, false),
            ("cca --days 10 --force", 10, true),
            ("cca -days=10 -force", 10, true),
        ] {
            let create = Certs::Create { days, force };
            assert_eq!(command(line), Ok(Command::Certs(create)), "{line}");
        }
        assert_eq!(read("cca --days 0").unwrap_err().exit_code(), 2);
        let failure = command("vca x").unwrap_err();
        assert_eq!(failure.text, "unexpected argument(s) 'x'");
    }

    #[test]
    fn people_are_understood() {
        let joe = || "joe".to_owned();
        let new = NewUser {
            id: joe(),
            name: "Joe".to_owned(),
            role: "viewer".to_owned(),
            password: Chosen::ByChance,
        };
        for line in [
            "addu joe viewer --name Joe",
            "addu --role viewer --name Joe joe",
            "addu -role=viewer -name=Joe joe",
        ] {
            assert_eq!(command(line), Ok(Command::People(People::Add(new.clone()))));
        }
        for (line, people) in [
            ("lu", People::List),
            ("rmu joe", People::Remove(joe())),
            ("password joe", People::Password(joe(), Chosen::ByPeople)),
            (
                "password --generate joe",
                People::Password(joe(), Chosen::ByChance),
            ),
            ("role joe none", People::Role(joe(), String::new())),
            ("setrole joe admin", People::Role(joe(), "admin".to_owned())),
        ] {
            assert_eq!(command(line), Ok(Command::People(people)), "{line}");
        }
    }

    #[test]
    fn wrong_numbers_of_arguments_have_the_words_of_the_original() {
        for (line, text) in [
            ("ls a", "no arguments expected"),
            ("start", "expected service name"),
            ("stop a b", "expected service name"),
            ("restart all", "restart takes the name of one service"),
            ("addu", "expected 1 or 2 arguments"),
            ("lu a", "too many arguments"),
            ("rmu", "expected 1 arguments"),
            ("role joe", "expected 2 arguments"),
            ("role joe boss", "unknown role 'boss'"),
            ("addu joe boss", "unknown role 'boss'"),
            (
                "password joe secret",
                "a password on the command line can be seen by every user of this machine",
            ),
        ] {
            let failure = command(line).unwrap_err();
            assert_eq!(
                (failure.text.as_str(), failure.exit),
                (text, ExitCode::Usage)
            );
        }
    }

    #[test]
    fn options_of_the_original_are_taken_anywhere() {
        for line in [
            "--home /h --login me --server s --nowrap --loginfo ls",
            "-home /h -login=me -server s -nowrap -loginfo ls",
            "ls --home=/h --login me --server s --nowrap --loginfo",
        ] {
            let cli = read(line).unwrap();
            assert_eq!(cli.home, Some("/h".into()));
            assert_eq!(
                (cli.login.as_str(), cli.server.as_deref()),
                ("me", Some("s"))
            );
            assert!(cli.nowrap && cli.loginfo && !cli.json);
        }
        assert_eq!(read("ls").unwrap().login, "admin");
        for line in ["", "bogus", "--json"] {
            assert_eq!(read(line).unwrap_err().exit_code(), 2, "{line}");
        }
        assert_eq!(read("-x").unwrap_err().exit_code(), 2);
        for line in ["-v", "--version", "-h", "help"] {
            assert_eq!(read(line).unwrap_err().exit_code(), 0, "{line}");
        }
        let version = read("-version").unwrap_err().to_string();
        assert_eq!(
            version.trim(),
            format!("hubcli {}", env!("CARGO_PKG_VERSION"))
        );
    }
}
