//! The launcher's own log: `logs/launcher.log`, and stderr when that is a terminal or nothing else hears it.
//!
//! Invariant: who logs never waits for a disk; a terminal is written to directly, as its user wants to see it at once.

use super::LogLevel;
use crate::app::config::Config;
use jiff::Zoned;
use std::fmt;
use std::io::IsTerminal;
use std::io::Write;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

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

/// Begins to log: into the file when `logtofile` says so, and to stderr when that is a terminal or there is no file.
///
/// Later calls in one process change nothing.
pub fn start(plane: &logs::Plane, config: &Config, name: &str, level: &LogLevel) {
    let file = config.log_to_file.then(|| {
        let log = plane.own(name, config.logs);
        layer(move || log.clone(), false)
    });
    let terminal = std::io::stderr().is_terminal();
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let screen = (terminal || file.is_none()).then(|| layer(std::io::stderr, colours));
    let subscriber = tracing_subscriber::registry()
        .with(level.filter())
        .with(file)
        .with(screen);
    // Set already: that of the first call stays.
    let _ = subscriber.try_init();
}

fn layer<S, W, M>(make_writer: M, colours: bool) -> Box<dyn Layer<S> + Send + Sync>
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
        .with_filter(filter_fn(|metadata: &Metadata<'_>| metadata.is_event()))
        .boxed()
}
