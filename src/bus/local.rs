//! The launcher's requests over a socket of its own machine (spec §13, §18): one JSON object a line,
//! `{"method":"startPlugin","args":{"name":"x"}}`, answered by `{"result":{…}}` or `{"error":"…"}`.
//!
//! Invariants: methods, arguments and results are those of the bus ([`crate::rpc`]); no line is longer than
//! [`MAX_LINE`] on its way to the launcher; nothing that comes is taken for a request unless it is one.

use crate::golang::{self, MAX_PAYLOAD};
use crate::rpc::{Request, RequestError};
use crate::wire::MANAGE;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The socket's name in the folder `run`.
pub const SOCKET: &str = "launcher.sock";

/// The longest line that is taken as a request, in bytes: the largest payload, and room for what is around it.
pub const MAX_LINE: usize = MAX_PAYLOAD + 1024;

/// Shorter names of two methods, as people type them.
const SHORT: [(&str, &str); 2] = [
    ("startAll", "startAllPlugins"),
    ("stopAll", "stopAllPlugins"),
];

/// Why a line is no request, or no answer; its text is the error of the reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is no such object.
    #[error("a request is one line like {{\"method\":\"list\",\"args\":{{}}}}: {0}")]
    Form(String),
    /// Its method or arguments are not the launcher's.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The answer is none.
    #[error("an answer is one line like {{\"result\":{{}}}} or {{\"error\":\"why\"}}: {0}")]
    Answer(String),
}

/// A request as it travels. What else is in the object is ignored, as on the bus.
#[derive(Deserialize)]
struct Asked {
    method: String,
    #[serde(default)]
    args: Value,
}

/// An answer as it travels.
#[derive(Default, Deserialize)]
struct Answered {
    result: Option<Value>,
    error: Option<String>,
}

/// The line of a request, with its end.
#[must_use]
pub fn request_line(request: &Request) -> Vec<u8> {
    let mut line = format!("{{\"method\":\"{}\",\"args\":", request.method()).into_bytes();
    line.extend(or_empty(request.payload()));
    line.extend(b"}\n");
    line
}

/// Reads a request; its line's end may be missing.
///
/// # Errors
/// It is none, or not for a launcher.
pub fn decode_request(line: &[u8]) -> Result<Request, LineError> {
    let asked: Asked =
        serde_json::from_slice(line).map_err(|error| LineError::Form(error.to_string()))?;
    let method = SHORT
        .iter()
        .find(|(short, _)| *short == asked.method)
        .map_or(asked.method.as_str(), |(_, method)| method);
    let payload = if asked.args.is_null() {
        b"{}".to_vec()
    } else {
        golang::encode(&asked.args)
    };
    Ok(Request::decode(MANAGE, method, &payload)?)
}

/// The line of an answer, with its end. `result` is the payload that would go over the bus.
#[must_use]
pub fn reply_line(result: Result<Vec<u8>, &str>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Refused<'a> {
        error: &'a str,
    }
    let mut line = match result {
        Ok(payload) => {
            let mut line = b"{\"result\":".to_vec();
            line.extend(or_empty(payload));
            line.push(b'}');
            line
        }
        Err(error) => golang::encode(&Refused { error }),
    };
    line.push(b'\n');
    line
}

/// Reads an answer: the payload as it would come over the bus, or the launcher's error text.
///
/// # Errors
/// It is none.
pub fn decode_reply(line: &[u8]) -> Result<Result<Vec<u8>, String>, LineError> {
    let answer: Answered =
        serde_json::from_slice(line).map_err(|error| LineError::Answer(error.to_string()))?;
    match (answer.result, answer.error) {
        (_, Some(error)) => Ok(Err(error)),
        (Some(result), None) => Ok(Ok(golang::encode(&result))),
        (None, None) => Err(LineError::Answer("neither is there".to_owned())),
    }
}

/// An empty payload in a place where JSON must be.
fn or_empty(payload: Vec<u8>) -> Vec<u8> {
    if payload.is_empty() {
        b"{}".to_vec()
    } else {
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::Method;
    use crate::wire::{ListArgs, NameArgs, ReloadArgs, SettingArgs, StartArgs, StopAllArgs};

    fn read(line: &str) -> Result<Request, String> {
        decode_request(line.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let name = || NameArgs {
            name: "a \"b\"\n".to_owned(),
        };
        let set = || SettingArgs {
            name: name().name,
            default: true,
        };
        for request in [
            Request::List(ListArgs { only_running: true }),
            Request::StartPlugin(StartArgs {
                name: name().name,
                once: true,
            }),
            Request::StartAllPlugins,
            Request::StopPlugin(name()),
            Request::StopAllPlugins(StopAllArgs {
                including_core: true,
            }),
            Request::RestartPlugin(name()),
            Request::GetPlugin(name()),
            Request::EnablePlugin(set()),
            Request::DisablePlugin(set()),
            Request::Reload(ReloadArgs { dry_run: true }),
        ] {
            let line = request_line(&request);
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(decode_request(&line), Ok(request));
        }
    }

    #[test]
    fn what_people_type_is_understood() {
        let all = || Ok(Request::StopAllPlugins(StopAllArgs::default()));
        assert_eq!(read(r#"{"method":"stopAll"}"#), all());
        assert_eq!(
            read(r#" {"args":{},"method":"stopAllPlugins","id":7} "#),
            all()
        );
        assert_eq!(
            read(r#"{"method":"list","args":null}"#),
            read(r#"{"method":"list"}"#)
        );
        assert_eq!(
            read(r#"{"method":"startAll"}"#),
            Ok(Request::StartAllPlugins)
        );
        for method in Method::ALL {
            let line = format!(r#"{{"method":"{method}","args":{{"name":"x"}}}}"#);
            assert_eq!(read(&line).map(|request| request.method()), Ok(method));
        }
    }

    #[test]
    fn what_is_no_request_is_said() {
        for (line, part) in [
            (
                "",
                "a request is one line like {\"method\":\"list\",\"args\":{}}: EOF",
            ),
            ("list", "a request is one line like"),
            ("[]", "a request is one line like"),
            ("{}", "missing field `method`"),
            (
                r#"{"method":"fly"}"#,
                "method 'fly' not part of capability 'manage'",
            ),
            (
                r#"{"method":"stopPlugin","args":[]}"#,
                "failed unmarshal request: ",
            ),
            (
                r#"{"method":"stopPlugin","args":{"name":7}}"#,
                "of type string",
            ),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
        assert!(decode_request(b"{\"method\":\"\xff\"}").is_err());
    }

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let line = reply_line(Ok(br#"{"info":{"Name":"x"}}"#.to_vec()));
        assert_eq!(line, b"{\"result\":{\"info\":{\"Name\":\"x\"}}}\n");
        assert_eq!(
            decode_reply(&line),
            Ok(Ok(br#"{"info":{"Name":"x"}}"#.to_vec()))
        );
        assert_eq!(reply_line(Ok(Vec::new())), b"{\"result\":{}}\n");
        let line = reply_line(Err("no 'x' <\n"));
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(decode_reply(&line), Ok(Err("no 'x' <\n".to_owned())));
        assert!(decode_reply(b"{}").is_err());
        assert!(decode_reply(b"").is_err());
    }
}
