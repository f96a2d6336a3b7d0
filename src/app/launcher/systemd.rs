//! What systemd is told of the launcher.
//!
//! Invariant: what cannot be told is logged, and holds up nothing.

use actors::control::Reloading;
use actors::hub::{Stage, Trouble};

/// Tells systemd of a reload; without it nothing happens.
pub(super) fn tell_reload(reloading: Reloading) {
    let told = match reloading {
        Reloading::Begins => os::notify::reloading(),
        Reloading::IsOver => os::notify::ready(),
    };
    if let Err(error) = told {
        tracing::warn!("systemd could not be told: {error}");
    }
}

/// Tells systemd; without it nothing happens.
pub(super) fn tell_systemd(stage: Stage, trouble: Trouble) {
    let degraded = trouble.map(|text| format!("degraded: {text}"));
    let or_degraded = |text: &str| os::notify::status(degraded.as_deref().unwrap_or(text));
    let told = match stage {
        Stage::Beginning => Ok(()),
        Stage::Starting => or_degraded("starting the core and the plugins"),
        Stage::Up => os::notify::ready().and_then(|()| or_degraded("up")),
        Stage::Ending => os::notify::stopping(),
    };
    if let Err(error) = told {
        tracing::warn!("systemd could not be told: {error}");
    }
}
