//! The two brokers: ours and mosquitto, each with its doors, in one temporary folder.
//!
//! Invariants: both show the same certificate; both check each client's rights; ports and sockets are their own; what was
//! started is killed and reaped when it is dropped.

use crate::client::Stream;
use crate::clock;
use crate::ends;
use crate::report::Pairs;
use anyhow::{Context, Result, bail};
use creds::ca::{self, ClientSubject, ServerFiles};
use creds::{KeyPair, UnixTime};
use nix::sys::signal::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::fmt;
use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// Who asks.
pub const ASKER: &str = "admin";
/// Who answers.
pub const ANSWERER: &str = "launcher";

const CORE: &str = env!("CARGO_BIN_EXE_mqttcore");
/// Longer than a start takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether a process is gone.
const GLANCE: Duration = Duration::from_micros(100);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// `mqttcore`.
    Ours,
    /// The baseline.
    Mosquitto,
}

impl Maker {
    /// Both, so that none is always the first.
    pub const fn both(round: usize) -> [Maker; 2] {
        if round.is_multiple_of(2) {
            [Maker::Mosquitto, Maker::Ours]
        } else {
            [Maker::Ours, Maker::Mosquitto]
        }
    }

    /// Its side of what was measured by turns.
    pub const fn of(self, pairs: &mut Pairs) -> &mut Vec<f64> {
        match self {
            Maker::Ours => &mut pairs.ours,
            Maker::Mosquitto => &mut pairs.bare,
        }
    }
}

/// How a client reaches a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP on the loopback address.
    Tcp,
    /// TLS 1.3 with a client certificate.
    Tls,
    /// A socket file.
    Unix,
}

impl Transport {
    /// All that both brokers have; mosquitto has no abstract socket.
    pub const ALL: [Transport; 3] = [Transport::Tcp, Transport::Tls, Transport::Unix];
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "TCP loopback",
            Transport::Tls => "TLS 1.3, client certificate",
            Transport::Unix => "unix socket",
        })
    }
}

/// Where a broker is reached.
struct Doors {
    tcp: u16,
    tls: u16,
    unix: PathBuf,
}

/// Both brokers, with all they need on disk.
pub struct Brokers {
    folder: TempDir,
    mosquitto: PathBuf,
    ours: Doors,
    theirs: Doors,
    asker: TlsConnector,
    answerer: TlsConnector,
}

impl Brokers {
    /// Makes both; our core makes its credentials, and so mosquitto's.
    pub fn new() -> Result<Brokers> {
        let mosquitto = find_mosquitto()?;
        let folder = tempfile::Builder::new().prefix("core-bench-").tempdir()?;
        let home = folder.path();
        let [tcp, tls, their_tcp, their_tls] = free_ports()?;
        let ours = Doors {
            tcp,
            tls,
            unix: home.join("run").join(bus::hub::SOCKET),
        };
        let theirs = Doors {
            tcp: their_tcp,
            tls: their_tls,
            unix: home.join("mosquitto.sock"),
        };
        write_config(home, &ours)?;
        write_mosquitto_config(home, &theirs)?;
        let certs = home.join("certs");
        let first = start(Maker::Ours, &mosquitto, home).context("mqttcore's first start")?;
        first.stop()?;
        Ok(Brokers {
            mosquitto,
            ours,
            theirs,
            asker: connector(&certs, ASKER)?,
            answerer: connector(&certs, ANSWERER)?,
            folder,
        })
    }

    /// Starts one and waits until it says that it is ready.
    pub fn start(&self, maker: Maker) -> Result<Broker> {
        start(maker, &self.mosquitto, self.folder.path())
    }

    /// The token by which a login is proved where there is no certificate.
    pub fn token(&self, login: &str) -> Result<String> {
        let file = self.folder.path().join(format!("certs/{login}.token"));
        let token = fs::read_to_string(&file);
        token.with_context(|| format!("cannot read {}", file.display()))
    }

    /// Connects; `login` is only for the certificate.
    pub async fn reach(
        &self,
        maker: Maker,
        transport: Transport,
        login: &str,
    ) -> Result<Box<dyn Stream>> {
        let doors = match maker {
            Maker::Ours => &self.ours,
            Maker::Mosquitto => &self.theirs,
        };
        let tcp = async |port| {
            let stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream.set_nodelay(true)?;
            anyhow::Ok(stream)
        };
        Ok(match transport {
            Transport::Unix => Box::new(UnixStream::connect(&doors.unix).await?),
            Transport::Tcp => Box::new(tcp(doors.tcp).await?),
            Transport::Tls => {
                let connector = if login == ASKER {
                    &self.asker
                } else {
                    &self.answerer
                };
                let name = ServerName::try_from("localhost")?;
                Box::new(connector.connect(name, tcp(doors.tls).await?).await?)
            }
        })
    }

    /// The socket file of one.
    pub fn socket(&self, maker: Maker) -> &Path {
        match maker {
            Maker::Ours => &self.ours.unix,
            Maker::Mosquitto => &self.theirs.unix,
        }
    }
}

fn find_mosquitto() -> Result<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let system = [PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")];
    std::env::split_paths(&folders)
        .chain(system)
        .map(|folder| folder.join("mosquitto"))
        .find(|program| program.is_file())
        .context(
            "the baseline is mosquitto, which is not here; install it: apt-get install mosquitto (or your system's like of it)",
        )
}

/// All are held until the last is found, so that none is found twice.
fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT]> {
    let held: Vec<TcpListener> = (0..COUNT)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    let mut ports = [0; COUNT];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn write_config(home: &Path, doors: &Doors) -> Result<()> {
    fs::create_dir(home.join("config"))?;
    let config = format!(
        "mqttserver:\n  host: localhost\n  port: {}\n  wsPort: 0\n  loopbackPort: {}\n  inMemUDSName: \"\"\nenableMDNS: false\n",
        doors.tls, doors.tcp
    );
    fs::write(home.join("config/mqttcore.yaml"), config)?;
    Ok(())
}

fn write_mosquitto_config(home: &Path, doors: &Doors) -> Result<()> {
    // Otherwise, started by root, it would be a user that may not read the keys.
    let user = nix::unistd::User::from_uid(nix::unistd::getuid())?;
    let user = user.context("this user has no name")?.name;
    let here = home.display();
    let (tcp, tls, unix) = (doors.tcp, doors.tls, doors.unix.display());
    let in_flight = crate::wire::IN_FLIGHT;
    let server = ServerFiles::in_folder(&home.join("certs"));
    let config = format!(
        "per_listener_settings false\nuser {user}\nset_tcp_nodelay true\npersistence false\nlog_dest stderr\n\
         log_type error\nallow_anonymous true\nacl_file {here}/mosquitto.acl\nmax_inflight_messages {in_flight}\n\
         max_queued_messages 10000\nmax_packet_size 4194304\n\
         listener {tcp} 127.0.0.1\n\
         listener 0 {unix}\n\
         listener {tls} 127.0.0.1\ncafile {here}/certs/caCert.pem\ncertfile {}\n\
         keyfile {}\ntls_version tlsv1.3\nrequire_certificate true\nuse_identity_as_username true\n",
        server.cert.display(),
        server.key.display()
    );
    fs::write(home.join("mosquitto.conf"), config)?;
    fs::write(
        home.join("mosquitto.acl"),
        format!(
            "user {ASKER}\ntopic write rpc/#\ntopic read event/#\n\
             user {ANSWERER}\ntopic read rpc/{ANSWERER}/#\ntopic write event/{ANSWERER}/#\n\n\
             pattern write _INBOX/#\npattern read _INBOX/%c\n"
        ),
    )?;
    Ok(())
}

/// TLS 1.3 with a certificate of the hub's CA for `login`.
fn connector(certs: &Path, login: &str) -> Result<TlsConnector> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let now = UnixTime(i64::try_from(now.as_secs())?);
    let authority = ca::load_ca(certs, now)?;
    let issuer = authority.issuer().context("the CA cannot sign")?;
    let key = KeyPair::generate()?;
    let subject = ClientSubject {
        client_id: login,
        unit: "service",
    };
    let own = issuer.client(subject, key.public(), DAY, now)?;
    let own = CertificateDer::from_pem_slice(own.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(key.to_pem().expose().as_bytes())?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(
        authority.cert_pem.as_bytes(),
    )?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![own], key)?;
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A broker that runs.
pub struct Broker {
    child: Child,
    /// Milliseconds from its spawn to its word that it is ready (`READY=1`).
    pub ready_after: f64,
}

fn start(maker: Maker, mosquitto: &Path, home: &Path) -> Result<Broker> {
    let notify = home.join("notify.sock");
    let words = home.join("last.words");
    // The last start's.
    let _ = fs::remove_file(&notify);
    let ready = UnixDatagram::bind(&notify)?;
    ready.set_read_timeout(Some(PATIENCE))?;
    let mut command = match maker {
        Maker::Ours => {
            let mut command = Command::new(CORE);
            command.arg("--home").arg(home);
            command
        }
        Maker::Mosquitto => {
            let mut command = Command::new(mosquitto);
            command.arg("-c").arg(home.join("mosquitto.conf"));
            command
        }
    };
    command
        .env_remove("LOGLEVEL")
        .env("NOTIFY_SOCKET", &notify)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&words)?);
    let begun = clock::now()?;
    let child = command.spawn();
    let child =
        child.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let mut broker = Broker {
        child,
        ready_after: 0.0,
    };
    let mut word = [0; 256];
    loop {
        let length = ready.recv(&mut word).with_context(|| {
            let words = fs::read_to_string(&words).unwrap_or_default();
            format!("{maker:?} is not ready; its last words:\n{words}")
        })?;
        let word = String::from_utf8_lossy(word.get(..length).unwrap_or_default());
        if word.lines().any(|line| line == "READY=1") {
            broker.ready_after = clock::ms(begun, clock::now()?);
            return Ok(broker);
        }
    }
}

impl Broker {
    /// Its pid.
    pub fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.child.id())?)
    }

    /// Ends it with SIGTERM; milliseconds until it has ended.
    pub fn stop(mut self) -> Result<f64> {
        let begun = clock::now()?;
        ends::signal(&self.child, Signal::SIGTERM)?;
        let status = clock::eventually("a broker has ended", GLANCE, || {
            Ok(self.child.try_wait()?)
        })?;
        let took = clock::ms(begun, clock::now()?);
        if !status.success() {
            bail!("it ended with {status}");
        }
        Ok(took)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        ends::end(&mut self.child);
    }
}
