//! The example plugin beside a real core: what the README shows as the way to write one's own really is one.
//!
//! Invariants: every wait has a bound and ends with the value; nothing outlives a test.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bus::client::{Client, Incoming, Options, connect_forever};
use bus::wire::{AddServiceArgs, TokenReply};
use creds::{CredentialPaths, Secret};
use tokio::sync::mpsc::Receiver;

/// Far more than anything here takes, for machines with much else to do.
const BOUND: Duration = Duration::from_secs(30);

/// A program that is killed when its test ends.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    fn terminate(&mut self) -> (Option<i32>, Duration) {
        let asked = Instant::now();
        let pid = nix::unistd::Pid::from_raw(self.0.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = self.0.wait().unwrap();
        (status.code(), asked.elapsed())
    }
}

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("config")).unwrap();
        std::fs::create_dir(home.path().join("plugins")).unwrap();
        let config = "mqttserver: {port: 0, wsPort: 0, inMemUDSName: ''}\nenableMDNS: false\n";
        std::fs::write(home.path().join("config/mqttcore.yaml"), config).unwrap();
        std::os::unix::fs::symlink(counter_program(), home.path().join("plugins/counter")).unwrap();
        Home(home)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn core(&self) -> Program {
        let child = Command::new(env!("CARGO_BIN_EXE_mqttcore"))
            .arg("--home")
            .arg(self.0.path())
            .stdout(Stdio::null())
            .spawn();
        Program(child.unwrap())
    }

    /// A client as the launcher or the admin, once the core has made its credentials.
    fn client(&self, login: &str, filter: &str) -> (Client, Receiver<Incoming>) {
        let mut options = Options::new(
            login,
            vec![],
            bus::hub::credentials(&self.path("certs"), login),
        );
        options.endpoints = bus::hub::endpoints(&self.path("run"), None);
        let (client, incoming) = connect_forever(options.subscribe(filter));
        client.set_eager(true);
        (client, incoming)
    }

    /// What the launcher does for a plugin before its start.
    async fn add_counter(&self, launcher: &Client) {
        let paths = CredentialPaths::new(&self.path("certs"), "counter").unwrap();
        let (pair, _) = creds::keys::load_or_create(&self.path("certs"), "counter").unwrap();
        let args = AddServiceArgs {
            service_id: "counter".to_owned(),
            display_name: "plugin".to_owned(),
            pub_key: pair.public_text(),
        };
        let args = serde_json::to_vec(&args).unwrap();
        let reply = launcher
            .call("rpc/auth/manageClients/addService/launcher", args, BOUND)
            .await
            .unwrap();
        let reply: TokenReply = serde_json::from_slice(&reply).unwrap();
        creds::files::write_token(&paths.token, &Secret::new(reply.token)).unwrap();
    }

    fn counter(&self, server: &str) -> Command {
        let mut command = Command::new(self.path("plugins/counter"));
        command
            .arg("1")
            .env("HIVEOT_HOME", self.0.path())
            .env("HIVEOT_SERVER", server);
        command
    }
}

/// Examples are built beside the programs.
fn counter_program() -> PathBuf {
    let programs = Path::new(env!("CARGO_BIN_EXE_mqttcore")).parent().unwrap();
    let program = programs.join("examples/counter");
    assert!(program.exists(), "cargo build --example counter");
    program
}

async fn connected(incoming: &mut Receiver<Incoming>) {
    let wait =
        async { while !matches!(incoming.recv().await, Some(Incoming::Connected { .. })) {} };
    tokio::time::timeout(BOUND, wait)
        .await
        .expect("no connection");
}

/// The payload of the next event with this topic.
async fn event(incoming: &mut Receiver<Incoming>, wanted: &str) -> Vec<u8> {
    let wait = async {
        loop {
            if let Incoming::Message { topic, payload } = incoming.recv().await.unwrap()
                && topic == wanted
            {
                return payload.to_vec();
            }
        }
    };
    tokio::time::timeout(BOUND, wait)
        .await
        .unwrap_or_else(|_| panic!("no {wanted}"))
}

async fn next_count(incoming: &mut Receiver<Incoming>) -> u64 {
    let payload = event(incoming, "event/counter/counter/count/counter").await;
    serde_json::from_slice(&payload).unwrap()
}

#[tokio::test]
async fn it_tells_counts_answers_and_comes_back_when_the_core_does() {
    let home = Home::new();
    let mut core = home.core();
    let (admin, mut events) = home.client("admin", "event/counter/+/+/#");
    let (launcher, mut ready) = home.client("launcher", "event/launcher/+/+/#");
    connected(&mut events).await;
    connected(&mut ready).await;
    home.add_counter(&launcher).await;
    let socket = format!("unix://{}", home.path("run/mqttcore.sock").display());
    let mut counter = Program(home.counter(&socket).stdout(Stdio::null()).spawn().unwrap());

    let td = event(&mut events, "event/counter/counter/$td/counter").await;
    let td: serde_json::Value = serde_json::from_slice(&td).unwrap();
    assert_eq!(td["id"], "counter");
    assert!(
        td["events"]["count"].is_object() && td["actions"]["reset"].is_object(),
        "{td}"
    );
    let first = next_count(&mut events).await;
    assert_eq!(next_count(&mut events).await, first + 1);

    let until_now = admin
        .call("action/counter/counter/reset/admin", "", BOUND)
        .await
        .unwrap();
    assert!(serde_json::from_slice::<u64>(&until_now).unwrap() > first);
    assert_eq!(next_count(&mut events).await, 1);
    let error = admin
        .call("action/counter/counter/explode/admin", "", BOUND)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("one action: reset"), "{error}");

    core.0.kill().unwrap();
    core.0.wait().unwrap();
    let _core = home.core();
    connected(&mut events).await;
    event(&mut events, "event/counter/counter/$td/counter").await;
    assert!(next_count(&mut events).await > 1, "it is the same process");

    let (code, took) = counter.terminate();
    assert_eq!(code, Some(0));
    // 100 ms are wanted; the rest is for a machine that has much else to do.
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn it_goes_over_tls_too() {
    let home = Home::new();
    let _core = home.core();
    let (_admin, mut events) = home.client("admin", "event/counter/+/+/#");
    let (launcher, mut ready) = home.client("launcher", "event/launcher/+/+/#");
    connected(&mut events).await;
    connected(&mut ready).await;
    home.add_counter(&launcher).await;
    let url = std::fs::read_to_string(home.path("run/mqttcore.url")).unwrap();
    let port = url.trim().rsplit(':').next().unwrap();
    let server = format!("mqtts://localhost:{port}");
    let _counter = Program(home.counter(&server).stdout(Stdio::null()).spawn().unwrap());
    assert!(next_count(&mut events).await >= 1);
}

/// Runs it without a core; what it says as it ends.
fn failure(home: &Home) -> String {
    let output = home
        .counter("unix:///nowhere")
        .env("RUST_BACKTRACE", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn without_valid_credentials_it_says_what_is_wrong_and_ends() {
    let home = Home::new();
    let certs = home.path("certs");
    std::fs::create_dir(&certs).unwrap();
    assert!(failure(&home).contains("counter.key does not exist"));
    let (pair, _) = creds::keys::load_or_create(&certs, "counter").unwrap();
    assert!(failure(&home).contains("counter.token does not exist"));
    let token = CredentialPaths::new(&certs, "counter").unwrap().token;
    creds::files::write_token(&token, &Secret::new("nonsense".to_owned())).unwrap();
    assert!(failure(&home).contains("counter.token does not serve: it is not a token"));
    let long_ago = creds::UnixTime(1_700_000_000);
    let day = Duration::from_secs(86_400);
    let key = pair.public_text();
    let claims = creds::Claims::new(
        "counter",
        "service",
        "service",
        &key,
        pair.public(),
        long_ago,
        day,
    );
    creds::files::write_token(&token, &creds::token::sign(&pair, &claims).unwrap()).unwrap();
    assert!(failure(&home).contains("it expired"));
}

#[test]
fn without_a_core_it_waits_and_stops_at_once() {
    let home = Home::new();
    let certs = home.path("certs");
    std::fs::create_dir(&certs).unwrap();
    let (pair, _) = creds::keys::load_or_create(&certs, "counter").unwrap();
    let key = pair.public_text();
    let now = std::time::SystemTime::now().into();
    let claims = creds::Claims::new(
        "counter",
        "service",
        "service",
        &key,
        pair.public(),
        now,
        BOUND * 100,
    );
    let token = CredentialPaths::new(&certs, "counter").unwrap().token;
    creds::files::write_token(&token, &creds::token::sign(&pair, &claims).unwrap()).unwrap();
    let mut child = home
        .counter("unix:///nowhere")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut counter = Program(child);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    assert!(
        line.starts_with("not connected: ") && line.contains("/nowhere"),
        "{line}"
    );
    let (code, took) = counter.terminate();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(1), "{took:?}");
}
