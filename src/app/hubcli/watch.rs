//! Which events of the launcher are shown.
//!
//! Invariant: plain data.

use clap::Args;

/// What `hubcli events` is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct Watch {
    /// Only this plugin, or launcher.
    pub(super) name: Option<String>,
    /// Go on with what happens, until Ctrl-C.
    #[arg(short = 'f', long)]
    pub(super) follow: bool,
    /// End after so many events.
    #[arg(short = 'n', long, value_name = "N", requires = "follow")]
    pub(super) count: Option<u64>,
}
