//! The clients of another maker: mosquitto_rr, mosquitto_sub and mosquitto_pub, over TLS with a token.

use crate::hub::{Home, Hub};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

/// A program of the package, as admin, with an id of its own.
fn mosquitto(hub: &Hub, program: &str, id: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    let token = std::fs::read_to_string(hub.path("certs/admin.token")).unwrap();
    command.args([
        "-V",
        "mqttv5",
        "-h",
        "localhost",
        "-p",
        &hub.port().to_string(),
    ]);
    command.arg("--cafile").arg(hub.path("certs/caCert.pem"));
    command.args(["-u", "admin", "-P", token.trim(), "-i", id, "-q", "1"]);
    command.args(args).stdin(Stdio::null());
    command
}

fn output(mut command: Command) -> Output {
    match command.output() {
        Ok(output) => output,
        Err(error) => panic!(
            "{:?}: {error}; this test needs the package mosquitto-clients",
            command.get_program()
        ),
    }
}

fn ask(hub: &Hub, method: &str, payload: &str) -> (String, String) {
    let (id, topic) = ("admin-rr-1", format!("rpc/launcher/manage/{method}/admin"));
    let inbox = format!("_INBOX/{id}");
    let args = [
        "-t",
        &topic,
        "-e",
        &inbox,
        "-m",
        payload,
        "-W",
        "30",
        "-F",
        "%D|%p",
        "-D",
        "publish",
        "correlation-data",
        "this-one",
        "-D",
        "publish",
        "content-type",
        "json",
    ];
    let output = output(mosquitto(hub, "mosquitto_rr", id, &args));
    assert!(output.status.success(), "{output:?}\n{}", hub.account());
    let text = String::from_utf8(output.stdout).unwrap();
    let (correlation, payload) = text.trim_end().split_once('|').unwrap();
    (correlation.to_owned(), payload.to_owned())
}

/// A subscriber, and what it prints; it ends with its test.
struct Listener {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Listener {
    fn start(hub: &Hub, filter: &str) -> Listener {
        // It ends by itself when nothing comes.
        let args = ["-t", filter, "-F", "event %t %p", "-d", "-W", "40"];
        let mut command = mosquitto(hub, "mosquitto_sub", "admin-sub-1", &args);
        // Line by line, also into a pipe.
        let mut unbuffered = Command::new("stdbuf");
        unbuffered
            .arg("-oL")
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null());
        command = unbuffered;
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut listener = Listener { child, lines };
        listener.until("Subscribed (mid");
        listener
    }

    fn until(&mut self, beginning: &str) -> String {
        let mut all = Vec::new();
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            if line.starts_with(beginning) {
                return line;
            }
            all.push(line);
        }
        panic!("no {beginning:?} in {all:#?}");
    }
}

#[test]
fn clients_of_another_maker_ask_over_tls_and_hear_events() {
    let home = Home::new("corebin: mqttcore\n");
    home.plugin("lamp", "exec sleep 1000");
    let hub = home.up();
    let (correlation, payload) = ask(&hub, "list", "{}");
    assert_eq!(correlation, "this-one");
    let list: Value = serde_json::from_str(&payload).unwrap();
    let names: Vec<&str> = list["info"]
        .as_array()
        .unwrap()
        .iter()
        .map(|info| info["Name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["mqttcore", "lamp"]);
    let (_, error) = ask(&hub, "startPlugin", "{\"name\":\"nope\"}");
    assert_eq!(error, "plugin 'nope' not found");

    let mut events = Listener::start(&hub, "event/launcher/manage/#");
    let (_, started) = ask(&hub, "startPlugin", "{\"name\":\"lamp\"}");
    let started: Value = serde_json::from_str(&started).unwrap();
    assert_eq!(started["info"]["Running"], true);
    let event = events.until("event event/launcher/manage/started/launcher ");
    assert!(event.ends_with(" \"lamp\""), "{event}");

    // Without a place for the reply it is done all the same.
    let args = [
        "-t",
        "rpc/launcher/manage/stopPlugin/admin",
        "-m",
        "{\"name\":\"lamp\"}",
    ];
    let published = output(mosquitto(&hub, "mosquitto_pub", "admin-pub-1", &args));
    assert!(published.status.success(), "{published:?}");
    let event = events.until("event event/launcher/manage/stopped/launcher ");
    assert!(event.ends_with(" \"lamp\""), "{event}");
    assert_eq!(hub.info("lamp")["Status"], "stopped by user");

    // Neither a wrong token nor another's name gets in.
    let mut wrong = Command::new("mosquitto_pub");
    wrong.args([
        "-V",
        "mqttv5",
        "-h",
        "localhost",
        "-p",
        &hub.port().to_string(),
        "-u",
        "admin",
        "-P",
        "TOKEN",
        "-i",
        "admin-2",
    ]);
    wrong
        .arg("--cafile")
        .arg(hub.path("certs/caCert.pem"))
        .args(["-t", "event/admin/a/b/admin", "-m", "1"]);
    assert!(!output(wrong).status.success());
    drop(events);
    hub.down();
}

#[test]
fn paho_does_too_where_it_is_installed() {
    let has_paho = Command::new("python3")
        .args(["-c", "import paho.mqtt.client"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_paho {
        crate::means::left_out("the client paho", "python3 has no module paho.mqtt");
        return;
    }
    let home = Home::new("corebin: mqttcore\n");
    home.plugin("lamp", "exec sleep 1000");
    let hub = home.up();
    let mut command = Command::new("python3");
    command
        .args(["-c", PAHO, &hub.port().to_string()])
        .arg(hub.path("certs/caCert.pem"))
        .arg(hub.path("certs/admin.token"));
    let output = output(command);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{output:?}");
    let list: Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(list["info"][1]["Name"], "lamp");
    hub.down();
}

/// Asks for the list, prints the reply; works with both generations of the library.
const PAHO: &str = r#"
import sys, threading, paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
port, ca, token = int(sys.argv[1]), sys.argv[2], open(sys.argv[3]).read().strip()
kind = getattr(mqtt, 'CallbackAPIVersion', None)
first = (kind.VERSION1,) if kind else ()
client = mqtt.Client(*first, client_id='admin-paho-1', protocol=mqtt.MQTTv5)
client.username_pw_set('admin', token)
client.tls_set(ca)
done = threading.Event()
inbox = '_INBOX/admin-paho-1'
def on_connect(client, *rest):
    client.subscribe(inbox, qos=1)
def on_subscribe(client, *rest):
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic = inbox
    properties.CorrelationData = b'1'
    client.publish('rpc/launcher/manage/list/admin', '{}', qos=1, properties=properties)
def on_message(client, data, message):
    assert message.properties.CorrelationData == b'1'
    print(message.payload.decode(), flush=True)
    done.set()
client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
client.connect('localhost', port)
client.loop_start()
sys.exit(0 if done.wait(30) else 1)
"#;
