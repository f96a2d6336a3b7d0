//! What a program tells of itself: the other end of `NOTIFY_SOCKET` (spec §3).
//!
//! Invariants: only who belongs to the program's tree is believed; descriptors that are sent along are closed at once,
//! which is the answer to `BARRIER=1`; the socket's file goes with its owner.

use crate::readable::Readable;
use nix::sys::socket::{setsockopt, sockopt};
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// As much of a message as is read; systemd takes as much.
const MESSAGE: usize = 4096;
/// Room for the sender's credentials and the 253 descriptors that the kernel sends at most, in words.
const CONTROL: usize = 160;
/// The line by which a program says that it is ready.
const READY: &[u8] = b"READY=1";

/// A socket on which one run tells of itself.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    watched: Readable,
    path: PathBuf,
}

impl NotifySocket {
    /// Makes the socket at `path`, for its owner only. To be called within a runtime.
    ///
    /// # Errors
    /// The path is too long, taken, or its folder cannot be written.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::bind(path)?;
        // From here on the file is removed whatever fails.
        let bound = Bound(path.to_owned());
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::PassCred, &true)?;
        let watched = Readable::new(socket.try_clone()?.into())?;
        std::mem::forget(bound);
        Ok(NotifySocket {
            socket,
            watched,
            path: path.to_owned(),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the next message; tells whether it says that the program is ready and `belongs` says that its sender,
    /// a process number, is of the program's tree.
    ///
    /// # Errors
    /// When the socket cannot be read.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn says_ready(&self, belongs: impl Fn(i32) -> bool) -> io::Result<bool> {
        let mut text = [0; MESSAGE];
        let (length, sender) = self
            .watched
            .next(|| receive(self.socket.as_fd(), &mut text))
            .await?;
        let said = text
            .get(..length)
            .unwrap_or_default()
            .split(|byte| *byte == b'\n')
            .any(|line| line == READY);
        Ok(said && sender.is_some_and(belongs))
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        drop(Bound(std::mem::take(&mut self.path)));
    }
}

/// A file that goes with it.
struct Bound(PathBuf);

impl Drop for Bound {
    fn drop(&mut self) {
        // Somebody tidied up already.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// One message: its length and the number of the process that sent it; none when there is no message.
fn receive(socket: BorrowedFd<'_>, text: &mut [u8]) -> io::Result<Option<(usize, Option<i32>)>> {
    let mut control = [0_u64; CONTROL];
    let mut part = libc::iovec {
        iov_base: text.as_mut_ptr().cast(),
        iov_len: text.len(),
    };
    // SAFETY: all zeroes is a valid msghdr: no name, no parts, no control.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control);
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header points to a buffer each of the length it says, which outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let Ok(length) = usize::try_from(length) else {
        let error = io::Error::last_os_error();
        let again = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
        return if again.contains(&error.kind()) {
            Ok(None)
        } else {
            Err(error)
        };
    };
    Ok(Some((length, sender_of(&header))))
}

/// Who sent it; closes the descriptors that came along.
fn sender_of(header: &libc::msghdr) -> Option<i32> {
    let mut sender = None;
    // SAFETY: the kernel has filled the header's control buffer and set its length, which these macros walk within.
    let mut part = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !part.is_null() {
        // SAFETY: not null, so it points to a whole header within the buffer, which is aligned for it.
        let head = unsafe { &*part };
        // SAFETY: as above; the data follows the header.
        let data = unsafe { libc::CMSG_DATA(part) };
        match (head.cmsg_level, head.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) => {
                // SAFETY: data of that type is a ucred, wherever it is aligned.
                let who = unsafe { data.cast::<libc::ucred>().read_unaligned() };
                sender = Some(who.pid);
            }
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                // SAFETY: only computes a length.
                let before = unsafe { libc::CMSG_LEN(0) } as usize;
                let count = head.cmsg_len.saturating_sub(before) / size_of::<libc::c_int>();
                for index in 0..count {
                    // SAFETY: data of that type is so many descriptors, which are ours and nobody else's.
                    drop(unsafe {
                        let fd = data.cast::<libc::c_int>().add(index).read_unaligned();
                        OwnedFd::from_raw_fd(fd)
                    });
                }
            }
            _ => {}
        }
        // SAFETY: as for the first.
        part = unsafe { libc::CMSG_NXTHDR(header, part) };
    }
    sender
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::time::Duration;

    fn own() -> i32 {
        nix::unistd::getpid().as_raw()
    }

    #[tokio::test]
    async fn only_the_own_tree_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.1");
        let socket = NotifySocket::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let program = UnixDatagram::unbound().unwrap();
        let is_own = |pid| pid == own();
        for (text, belongs, ready) in [
            ("STATUS=x\nREADY=1\n", true, true),
            ("READY=1", true, true),
            ("READY=1", false, false),
            ("READY=10\nXREADY=1", true, false),
            ("", true, false),
        ] {
            program.send_to(text.as_bytes(), &path).unwrap();
            let said = socket.says_ready(|pid| is_own(pid) && belongs).await;
            assert_eq!(said.unwrap(), ready, "{text:?}");
        }
        let silent = socket.says_ready(|_| true);
        let waited = tokio::time::timeout(Duration::from_millis(20), silent).await;
        assert!(waited.is_err(), "nothing came");
        drop(socket);
        assert!(!path.exists());
        let long = folder.path().join("x".repeat(120));
        assert!(NotifySocket::bind(&long).is_err());
    }

    /// Not a test of its own: a program that waits until it was understood.
    #[test]
    fn program() {
        if crate::testing::Helper::home().is_none() {
            return;
        }
        sd_notify::notify(&[sd_notify::NotifyState::Ready]).unwrap();
        barrier(Path::new(&std::env::var_os("NOTIFY_SOCKET").unwrap()));
    }

    /// Sends the end of a pipe along, and waits until it is closed.
    fn barrier(path: &Path) {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
        let (mut ours, theirs) = std::io::pipe().unwrap();
        let fd = socket(
            AddressFamily::Unix,
            SockType::Datagram,
            SockFlag::empty(),
            None,
        )
        .unwrap();
        connect(fd.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
        let text = b"BARRIER=1";
        let mut part = libc::iovec {
            iov_base: text.as_ptr().cast_mut().cast(),
            iov_len: text.len(),
        };
        let mut control = [0_u64; 4];
        // SAFETY: as in `receive`; the control buffer has room for one descriptor.
        unsafe {
            let mut header: libc::msghdr = std::mem::zeroed();
            header.msg_iov = &raw mut part;
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = libc::CMSG_SPACE(4) as usize;
            let head = libc::CMSG_FIRSTHDR(&raw const header);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(4) as usize;
            libc::CMSG_DATA(head)
                .cast::<libc::c_int>()
                .write_unaligned(theirs.as_raw_fd());
            assert!(libc::sendmsg(fd.as_raw_fd(), &raw const header, 0) > 0);
        }
        drop(theirs);
        assert_eq!(ours.read(&mut [0; 1]).unwrap(), 0, "closed by the other");
    }

    #[tokio::test]
    async fn a_program_is_understood_and_its_barrier_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = NotifySocket::bind(&path).unwrap();
        let helper =
            crate::testing::Helper::start_with("told::tests::program", folder.path(), |command| {
                command.env("NOTIFY_SOCKET", &path);
            });
        assert!(socket.says_ready(|pid| pid != own()).await.unwrap());
        assert!(!socket.says_ready(|_| true).await.unwrap());
        helper.succeeds().await;
    }
}
