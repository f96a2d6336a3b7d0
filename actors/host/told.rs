//! What a run tells of itself, and how others tell of it that it is ready, from its start to the end of its tree (spec
//! §3, §9).
//!
//! Invariants:
//! - the socket is emptied as long as the tree lives, so that nobody who speaks is kept waiting for long;
//! - what was told and not asked for yet is one [`Said`], so a flood takes no memory, and [`BURST`] bounds its time;
//! - nothing is tried for a run that is over.

use crate::ports::{ConnectTarget, Teller};
use logs::Awaited;
use os::Process;
use os::told::{Heard, NotifySocket, Said};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Others may pass through, to the sockets of their own runs, but not see which there are.
const MODE: u32 = 0o711;

/// So many messages are taken in at most in one [`WINDOW`]; further ones wait in the socket, and their senders with them.
const BURST: u32 = 100;

/// See [`BURST`].
const WINDOW: Duration = Duration::from_millis(100);

/// The first pause between two tries to connect; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// So long one try may take.
const TRY: Duration = Duration::from_secs(1);

/// What a run has told and nobody has asked for yet.
#[derive(Debug, Default)]
pub(super) struct Tidings {
    said: Mutex<Said>,
    rung: Notify,
}

impl Tidings {
    fn add(&self, said: Said) {
        if said.is_empty() {
            return;
        }
        self.lock().add(said);
        self.rung.notify_one();
    }

    fn ready(&self) {
        self.add(Said {
            ready: true,
            ..Said::default()
        });
    }

    /// Waits until something was told, and takes it.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn next(&self) -> Said {
        loop {
            let said = std::mem::take(&mut *self.lock());
            if !said.is_empty() {
                return said;
            }
            self.rung.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where it is listened for, before there is a process.
#[derive(Debug)]
pub(super) struct Ear {
    tidings: Arc<Tidings>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Socket(NotifySocket),
    Log(logs::LinePattern),
    Connect(ConnectTarget),
}

impl Ear {
    /// Prepares to listen, in `folder` where the socket `name` is needed; none where nobody tells anything here.
    ///
    /// # Errors
    /// Names the path and the cause.
    pub(super) fn open(teller: &Teller, folder: &Path, name: &str) -> Result<Option<Self>, String> {
        let way = match teller {
            // The bridge tells of the bus.
            Teller::Started | Teller::Login => return Ok(None),
            // In the run folder, which lies in memory where the system says so, and for few: it may be made here.
            Teller::Itself => Way::Socket(bind(folder, name)?),
            Teller::Log(pattern) => Way::Log(pattern.clone()),
            Teller::Connect(target) => Way::Connect(target.clone()),
        };
        Ok(Some(Ear {
            tidings: Arc::default(),
            way,
        }))
    }

    /// The socket, for the environment.
    pub(super) fn path(&self) -> Option<&Path> {
        match &self.way {
            Way::Socket(socket) => Some(socket.path()),
            Way::Log(_) | Way::Connect(_) => None,
        }
    }

    /// The line that is waited for.
    pub(super) fn awaited(&self) -> Option<Awaited> {
        match &self.way {
            Way::Log(pattern) => {
                let tidings = self.tidings.clone();
                Some(Awaited::new(pattern.clone(), move || tidings.ready()))
            }
            Way::Socket(_) | Way::Connect(_) => None,
        }
    }

    /// Listens until the tree of `process` is gone.
    pub(super) fn listen(self, process: Arc<Process>) -> Arc<Tidings> {
        let tidings = self.tidings.clone();
        match self.way {
            Way::Socket(socket) => {
                tokio::spawn(async move {
                    tokio::select! {
                        () = hear(&socket, &process, &self.tidings) => {}
                        _ = process.tree_ended() => {}
                    }
                });
            }
            Way::Connect(target) => {
                tokio::spawn(async move {
                    tokio::select! {
                        () = connected(&target) => self.tidings.ready(),
                        // Whoever accepts then is not it.
                        _ = process.main_ended() => {}
                    }
                });
            }
            Way::Log(_) => {}
        }
        tidings
    }
}

/// Takes in what is told.
async fn hear(socket: &NotifySocket, process: &Process, tidings: &Tidings) {
    let id = process.marker().id();
    let (mut refused, mut named) = (false, false);
    let (mut since, mut count) = (Instant::now(), 0);
    loop {
        if count >= BURST {
            tokio::time::sleep_until(since + WINDOW).await;
        }
        if since.elapsed() >= WINDOW {
            (since, count) = (Instant::now(), 0);
        }
        count += 1;
        match socket.next(|sender| process.sent(sender)).await {
            Ok(Heard::Said(said)) => {
                if said.main_pid && !std::mem::replace(&mut named, true) {
                    tracing::info!(plugin = %id, "MAINPID has no effect: the process that was started is the one that is watched");
                }
                tidings.add(said);
            }
            Ok(Heard::Stranger { pid }) => {
                if !std::mem::replace(&mut refused, true) {
                    tracing::warn!(
                        plugin = %id, pid,
                        "a message to its NOTIFY_SOCKET is not believed: its sender is not of its tree, or was gone at once; \
                         a sender that waits for BARRIER=1, as systemd-notify does without --no-block, is"
                    );
                }
            }
            Err(error) => {
                tracing::warn!(plugin = %id, "what it tells of itself cannot be read: {error}");
                return;
            }
        }
    }
}

/// Completes when somebody accepts a connection.
async fn connected(target: &ConnectTarget) {
    let mut pause = FIRST_PAUSE;
    loop {
        let attempt = async {
            match target {
                ConnectTarget::Tcp { host, port } => {
                    TcpStream::connect((host.as_str(), *port)).await.is_ok()
                }
                ConnectTarget::Unix(path) => UnixStream::connect(path).await.is_ok(),
            }
        };
        if tokio::time::timeout(TRY, attempt).await.unwrap_or(false) {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

fn bind(folder: &Path, name: &str) -> Result<NotifySocket, String> {
    let path = folder.join(name);
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(MODE)
        .create(folder)
        .and_then(|()| NotifySocket::bind(&path));
    made.map_err(|error| {
        format!(
            "cannot make the socket {} by which it is to tell that it is ready: {}",
            path.display(),
            in_words(&error)
        )
    })
}

fn in_words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::InvalidInput {
        return "the path of a socket has at most 107 bytes; install the hub in a shorter one"
            .to_owned();
    }
    error.to_string()
}

/// Removes what a launcher that was killed left; its runs have been ended.
pub(super) fn tidy(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        // What cannot be removed has a name that no other run will have.
        let _ = std::fs::remove_file(entry.path());
    }
}
