//! The core and mosquitto, side by side for the same checks.

use crate::hub::eventually;
use crate::packets::{length, text};
use crate::server::{Core, connect_packet, packet};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// What a check needs of a broker.
pub trait Broker {
    /// A connection to its socket.
    fn local(&self) -> UnixStream;
    /// What a client says first there.
    fn hello(&self, id: &str, login: &str) -> Vec<u8>;
    /// mosquitto_rr as admin, with the broker's address and login.
    fn requester(&self) -> Command;

    /// Asks `svc` by mosquitto_rr, with these properties; it prints content type, correlation, payload and user properties.
    fn ask(&self, properties: &[(&str, &str)]) -> Child {
        let mut command = self.requester();
        command.args(["-V", "mqttv5", "-i", "admin-rr", "-q", "1", "-W", "30"]);
        command.args([
            "-t",
            "rpc/svc/cap/method/admin",
            "-e",
            "_INBOX/admin-rr",
            "-m",
            "the question",
        ]);
        command.args(["-F", "%C\u{1}%D\u{1}%p\u{1}%P"]);
        for (name, value) in properties {
            command.args(["-D", "publish", name]);
            match value.split_once(' ').filter(|_| *name == "user-property") {
                Some((name, value)) => command.args([name, value]),
                None => command.arg(value),
            };
        }
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        started.unwrap_or_else(|error| {
            panic!("mosquitto_rr: {error}; this test needs the package mosquitto-clients")
        })
    }
}

impl Broker for Core {
    fn local(&self) -> UnixStream {
        self.dial()
    }

    fn hello(&self, id: &str, login: &str) -> Vec<u8> {
        connect_packet(id, login, self.token(login).as_bytes())
    }

    fn requester(&self) -> Command {
        let mut command = Command::new("mosquitto_rr");
        command.args(["-h", "localhost", "-p", &self.port().to_string()]);
        command.arg("--cafile").arg(self.path("certs/caCert.pem"));
        command.args(["-u", "admin", "-P", &self.token("admin")]);
        command
    }
}

/// Debian's broker on a socket of its own.
pub struct Mosquitto {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Mosquitto {
    /// None, said, when it is not installed.
    pub fn start() -> Option<Mosquitto> {
        let program = [
            "/usr/sbin/mosquitto",
            "/usr/local/sbin/mosquitto",
            "/usr/bin/mosquitto",
        ];
        let Some(program) = program
            .into_iter()
            .find(|path| std::path::Path::new(path).exists())
        else {
            let _ = std::io::stderr()
                .write_all(b"left out: the same with mosquitto: it is not installed\n");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let (config, socket) = (folder.path().join("conf"), folder.path().join("socket"));
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::current())
            .unwrap()
            .unwrap()
            .name;
        let text = format!(
            "user {user}\nset_tcp_nodelay true\npersistence false\nlog_dest none\nallow_anonymous true\nlistener 0 {}\n",
            socket.display()
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mosquitto = Mosquitto { child, folder };
        eventually("mosquitto listens", || {
            UnixStream::connect(mosquitto.socket()).ok()
        });
        Some(mosquitto)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

impl Broker for Mosquitto {
    fn local(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(crate::hub::PATIENCE)).unwrap();
        stream
    }

    fn hello(&self, id: &str, _login: &str) -> Vec<u8> {
        let mut body = text(b"MQTT");
        body.extend([5, 2, 0, 60]);
        body.extend(length(0));
        body.extend(text(id.as_bytes()));
        packet(0x10, &body)
    }

    fn requester(&self) -> Command {
        let mut command = Command::new("mosquitto_rr");
        command.arg("--unix").arg(self.socket());
        command
    }
}
