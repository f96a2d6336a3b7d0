//! By what a plugin counts as ready, in words (spec §9).
//!
//! Invariant: pure; each way has its words for waiting, for having waited in vain, and for the way out.

/// By what a run counts as ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadyBy {
    /// It lives.
    Living,
    /// It says so itself.
    Itself,
    /// A line of its output has this.
    Line(String),
    /// Somebody accepts connections there.
    Connection(String),
    /// It has logged in at the bus.
    Login,
    /// It is the core, and somebody can log in.
    LoginOfOthers,
}

impl ReadyBy {
    /// What is waited for: `READY=1 from it`.
    #[must_use]
    pub fn awaited(&self) -> String {
        match self {
            ReadyBy::Living => "it to have lived for a moment".to_owned(),
            ReadyBy::Itself => "READY=1 from it, at its NOTIFY_SOCKET".to_owned(),
            ReadyBy::Line(pattern) => format!("a line with '{pattern}' in its output"),
            ReadyBy::Connection(place) => format!("somebody to accept connections at {place}"),
            ReadyBy::Login => "its login at the bus".to_owned(),
            ReadyBy::LoginOfOthers => "the launcher's login at it".to_owned(),
        }
    }

    /// What did not come, as a sentence: `it had not said READY=1`.
    #[must_use]
    pub fn missed(&self) -> String {
        match self {
            ReadyBy::Living => "it was not ready".to_owned(),
            ReadyBy::Itself => "it had not said READY=1 at its NOTIFY_SOCKET".to_owned(),
            ReadyBy::Line(pattern) => format!("no line of its output had '{pattern}' in it"),
            ReadyBy::Connection(place) => format!("nobody accepted connections at {place}"),
            ReadyBy::Login => "it had not logged in at the bus".to_owned(),
            ReadyBy::LoginOfOthers => "the launcher could not log in at it".to_owned(),
        }
    }

    /// What can be done when it does not come in time, to the plugin `id`.
    #[must_use]
    pub fn way_out(&self, id: &str) -> String {
        let slower = format!(
            "if it only takes longer, raise {}",
            setting(id, "start.timeout")
        );
        let ready = setting(id, "ready");
        match self {
            ReadyBy::Living | ReadyBy::LoginOfOthers => {
                format!("logs/{id}.log tells what it does instead; {slower}")
            }
            ReadyBy::Itself | ReadyBy::Line(_) | ReadyBy::Connection(_) => {
                format!("{slower}; if it never does that, correct {ready}")
            }
            ReadyBy::Login => format!(
                "logs/{id}.log tells why it does not log in; {slower}; if it does not use the bus, correct {ready}"
            ),
        }
    }
}

/// The core's id.
const CORE: &str = "core";

/// The key of a plugin's setting; those of the core are those of all (spec §4).
pub(crate) fn setting(id: &str, key: &str) -> String {
    if id == CORE {
        key.to_owned()
    } else {
        format!("plugins.{id}.{key}")
    }
}
