//! A core that runs alone in a home of its own, and who logs in there.
//!
//! Invariant: it is ended with its test, and nothing of its home is left.

use crate::hub::{Home, PATIENCE, eventually};
use crate::packets::{Wire, length, raw, request_from, text};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

pub struct Core {
    pub home: Home,
    child: Option<Child>,
}

/// The configuration of a test's core; its websocket gets a free port too.
fn configuration(more: &str) -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port.local_addr().unwrap().port();
    format!(
        "mqttserver:\n  port: 0\n  wsPort: {port}\n  inMemUDSName: \"\"\n{more}enableMDNS: false\n"
    )
}

impl Core {
    pub fn start() -> Core {
        Core::with("")
    }

    /// With more lines of `mqttserver`.
    pub fn with(more: &str) -> Core {
        let mut core = Core::prepared(more);
        core.launch();
        core
    }

    /// Not started yet.
    pub fn prepared(more: &str) -> Core {
        let home = Home::empty();
        fs::write(home.path("config/mqttcore.yaml"), configuration(more)).unwrap();
        Core { home, child: None }
    }

    /// Starts it, and waits until it is ready.
    pub fn launch(&mut self) {
        self.launch_by(Command::new(self.path("bin/mqttcore")));
    }

    /// As [`Core::launch`], by a command that becomes the core.
    pub fn launch_by(&mut self, mut command: Command) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("core.log"))
            .unwrap();
        command
            .arg("--home")
            .arg(self.path(""))
            .env("HIVEOT_HOME", self.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .current_dir("/");
        let mut child = eventually("a program can be executed", || match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => None,
            other => Some(other.unwrap()),
        });
        let mut output = child.stdout.take().unwrap();
        self.child = Some(child);
        let mut said = Vec::new();
        let mut byte = [0];
        // Its line of readiness; the end of its output if it fails.
        while !said.ends_with(b"\n") && output.read(&mut byte).unwrap() == 1 {
            said.push(byte[0]);
        }
        let said = String::from_utf8(said).unwrap();
        assert!(
            said.starts_with("MQTT Hub core started"),
            "{said}{}",
            self.log()
        );
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.home.path(below)
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.as_ref().unwrap().id()).unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("core.log")).unwrap_or_default()
    }

    pub fn socket(&self) -> PathBuf {
        self.path("run/mqttcore.sock")
    }

    pub fn port(&self) -> u16 {
        let url = fs::read_to_string(self.path("run/mqttcore.url")).unwrap();
        url.trim().rsplit(':').next().unwrap().parse().unwrap()
    }

    pub fn ws_port(&self) -> u16 {
        let config = fs::read_to_string(self.path("config/mqttcore.yaml")).unwrap();
        let line = config
            .lines()
            .find_map(|line| line.trim().strip_prefix("wsPort: "));
        line.unwrap().parse().unwrap()
    }

    pub fn token(&self, login: &str) -> String {
        fs::read_to_string(self.path(&format!("certs/{login}.token"))).unwrap()
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        crate::hub::signal_pid(self.pid(), 15);
        let mut child = self.child.take().unwrap();
        let status = eventually("the core ends", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// The open descriptors of the process.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .unwrap()
            .count()
    }

    /// What it holds in memory, in bytes.
    pub fn memory(&self) -> u64 {
        memory_of(self.pid())
    }

    /// A connection to the path socket.
    pub fn dial(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// TLS to a port.
    pub fn tls(&self, port: u16) -> Tls {
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.path("certs/caCert.pem")).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        rustls::StreamOwned::new(session, stream)
    }

    /// The admin, who may ask the auth service.
    pub fn admin(&self) -> Wire {
        Wire::log_in_as_admin(self.dial(), self.token("admin").as_bytes())
    }

    /// A client of that login that asks, with its token or password.
    pub fn asker(&self, login: &str) -> Asker {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let id = format!("{login}-asks-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let (mut wire, answer) =
            Wire::log_in(self.dial(), &id, login, self.token(login).as_bytes());
        assert_eq!((answer.kind(), answer.body[1]), (2, 0), "{login}");
        let mut body = vec![0, 1, 0];
        body.extend(text(format!("_INBOX/{id}").as_bytes()));
        body.push(1);
        wire.send(&packet(0x82, &body));
        assert_eq!(wire.receive().body.last(), Some(&1));
        Asker {
            wire,
            id,
            login: login.to_owned(),
        }
    }

    /// Makes a client of any kind and role, and leaves its token beside the others: a password where it can have none.
    pub fn add(&self, kind: Kind, id: &str, role: &str) {
        let public = fs::read_to_string(self.path("certs/admin.pub")).unwrap();
        let (method, key) = match kind {
            Kind::User => ("addUser", "userID"),
            Kind::Device => ("addDevice", "deviceID"),
            Kind::Service => ("addService", "serviceID"),
        };
        let mut args = serde_json::json!({key: id, "pubKey": public, "role": role});
        if role.is_empty() {
            args = serde_json::json!({key: id, "password": "some password"});
        }
        let reply = self
            .asker("admin")
            .ask(&format!("rpc/auth/manageClients/{method}"), &args);
        let token = reply["token"].as_str().filter(|token| !token.is_empty());
        fs::write(
            self.path(&format!("certs/{id}.token")),
            token.unwrap_or("some password"),
        )
        .unwrap();
    }

    /// A client certificate of the hub's CA and its key, as files.
    pub fn client_certificate(&self, login: &str) -> (PathBuf, PathBuf) {
        let key = creds::KeyPair::generate().unwrap();
        let now = creds::UnixTime::from(std::time::SystemTime::now());
        let ca = creds::ca::load_ca(&self.path("certs"), now).unwrap();
        let subject = creds::ca::ClientSubject {
            client_id: login,
            unit: "user",
        };
        let hour = std::time::Duration::from_secs(3600);
        let cert = ca
            .issuer()
            .unwrap()
            .client(subject, key.public(), hour, now)
            .unwrap();
        let files = ["cert", "key"].map(|end| self.path(&format!("{login}.{end}.pem")));
        fs::write(&files[0], cert).unwrap();
        fs::write(&files[1], key.to_pem().expose()).unwrap();
        let [cert, key] = files;
        (cert, key)
    }
}

/// A client with an inbox of its own.
pub struct Asker {
    pub wire: Wire,
    pub id: String,
    login: String,
}

impl Asker {
    /// Asks; the reply must be no error.
    pub fn ask(&mut self, method: &str, args: &Value) -> Value {
        let payload = if args.is_null() {
            String::new()
        } else {
            args.to_string()
        };
        let topic = format!("{method}/{}", self.login);
        let reply = self
            .wire
            .ask(&request_from(&self.id, &topic, payload.as_bytes(), 9));
        assert_eq!(reply.content_type, "json", "{topic}: {}", reply.text());
        serde_json::from_slice(&reply.payload).unwrap_or_default()
    }
}

/// What kind of client.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    User,
    Device,
    Service,
}

pub type Tls = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

impl Drop for Core {
    #[expect(clippy::print_stdout, reason = "a failed test shows it")]
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().rev().take(30).collect();
            println!("the core's last words, newest first:\n{}", lines.join("\n"));
        }
    }
}

/// What a process holds in memory, in bytes.
pub fn memory_of(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    kilobytes.parse::<u64>().unwrap() * 1024
}

/// A CONNECT as the original sends it.
pub fn connect_packet(client: &str, user: &str, password: &[u8]) -> Vec<u8> {
    // Header, flags, keep alive and properties as in the vector.
    let mut body = raw("connect-hubcli")[2..2 + 10 + 3].to_vec();
    for part in [client.as_bytes(), user.as_bytes(), password] {
        body.extend(text(part));
    }
    packet(0x10, &body)
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    packet.extend(length(body.len()));
    packet.extend(body);
    packet
}

/// Writes what the other side lets; it may close at any byte.
pub fn push(stream: &mut impl Write, bytes: &[u8]) -> bool {
    stream
        .write_all(bytes)
        .and_then(|()| stream.flush())
        .is_ok()
}
