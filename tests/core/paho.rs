//! A client of another maker, paho, moved step by step by `tests/fixtures/roles.py`.

use crate::server::Core;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/roles.py");

/// A python that has the library: the system's own, where the distribution's package puts it, or the first in `PATH`.
pub fn python() -> Option<&'static str> {
    ["/usr/bin/python3", "python3"].into_iter().find(|python| {
        Command::new(python)
            .args(["-c", "import paho.mqtt.client"])
            .output()
            .is_ok_and(|output| output.status.success())
    })
}

/// As [`python`]; says that a test is left out when there is none.
pub fn python_or_left_out(test: &str) -> Option<&'static str> {
    let found = python();
    if found.is_none() {
        let text = format!(
            "left out: {test}: python3 has no module paho.mqtt (Debian: python3-paho-mqtt)\n"
        );
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
    found
}

pub struct Paho {
    child: Child,
    steps: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Drop for Paho {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Paho {
    pub fn start(python: &str, core: &Core) -> Paho {
        let mut child = Command::new(python)
            .arg(SCRIPT)
            .arg(core.path("certs/caCert.pem"))
            .args([core.port().to_string(), core.ws_port().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Paho {
            steps: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    pub fn step(&mut self, step: &Value) -> Value {
        writeln!(self.steps, "{step}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{step}: {line:?}: {error}"))
    }

    /// Connects with the login's token; the reason code.
    pub fn connect(&mut self, core: &Core, login: &str, over: &str) -> u64 {
        let token = core.token(login);
        let step = json!({"do": "connect", "as": login, "user": login, "password": token,
            "id": format!("{login}-1"), "over": over});
        self.step(&step).as_u64().unwrap()
    }

    /// The reason code of each filter.
    pub fn subscribe(&mut self, who: &str, filters: &[String]) -> Vec<u64> {
        let answer = self.step(&json!({"do": "subscribe", "as": who, "filters": filters}));
        codes(&answer)
    }

    /// The reason code of each message.
    pub fn publish(&mut self, who: &str, topics: &[String]) -> Vec<u64> {
        let messages: Vec<_> = topics
            .iter()
            .map(|topic| json!([topic, "x", false]))
            .collect();
        let answer = self.step(&json!({"do": "publish", "as": who, "messages": messages}));
        codes(&answer)
    }

    /// The topics of all that came before one on `until`, but for what the core itself tells (logins).
    pub fn heard(&mut self, who: &str, until: &str) -> Vec<String> {
        let answer = self.step(&json!({"do": "heard", "as": who, "until": until}));
        let all = answer.as_array().unwrap().iter();
        all.map(|message| message[0].as_str().unwrap().to_owned())
            .filter(|topic| !topic.starts_with("event/auth/"))
            .collect()
    }
}

fn codes(answer: &Value) -> Vec<u64> {
    answer
        .as_array()
        .unwrap()
        .iter()
        .map(|code| code.as_u64().unwrap())
        .collect()
}
