//! Actions and events, from hubcli to a plugin and back (HP 1.22).

use crate::hub::{Home, Hub, eventually};
use bus::client::{Client, Incoming, Options, connect_once};
use serde_json::Value;
use std::io::Read;
use std::process::{Command, Stdio};
use tokio::sync::mpsc::Receiver;

#[test]
fn events_come_and_go_as_long_as_somebody_listens() {
    let home = Home::new("corebin: mqttcore\n");
    home.plugin("echoer", "exec sleep 1000");
    let hub = home.up();
    let mut listener = Command::new(hub.path("bin/hubcli"))
        .args(["--json", "sub", "launcher", "+", "started", "-n", "2"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It hears nothing before it listens; what it hears last ends it.
    let status = eventually("two events are heard", || {
        hub.ok(&["restart", "echoer"]);
        listener.try_wait().unwrap()
    });
    assert_eq!(status.code(), Some(0));
    let out = std::io::read_to_string(listener.stdout.take().unwrap()).unwrap();
    let events: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.len(), 2, "{out}");
    assert_eq!(
        (&events[0]["name"], &events[0]["value"]),
        (&"started".into(), &"\"echoer\"".into())
    );

    assert_eq!(hub.hubcli(&["pub", "a", "b"]).status.code(), Some(2));
    assert_eq!(hub.hubcli(&["pub", "a/x", "b", "c"]).status.code(), Some(2));
    assert_eq!(hub.hubcli(&["sub", "#"]).status.code(), Some(2));

    // Who hears nothing any more is told.
    let mut deaf = Command::new(hub.path("bin/hubcli"))
        .args(["sub"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 14];
    deaf.stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    assert_eq!(&first, b"Subscribing to");
    hub.down();
    let deaf = deaf.wait_with_output().unwrap();
    assert_eq!(deaf.status.code(), Some(3));
    let err = String::from_utf8(deaf.stderr).unwrap();
    assert!(
        err.starts_with("ERROR:  connection to the hub lost: "),
        "{err}"
    );
}

/// Logs in as a plugin, to serve its actions.
async fn plugin(hub: &Hub, id: &str) -> (Client, Receiver<Incoming>) {
    let credentials = bus::hub::credentials(&hub.path("certs"), id);
    let mut options =
        Options::new(id, Vec::new(), credentials).subscribe(format!("action/{id}/+/+/#"));
    options.endpoints = bus::hub::endpoints(&hub.path("run"), None);
    connect_once(options, crate::hub::PATIENCE).await.unwrap()
}

/// Answers one action with what it was asked for.
async fn answer_one(client: &Client, incoming: &mut Receiver<Incoming>) {
    loop {
        if let Some(Incoming::Request(request)) = incoming.recv().await {
            let asked = String::from_utf8_lossy(&request.payload).into_owned();
            let answer = match asked.as_str() {
                "bad" => Err("no such lamp".to_owned()),
                _ => Ok(format!("{} {asked}", request.topic).into_bytes()),
            };
            client.reply(&request, answer).await.unwrap();
            return;
        }
    }
}

#[test]
fn an_action_is_requested_and_its_answer_shown() {
    let home = Home::new("corebin: mqttcore\n");
    home.plugin("lamps", "exec sleep 1000");
    let hub = home.up();
    hub.ok(&["start", "lamps"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (client, mut incoming) = runtime.block_on(plugin(&hub, "lamps"));
    let mut ask = |args: &[&str]| {
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| hub.hubcli(args));
            runtime.block_on(answer_one(&client, &mut incoming));
            asked.join().unwrap()
        })
    };
    let done = ask(&["pub", "lamps", "one", "dim", "-5"]);
    assert_eq!(
        String::from_utf8(done.stdout).unwrap(),
        "Successfully published action 'dim' to thing 'one'\naction/lamps/one/dim/admin -5\n"
    );
    let failed = ask(&["pub", "lamps", "one", "dim", "bad"]);
    assert_eq!(failed.status.code(), Some(1));
    let err = String::from_utf8(failed.stderr).unwrap();
    assert!(err.starts_with("ERROR:  no such lamp\nhint:  "), "{err}");
    let json = ask(&["--json", "pub", "lamps", "one", "on"]);
    let told: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(told["reply"], "action/lamps/one/on/admin ");
    runtime.block_on(client.close());
    hub.down();
}
