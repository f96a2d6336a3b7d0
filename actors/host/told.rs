//! What a run tells of itself, from its start to the end of its tree (spec §3).
//!
//! Invariant: the socket is emptied as long as the tree lives, so that nobody who speaks is ever kept waiting.

use os::Process;
use os::told::NotifySocket;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

/// Others may pass through, to the sockets of their own runs, but not see which there are.
const MODE: u32 = 0o711;

/// Makes the socket `name` in `folder`, and the folder where it is missing.
///
/// # Errors
/// Names the path and the cause.
pub(super) fn bind(folder: &Path, name: &str) -> Result<NotifySocket, String> {
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

/// Listens until the tree of `process` is gone; what comes back turns true when it has told that it is ready.
pub(super) fn listen(socket: NotifySocket, process: Arc<Process>) -> watch::Receiver<bool> {
    let (told, ready) = watch::channel(false);
    tokio::spawn(async move {
        let hear = async {
            loop {
                let is_member = |pid| process.members().iter().any(|member| member.pid == pid);
                match socket.says_ready(is_member).await {
                    Ok(true) => {
                        told.send_replace(true);
                    }
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!("what a program tells of itself cannot be read: {error}");
                        return;
                    }
                }
            }
        };
        tokio::select! {
            () = hear => {}
            _ = process.tree_ended() => {}
        }
    });
    ready
}
