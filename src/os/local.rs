//! A socket of this machine on which only its owner and root are heard (spec §3).
//!
//! Invariants: the file is never there with wider rights than 0600; whoever connects is named by the kernel, not by
//! itself.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Who may open the file.
const MODE: u32 = 0o600;

/// Listens at `path`, non-blocking. A file that a killed predecessor left is replaced in one step, so the caller must know
/// that no other lives, by holding the lock of the home.
///
/// # Errors
/// It cannot be made; a path of more than some 90 bytes is too long for a socket.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    // Made under another name, so that it is never there while others may open it.
    let new = path.with_extension("new");
    remove(&new)?;
    let listener = UnixListener::bind(&new)?;
    let moved = std::fs::set_permissions(&new, std::fs::Permissions::from_mode(MODE))
        .and_then(|()| std::fs::rename(&new, path));
    if let Err(error) = moved {
        let _ = remove(&new);
        return Err(error);
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Removes a socket's file; one that is gone is as good.
///
/// # Errors
/// It is there and cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether who connects is listened to: root, or the user `owner` (spec §3).
#[must_use]
pub fn may_ask(uid: u32, owner: u32) -> bool {
    uid == 0 || uid == owner
}

/// Whether the system has no descriptor left for us.
#[must_use]
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(nix::libc::EMFILE | nix::libc::ENFILE)
    )
}

/// The user this process acts as.
#[must_use]
pub fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// What people call a user: its name in the text of `/etc/passwd`, else `uid 1000`. Asks no name service, which may hang.
#[must_use]
pub fn user_name(uid: u32, passwd: &str) -> String {
    let number = uid.to_string();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1) == Some(number.as_str())).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("uid {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_a_killed_predecessor_left_is_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("launcher.sock");
        let first = listen(&path).unwrap();
        drop(first);
        assert!(UnixStream::connect(&path).is_err(), "nobody listens");
        std::fs::write(path.with_extension("new"), "left half way").unwrap();
        let second = listen(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        let _client = UnixStream::connect(&path).unwrap();
        assert!(second.accept().is_ok());
        let files = std::fs::read_dir(temp.path()).unwrap().count();
        assert_eq!(files, 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
        let long = temp.path().join("x".repeat(120));
        assert!(listen(&long).is_err());
    }

    #[test]
    fn only_root_and_the_owner_may_ask() {
        assert!(may_ask(0, 1000) && may_ask(1000, 1000));
        assert!(!may_ask(1001, 1000) && !may_ask(1, 0));
    }

    #[test]
    fn users_have_names() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n:x:7:\nbroken\nhub:x:1000:1000::/home/hub:\n";
        assert_eq!(user_name(0, passwd), "root");
        assert_eq!(user_name(1000, passwd), "hub");
        assert_eq!(user_name(7, passwd), "uid 7");
        assert_eq!(user_name(1001, ""), "uid 1001");
    }
}
