//! Local control: the launcher's requests over a socket of its own machine, for when there is no bus (spec §13, §18).
//!
//! Invariants:
//! - only root and the launcher's own user are heard, whoever could open the file;
//! - at most [`CONNECTIONS`] are served at once, no line is longer than [`MAX_LINE`], and who says nothing for [`SILENCE`]
//!   is left: nobody fills the memory or takes a place for ever;
//! - requests of one connection are answered one after the other, in order;
//! - without a free descriptor there are some kept back for one connection at a time, so that control stays.

use crate::api::answer::answer;
use crate::api::serve::{Caller, Via};
use crate::hub::Hub;
use bus::local::{MAX_LINE, decode_request, reply_line};
use bus::rpc::{BUSY, Request};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

/// So many connections are served at once.
pub const CONNECTIONS: usize = 32;

/// A line that is not complete after so long ends the connection.
pub const SILENCE: Duration = Duration::from_secs(60);

/// An answer that is not taken for so long ends the connection.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

/// The pause after the system could not give a connection.
const PAUSE: Duration = Duration::from_millis(200);

/// The same for want of descriptors; only while somebody waits to be heard.
const SHORT_PAUSE: Duration = Duration::from_millis(5);

/// So many descriptors are kept back for want of others.
const KEPT_BACK: usize = 4;

/// What local control needs; outlives its actor.
#[derive(Clone)]
pub struct LocalArgs {
    /// Where it listens.
    pub listener: Arc<UnixListener>,
    /// The user that is heard beside root: the launcher's own.
    pub owner: u32,
    /// What people call that user.
    pub owner_name: String,
}

/// The actor.
pub struct Local;

/// What the actor holds.
pub struct LocalState {
    task: AbortHandle,
}

impl Drop for LocalState {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Actor for Local {
    type Msg = ();
    type State = LocalState;
    type Arguments = (Arc<Hub>, LocalArgs);

    async fn pre_start(
        &self,
        _myself: ActorRef<()>,
        (hub, args): (Arc<Hub>, LocalArgs),
    ) -> Result<LocalState, ActorProcessingErr> {
        let task = tokio::spawn(accept(hub, args)).abort_handle();
        Ok(LocalState { task })
    }
}

/// Takes connections for ever.
async fn accept(hub: Arc<Hub>, args: LocalArgs) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut kept = Vec::new();
    loop {
        keep_back(&mut kept);
        let stream = match args.listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if os::local::is_out_of_descriptors(&error) => {
                // One that is kept back serves one connection at a time. Others may take it first, or have taken all: what
                // they begin and end all the time leaves some again.
                drop(kept.pop());
                match args.listener.accept().await {
                    Ok((stream, _)) => speak(&hub, &args, stream).await,
                    Err(_) => tokio::time::sleep(SHORT_PAUSE).await,
                }
                continue;
            }
            Err(error) => {
                tracing::debug!("local control: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tokio::spawn(async move {
                let (_, mut to) = stream.into_split();
                send(&mut to, Err(BUSY)).await;
            });
            continue;
        };
        let (hub, args) = (hub.clone(), args.clone());
        tokio::spawn(async move {
            speak(&hub, &args, stream).await;
            drop(place);
        });
    }
}

/// Descriptors for when there are no others.
fn keep_back(kept: &mut Vec<File>) {
    while kept.len() < KEPT_BACK
        && let Ok(file) = File::open("/dev/null")
    {
        kept.push(file);
    }
}

/// Serves one connection until it ends, says nothing or takes nothing.
async fn speak(hub: &Arc<Hub>, args: &LocalArgs, stream: UnixStream) {
    let caller = caller(args, &stream);
    let (from, mut to) = stream.into_split();
    let caller = match caller {
        Ok(caller) => caller,
        Err(refusal) => {
            tracing::warn!("local control: {refusal}");
            send(&mut to, Err(&refusal)).await;
            return;
        }
    };
    let mut from = BufReader::new(from);
    loop {
        let line = match tokio::time::timeout(SILENCE, next_line(&mut from)).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) | Err(_) => return,
            Ok(Err(error)) => {
                send(&mut to, Err(&error.to_string())).await;
                return;
            }
        };
        let who = caller.clone();
        let answer = answer(hub, "local", move || Ok((understood(&line)?, who))).await;
        let sent = match answer.result {
            Ok(payload) => send(&mut to, Ok(payload)).await,
            Err(text) => send(&mut to, Err(&text)).await,
        };
        if let Some(then) = answer.then {
            then.perform(hub);
        }
        if !sent {
            return;
        }
    }
}

fn understood(line: &[u8]) -> Result<Request, String> {
    decode_request(line).map_err(|error| error.to_string())
}

/// Who is at the other end, by the kernel's word.
fn caller(args: &LocalArgs, stream: &UnixStream) -> Result<Caller, String> {
    let peer = stream
        .peer_cred()
        .map_err(|error| format!("the system does not tell who asks: {error}"))?;
    let uid = peer.uid();
    if !os::local::may_ask(uid, args.owner) {
        return Err(format!(
            "user {uid} may not steer this launcher; ask as root or as {}",
            args.owner_name
        ));
    }
    let name = if uid == args.owner {
        &args.owner_name
    } else {
        "root"
    };
    Ok(Caller {
        by: format!("{name} (local)"),
        via: Via::Local,
    })
}

/// The next line without its end; none when there is no more.
async fn next_line(from: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    // One more than allowed tells that it is longer.
    let most = u64::try_from(MAX_LINE)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    from.take(most).read_until(b'\n', &mut line).await?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > MAX_LINE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a line of more than {MAX_LINE} bytes is no request"),
        ));
    } else if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(line))
}

/// Whether the answer was taken.
async fn send(to: &mut (impl AsyncWriteExt + Unpin), result: Result<Vec<u8>, &str>) -> bool {
    let line = reply_line(result);
    let sent = tokio::time::timeout(TAKEN_WITHIN, to.write_all(&line)).await;
    matches!(sent, Ok(Ok(())))
}
