//! The launcher's own log: `logs/launcher.log`, and stderr when that is a terminal or nothing else hears it (spec §4
//! `logtofile`, §11, HP 1.3).
//!
//! Invariants: what is logged goes to one place at least; who logs never waits for a disk; a terminal is written to
//! directly, as its user wants to see it at once, and never with control characters of others.

use super::LogLevel;
use crate::app::config::Config;
use jiff::Zoned;
use std::ffi::OsStr;
use std::fmt;
use std::io::IsTerminal;
use std::io::Write;
use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Crates of the launcher; what others log is only of interest when something is wrong.
const OURS: [&str; 7] = [
    "launcher",
    "actors",
    "bus",
    "creds",
    "logs",
    "os",
    "supervision",
];

/// Local time with milliseconds and zone, as in the plugins' logs (spec §11).
#[derive(Debug, Clone, Copy)]
struct LocalTime;

impl FormatTime for LocalTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(
            writer,
            "{}",
            Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%.3f%:z")
        )
    }
}

/// Whether and how the own log goes to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Screen {
    Off,
    Plain,
    Colours,
}

impl Screen {
    /// Decides by whether there is a file, whether stderr is a terminal, and by `NO_COLOR`.
    fn choose(to_file: bool, terminal: bool, no_color: Option<&OsStr>) -> Self {
        let plain = no_color.is_some_and(|value| !value.is_empty());
        match (to_file, terminal) {
            (_, true) if plain => Screen::Plain,
            (_, true) => Screen::Colours,
            // Without a file it would be lost otherwise.
            (false, false) => Screen::Plain,
            (true, false) => Screen::Off,
        }
    }
}

/// Target of what is said on stderr in other words, or with fewer: it goes into the file only.
const SAID: &str = "launcher::said";

/// Logs what is said on stderr anyway, a line each; before [`start`] nothing happens.
pub fn only_in_the_file(text: &str) {
    for line in text.lines() {
        tracing::error!(target: SAID, "{line}");
    }
}

/// Where a layer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    File,
    Screen,
}

/// Begins to log: into the file when `logtofile` says so, and to stderr when that is a terminal or there is no file.
///
/// Later calls in one process change nothing.
pub fn start(plane: &logs::Plane, config: &Config, name: &str, level: &LogLevel) {
    let file = config.log_to_file.then(|| {
        let log = plane.own(name, config.logs);
        layer(move || log.clone(), false, Place::File)
    });
    let terminal = std::io::stderr().is_terminal();
    let no_color = std::env::var_os("NO_COLOR");
    let screen = match Screen::choose(file.is_some(), terminal, no_color.as_deref()) {
        Screen::Off => None,
        Screen::Plain => Some(layer(std::io::stderr, false, Place::Screen)),
        Screen::Colours => Some(layer(std::io::stderr, true, Place::Screen)),
    };
    let subscriber = tracing_subscriber::registry()
        .with(targets(level))
        .with(file)
        .with(screen);
    // Set already: that of the first call stays.
    let _ = subscriber.try_init();
}

/// What is logged: ours by `level`, of others at most warnings.
fn targets(level: &LogLevel) -> Targets {
    let level = level.filter();
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_targets(OURS.map(|ours| (ours, level)))
}

/// One line an event: `{time} {LEVEL} {text} {field}={value} …`.
fn layer<S, W, M>(make_writer: M, colours: bool, place: Place) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Write + 'static,
    M: Fn() -> W + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .with_timer(LocalTime)
        .with_target(false)
        .with_ansi(colours)
        .with_writer(make_writer)
        // The spans of the actor library tell nothing that an event of ours does not.
        .with_filter(filter_fn(move |metadata: &Metadata<'_>| {
            metadata.is_event() && (place == Place::File || metadata.target() != SAID)
        }))
        .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("lock").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str, event: impl FnOnce()) -> String {
        logged_to(Place::File, level, event)
    }

    fn logged_to(place: Place, level: &str, event: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::registry()
            .with(targets(&LogLevel::lenient(level.to_owned())))
            .with(layer(move || writer.clone(), false, place));
        tracing::subscriber::with_default(subscriber, event);
        let bytes = kept.0.lock().expect("lock").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn the_log_always_has_a_place() {
        let no = Some(OsStr::new("1"));
        assert_eq!(Screen::choose(true, true, None), Screen::Colours);
        assert_eq!(Screen::choose(true, true, no), Screen::Plain);
        let empty = Some(OsStr::new(""));
        assert_eq!(Screen::choose(true, true, empty), Screen::Colours);
        assert_eq!(Screen::choose(false, false, None), Screen::Plain);
        assert_eq!(Screen::choose(true, false, None), Screen::Off);
    }

    #[test]
    fn an_event_is_one_line_with_time_level_and_fields() {
        let text = logged("info", || {
            tracing::info!(plugin = "a", run = 3, "phase");
            tracing::debug!("not shown");
        });
        let (time, rest) = text.split_once(' ').expect("words");
        assert_eq!(rest, " INFO phase plugin=\"a\" run=3\n");
        assert_eq!(time.len(), "2026-01-02T03:04:05.678+01:00".len(), "{time}");
    }

    #[test]
    fn only_ours_are_told_in_detail() {
        let text = logged("debug", || {
            tracing::debug!("ours");
            tracing::info!(target: "rumqttc", "theirs");
            tracing::warn!(target: "rumqttc", "\u{1b}[31mtheir trouble");
        });
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("ours") && text.contains("their trouble"));
        assert!(!text.contains('\u{1b}'), "{text:?}");
        let quiet = logged("error", || tracing::warn!("ours"));
        assert_eq!(quiet, "");
    }

    #[test]
    fn what_is_said_is_not_said_twice() {
        let both = || only_in_the_file("launcher: no core\nhint: get one");
        let file = logged_to(Place::File, "error", both);
        assert_eq!(file.lines().count(), 2, "{file}");
        assert!(file.contains(" ERROR launcher: no core\n"), "{file}");
        assert_eq!(logged_to(Place::Screen, "debug", both), "");
    }
}
