//! The operator's command line (spec §13, HP 1.22).
//!
//! Invariants: texts and columns of the original come first, what is ours after or to the right of them; every error
//! ends with what can be done about it; nothing that came over the bus reaches a terminal with control characters.

mod ask;
mod certs;
mod cli;
mod code;
mod core;
mod events;
mod exit;
mod local;
mod messages;
mod people;
mod reload;
mod say;
mod secret;
mod session;
mod table;
mod view;
mod watch;
mod way;
mod why;
mod wish;
mod work;

pub use code::ExitCode;

use crate::app::paths::{Folders, Overrides, Surroundings};
use cli::{Cli, Command, Deed};
use exit::Failure;
use say::{Paint, Said};
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};

/// Runs the program with the arguments of this process, prints, and tells the exit code.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let said = match perform(&cli) {
        Ok(said) => said,
        Err(failure) => failure.said(cli.json, Paint::of(&io::stderr())),
    };
    show(&said)
}

/// Help and version are no errors.
fn usage(error: &clap::Error) -> ExitCode {
    // A closed terminal cannot be told.
    let _ = error.print();
    if error.exit_code() == 0 {
        ExitCode::Done
    } else {
        ExitCode::Usage
    }
}

fn perform(cli: &Cli) -> Result<Said, Failure> {
    let command = Command::of(cli)?;
    let folders = folders(cli)?;
    let view = view::View {
        json: cli.json,
        table: if cli.json {
            table::Style::for_programs()
        } else {
            table::Style::of_this_terminal(cli.nowrap)
        },
        logs: folders.logs.clone(),
        plugins: folders.plugins.clone(),
    };
    if let Command::Certs(wish) = command {
        let now = creds::UnixTime::from(std::time::SystemTime::now());
        return certs::perform(wish, &folders.certs, now, &view);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}"), "try again"))?;
    runtime.block_on(async {
        if let Command::Listen(wish) = &command {
            let filter = messages::filter(wish)?;
            let session = session::Session::listening(cli, &folders, vec![filter]).await?;
            return messages::listen(session, wish, &view).await;
        }
        if let Command::Act(_) | Command::People(_) = &command {
            return over_the_bus(cli, &folders, &command, &view).await;
        }
        if let Command::Watch(wish) = &command
            && wish.follow
        {
            let open = async || {
                let filters = vec![events::filter()];
                session::Session::listening(cli, &folders, filters).await
            };
            return match open().await {
                Ok(session) => events::follow(session, open, wish, &view).await,
                Err(failure) if failure.exit == ExitCode::NoConnection => {
                    without_bus(cli, &folders, failure, wish, &view).await
                }
                Err(failure) => Err(failure),
            };
        }
        let way = way::Way::open(cli, &folders).await?;
        if let Command::One(deed @ (Deed::Stop | Deed::Restart), name) = &command
            && is_core(name, &folders)
        {
            let again = || session::Session::open(cli, &folders);
            return core::perform(way, *deed, name, &view, again).await;
        }
        let said = if let Command::Watch(wish) = &command {
            events::show(&way, wish, &view).await
        } else {
            work::perform(&way, &command, &view).await
        };
        way.close().await;
        said
    })
}

/// What can be shown when nothing can be followed: how all are, if the launcher tells it over its socket.
async fn without_bus(
    cli: &Cli,
    folders: &Folders,
    mut failure: Failure,
    wish: &watch::Watch,
    view: &view::View,
) -> Result<Said, Failure> {
    let Ok(way) = way::Way::open(cli, folders).await else {
        return Err(failure);
    };
    let shown = events::show(&way, wish, view).await;
    way.close().await;
    "what happens is told over the bus alone: hubcli why launcher, and try again when it is back"
        .clone_into(&mut failure.hint);
    let mut said = failure.said(cli.json, Paint::of(&io::stderr()));
    said.out = shown?.out;
    Ok(said)
}

/// What others than the launcher are asked for.
async fn over_the_bus(
    cli: &Cli,
    folders: &Folders,
    command: &Command,
    view: &view::View,
) -> Result<Said, Failure> {
    let session = session::Session::open(cli, folders).await?;
    let said = match command {
        Command::Act(wish) => messages::act(&session, wish, view).await,
        Command::People(wish) => people::perform(&session, &secret::Asked, wish, view).await,
        Command::List
        | Command::One(..)
        | Command::Why(_)
        | Command::StartAll
        | Command::StopAll
        | Command::Reload { .. }
        | Command::Listen(_)
        | Command::Watch(_)
        | Command::Certs(_) => work::perform(&session, command, view).await,
    };
    session.close().await;
    said
}

/// Whether a name is the core's: its id, or a file among the hub's programs that is no plugin (T41).
fn is_core(name: &str, folders: &Folders) -> bool {
    if name == "core" {
        return true;
    }
    let is_program = folders.bin.join(name).is_file()
        // A plain broker may be anywhere.
        || folders.run.join(bus::hub::BUS_URL_FILE).exists()
            && !name.contains('/')
            && folders
                .find_any_core(name, std::env::var_os("PATH").as_deref())
                .is_ok();
    is_program && !folders.plugins.join(name).exists()
}

fn folders(cli: &Cli) -> Result<Folders, Failure> {
    let overrides = Overrides {
        home: cli.home.clone(),
        client_id: Some("hubcli".to_owned()),
        ..Overrides::default()
    };
    Surroundings::of_this_process()
        .and_then(|around| Folders::resolve(&around, &overrides))
        .map_err(|error| Failure::usage(error.to_string(), "say where the hub is with --home DIR"))
}

fn show(said: &Said) -> ExitCode {
    let printed = print(&mut io::stdout().lock(), &said.out)
        .and_then(|()| print(&mut io::stderr().lock(), &said.err));
    match printed {
        Ok(()) => said.exit,
        // `hubcli ls | head` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => said.exit,
        Err(_) => ExitCode::Failed,
    }
}

fn print(to: &mut impl Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    to.flush()
}

/// Whether colours may be used on `stream`: a terminal, and nobody said no.
fn may_colour(stream: &impl IsTerminal, no_color: Option<OsString>) -> bool {
    no_color.is_none_or(|value| value.is_empty()) && stream.is_terminal()
}
