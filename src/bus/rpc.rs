//! The launcher's requests and replies, typed (HP 1.10, spec §8).
//!
//! Invariants: every payload decodes to a request or to the error text of its reply, never to a panic (T12); no text
//! that goes out is longer than [`MAX_ERROR`] bytes.

use crate::golang::{self, DecodeError};
use crate::wire::{
    GetPluginReply, InfoReply, ListArgs, ListReply, MANAGE, NameArgs, PlanReply, PluginInfo, READ,
    ReloadArgs, SettingArgs, StartArgs, StopAllArgs,
};
use std::fmt;

/// Longest error text of a reply, in bytes (spec §8).
pub const MAX_ERROR: usize = 1024;
/// Most characters of a name that is repeated in an error text (spec §8).
pub const MAX_ECHO: usize = 64;
/// The error of a request that comes while too many are being served (spec §8).
pub const BUSY: &str = "busy";

/// A method of the launcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// All plugins.
    List,
    /// Wish up and enabled.
    StartPlugin,
    /// Wish up for all enabled.
    StartAllPlugins,
    /// Wish down and disabled.
    StopPlugin,
    /// Wish down for all.
    StopAllPlugins,
    /// Stop, then start.
    RestartPlugin,
    /// Everything known of one.
    GetPlugin,
    /// Starts with the launcher from the next time on.
    EnablePlugin,
    /// Does not.
    DisablePlugin,
    /// Read the configuration anew.
    Reload,
}

impl Method {
    /// All methods.
    pub const ALL: [Method; 10] = [
        Method::List,
        Method::StartPlugin,
        Method::StartAllPlugins,
        Method::StopPlugin,
        Method::StopAllPlugins,
        Method::RestartPlugin,
        Method::GetPlugin,
        Method::EnablePlugin,
        Method::DisablePlugin,
        Method::Reload,
    ];

    /// Its name in topics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Method::List => "list",
            Method::StartPlugin => "startPlugin",
            Method::StartAllPlugins => "startAllPlugins",
            Method::StopPlugin => "stopPlugin",
            Method::StopAllPlugins => "stopAllPlugins",
            Method::RestartPlugin => "restartPlugin",
            Method::GetPlugin => "getPlugin",
            Method::EnablePlugin => "enablePlugin",
            Method::DisablePlugin => "disablePlugin",
            Method::Reload => "reload",
        }
    }

    /// Whether a capability has it: `manage` has all, `read` those that change nothing.
    #[must_use]
    pub fn is_part_of(self, capability: &str) -> bool {
        match self {
            Method::List | Method::GetPlugin => capability == MANAGE || capability == READ,
            Method::StartPlugin
            | Method::StartAllPlugins
            | Method::StopPlugin
            | Method::StopAllPlugins
            | Method::RestartPlugin
            | Method::EnablePlugin
            | Method::DisablePlugin
            | Method::Reload => capability == MANAGE,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A request to the launcher. Names are as they came: any text, the empty one too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// All plugins.
    List(ListArgs),
    /// Start one.
    StartPlugin(StartArgs),
    /// Start all enabled.
    StartAllPlugins,
    /// Stop one.
    StopPlugin(NameArgs),
    /// Stop all.
    StopAllPlugins(StopAllArgs),
    /// Restart one.
    RestartPlugin(NameArgs),
    /// Explain one.
    GetPlugin(NameArgs),
    /// Enable one.
    EnablePlugin(SettingArgs),
    /// Disable one.
    DisablePlugin(SettingArgs),
    /// Read the configuration anew.
    Reload(ReloadArgs),
}

/// Why a request cannot be served; its text is the error of the reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No such method.
    #[error("method '{method}' not part of capability '{capability}'")]
    UnknownMethod {
        /// Its name, at most [`MAX_ECHO`] characters of it.
        method: String,
        /// The capability, at most [`MAX_ECHO`] characters of it.
        capability: String,
    },
    /// Its payload cannot be read.
    #[error("failed unmarshal request: {0}")]
    Payload(DecodeError),
}

impl Request {
    /// Reads the request `method` of a capability.
    ///
    /// An empty payload is an error as in Go, but for the methods that take no argument or have defaults (T12).
    ///
    /// # Errors
    /// The capability has no such method, or the payload is not its argument.
    pub fn decode(capability: &str, method: &str, payload: &[u8]) -> Result<Request, RequestError> {
        let known = Method::ALL
            .into_iter()
            .find(|known| known.name() == method && known.is_part_of(capability));
        let Some(method) = known else {
            return Err(RequestError::UnknownMethod {
                method: echoed(method),
                capability: echoed(capability),
            });
        };
        if payload.len() > golang::MAX_PAYLOAD {
            return Err(RequestError::Payload(DecodeError::TooLong {
                length: payload.len(),
            }));
        }
        let named = || golang::decode::<NameArgs>(payload).map_err(RequestError::Payload);
        let set = || golang::decode::<SettingArgs>(payload).map_err(RequestError::Payload);
        Ok(match method {
            Method::List => Request::List(golang::decode(payload).map_err(RequestError::Payload)?),
            Method::StartPlugin => {
                Request::StartPlugin(golang::decode(payload).map_err(RequestError::Payload)?)
            }
            Method::StartAllPlugins => Request::StartAllPlugins,
            Method::StopPlugin => Request::StopPlugin(named()?),
            Method::StopAllPlugins if payload.is_empty() => {
                Request::StopAllPlugins(StopAllArgs::default())
            }
            Method::StopAllPlugins => {
                Request::StopAllPlugins(golang::decode(payload).map_err(RequestError::Payload)?)
            }
            Method::RestartPlugin => Request::RestartPlugin(named()?),
            Method::GetPlugin => Request::GetPlugin(named()?),
            Method::EnablePlugin => Request::EnablePlugin(set()?),
            Method::DisablePlugin => Request::DisablePlugin(set()?),
            Method::Reload if payload.is_empty() => Request::Reload(ReloadArgs::default()),
            Method::Reload => {
                Request::Reload(golang::decode(payload).map_err(RequestError::Payload)?)
            }
        })
    }

    /// Its method.
    #[must_use]
    pub const fn method(&self) -> Method {
        match self {
            Request::List(_) => Method::List,
            Request::StartPlugin(_) => Method::StartPlugin,
            Request::StartAllPlugins => Method::StartAllPlugins,
            Request::StopPlugin(_) => Method::StopPlugin,
            Request::StopAllPlugins(_) => Method::StopAllPlugins,
            Request::RestartPlugin(_) => Method::RestartPlugin,
            Request::GetPlugin(_) => Method::GetPlugin,
            Request::EnablePlugin(_) => Method::EnablePlugin,
            Request::DisablePlugin(_) => Method::DisablePlugin,
            Request::Reload(_) => Method::Reload,
        }
    }

    /// Its payload, as the original's client writes it.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        match self {
            Request::List(args) => golang::encode(args),
            Request::StartAllPlugins => Vec::new(),
            Request::StopAllPlugins(args) => golang::encode(args),
            Request::StartPlugin(args) => golang::encode(args),
            Request::StopPlugin(args) | Request::RestartPlugin(args) | Request::GetPlugin(args) => {
                golang::encode(args)
            }
            Request::EnablePlugin(args) | Request::DisablePlugin(args) => golang::encode(args),
            Request::Reload(args) => golang::encode(args),
        }
    }
}

/// What the launcher answers when it succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To `list`.
    List(ListReply),
    /// To methods that name a plugin.
    Info(Box<PluginInfo>),
    /// To `getPlugin`.
    Plugin(Box<GetPluginReply>),
    /// To `reload`.
    Plan(PlanReply),
    /// To `startAllPlugins` and `stopAllPlugins`.
    Empty,
}

impl Reply {
    /// Its payload.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        match self {
            Reply::List(reply) => golang::encode(reply),
            Reply::Info(info) => {
                // As InfoReply, without a copy.
                #[derive(serde::Serialize)]
                struct Borrowed<'a> {
                    info: &'a PluginInfo,
                }
                golang::encode(&Borrowed { info })
            }
            Reply::Plugin(reply) => golang::encode(reply),
            Reply::Plan(reply) => golang::encode(reply),
            Reply::Empty => Vec::new(),
        }
    }

    /// Reads the reply to a request.
    ///
    /// # Errors
    /// It is not what the method answers.
    pub fn decode(method: Method, payload: &[u8]) -> Result<Reply, DecodeError> {
        Ok(match method {
            Method::List => Reply::List(golang::decode_reply(payload)?),
            Method::GetPlugin => Reply::Plugin(Box::new(golang::decode_reply(payload)?)),
            Method::Reload => Reply::Plan(golang::decode_reply(payload)?),
            Method::StartAllPlugins | Method::StopAllPlugins => Reply::Empty,
            Method::StartPlugin
            | Method::StopPlugin
            | Method::RestartPlugin
            | Method::EnablePlugin
            | Method::DisablePlugin => {
                Reply::Info(Box::new(golang::decode_reply::<InfoReply>(payload)?.info))
            }
        })
    }
}

/// The original's text for a plugin nobody knows (HP 1.7).
#[must_use]
pub fn not_found(name: &str) -> String {
    format!("plugin '{}' not found", echoed(name))
}

/// A name fit to be repeated in an error text: at most [`MAX_ECHO`] characters.
#[must_use]
pub fn echoed(name: &str) -> String {
    name.chars().take(MAX_ECHO).collect()
}

/// An error text fit for a reply: at most [`MAX_ERROR`] bytes, cut between characters.
#[must_use]
pub fn cut_error(text: &str) -> &str {
    let mut end = text.len().min(MAX_ERROR);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
