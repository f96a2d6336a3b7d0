//! What a program tells of itself: the other end of `NOTIFY_SOCKET` (spec §3, sd_notify(3)).
//!
//! Invariants: only who belongs to the program's tree is believed; descriptors that are sent along are closed once the
//! message was judged, which is the answer to `BARRIER=1`; the socket's file goes with its owner.

pub use crate::said::{Doing, STATUS_BYTES, Said};
pub use crate::sender::Sender;

use crate::readable::Readable;
use crate::sender;
use nix::sys::socket::{setsockopt, sockopt};
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// As much of a message as is read; systemd takes as much. A longer one is not understood, as there.
const MESSAGE: usize = 4096;
/// Room for the sender's credentials, his pidfd and the 253 descriptors that the kernel sends at most, in words.
const CONTROL: usize = 160;

/// A socket on which one run tells of itself.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    watched: Readable,
    path: PathBuf,
}

/// A message that came.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Of the program's tree; perhaps nothing that means something here.
    Said(Said),
    /// Of somebody else, or of somebody of whom it cannot be told any more: it was not believed.
    Stranger {
        /// The sender's number; 0 = the kernel did not say.
        pid: i32,
    },
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
        sender::ask_for_pidfds(socket.as_fd());
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

    /// Waits for the next message, and takes it in when `belongs` says that its sender is of the program's tree.
    ///
    /// # Errors
    /// When the socket cannot be read.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&self, belongs: impl Fn(&Sender) -> bool) -> io::Result<Heard> {
        let message = self.watched.next(|| receive(self.socket.as_fd())).await?;
        // Whoever waits for its barrier is there until the message is dropped.
        Ok(match &message.sender {
            Some(sender) if belongs(sender) => Heard::Said(Said::read(&message.text)),
            Some(sender) => Heard::Stranger { pid: sender.pid() },
            None => Heard::Stranger { pid: 0 },
        })
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

/// As it came.
struct Message {
    /// Empty when it was longer than is read.
    text: Vec<u8>,
    sender: Option<Sender>,
    /// What was sent along, to be closed.
    _passengers: Vec<OwnedFd>,
}

/// One message; none when there is none.
fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Message>> {
    let mut text = [0_u8; MESSAGE];
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
    let (sender, _passengers) = control_of(&header);
    let whole = header.msg_flags & libc::MSG_TRUNC == 0;
    let text = text.get(..length).filter(|_| whole).unwrap_or_default();
    Ok(Some(Message {
        text: text.to_vec(),
        sender,
        _passengers,
    }))
}

/// Who sent it, and the descriptors that came along.
fn control_of(header: &libc::msghdr) -> (Option<Sender>, Vec<OwnedFd>) {
    let (mut pid, mut pidfd, mut passengers) = (None, None, Vec::new());
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
                pid = Some(who.pid);
            }
            (libc::SOL_SOCKET, kind @ (libc::SCM_RIGHTS | sender::SCM_PIDFD)) => {
                // SAFETY: only computes a length.
                let before = unsafe { libc::CMSG_LEN(0) } as usize;
                let count = head.cmsg_len.saturating_sub(before) / size_of::<libc::c_int>();
                for index in 0..count {
                    // SAFETY: data of these types is so many numbers.
                    let fd = unsafe { data.cast::<libc::c_int>().add(index).read_unaligned() };
                    if fd < 0 {
                        continue;
                    }
                    // SAFETY: these are open descriptors, which are ours and nobody else's.
                    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                    if kind == sender::SCM_PIDFD {
                        pidfd = Some(fd);
                    } else {
                        passengers.push(fd);
                    }
                }
            }
            _ => {}
        }
        // SAFETY: as for the first.
        part = unsafe { libc::CMSG_NXTHDR(header, part) };
    }
    (pid.map(|pid| Sender::new(pid, pidfd)), passengers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::time::Duration;

    fn own() -> i32 {
        nix::unistd::getpid().as_raw()
    }

    /// The next message, when everybody is believed.
    async fn said(socket: &NotifySocket) -> Said {
        match socket.next(|_| true).await.unwrap() {
            Heard::Said(said) => said,
            Heard::Stranger { pid } => panic!("{pid} is no stranger"),
        }
    }

    #[tokio::test]
    async fn only_who_belongs_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.1");
        let socket = NotifySocket::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let program = UnixDatagram::unbound().unwrap();
        for (text, ready) in [
            ("STATUS=x\nREADY=1\n", true),
            ("READY=1", true),
            ("READY=10\nXREADY=1", false),
            ("", false),
            (&format!("READY=1\nSTATUS={}", "x".repeat(MESSAGE)), false),
        ] {
            program.send_to(text.as_bytes(), &path).unwrap();
            assert_eq!(said(&socket).await.ready, ready, "{text:?}");
        }
        program.send_to(b"READY=1", &path).unwrap();
        let heard = socket.next(|sender| sender.pid() != own()).await.unwrap();
        assert_eq!(heard, Heard::Stranger { pid: own() });
        let silent = socket.next(|_| true);
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
        assert!(said(&socket).await.ready);
        assert_eq!(said(&socket).await, Said::default());
        helper.succeeds().await;
    }
}
