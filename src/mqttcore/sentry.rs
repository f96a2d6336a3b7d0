//! What the kernel tells of the wall clock and of the machine's names: a moment has come, the clock was set, an address or
//! the host name changed.
//!
//! Invariants: nothing is polled, one thread waits for all of it; it ends with the [`Sentry`]; a source that fails is left
//! out, and none of them can make the thread spin.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use creds::UnixTime;
use creds::clock::{Alarm, Ring};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket,
};

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tiding {
    /// The wall clock; see there.
    Clock(Ring),
    /// Addresses or the host name may be others than before.
    Names,
}

/// Listens as long as it lives.
pub struct Sentry {
    alarm: Arc<Alarm>,
    end: Arc<EventFd>,
}

impl Sentry {
    /// Begins to listen; `tell` is called from a thread of its own.
    ///
    /// # Errors
    /// There is no descriptor, or no thread.
    pub fn start(tell: impl Fn(Tiding) + Send + 'static) -> io::Result<Sentry> {
        let alarm = Arc::new(Alarm::new()?);
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let end = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let listener = Listener {
            alarm: Arc::clone(&alarm),
            end: Arc::clone(&end),
            addresses: addresses()
                .inspect_err(|error| tracing::debug!(%error, "addresses are not watched"))
                .ok(),
            hostname: File::open("/proc/sys/kernel/hostname").ok(),
        };
        std::thread::Builder::new()
            .name("sentry".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || listener.listen(&tell))?;
        Ok(Sentry { alarm, end })
    }

    /// Has [`Ring::Due`] told at that moment, in place of any other.
    ///
    /// # Errors
    /// The kernel refuses, which it has no reason for.
    pub fn wake_at(&self, at: UnixTime) -> io::Result<()> {
        self.alarm.set(at)
    }
}

impl Drop for Sentry {
    fn drop(&mut self) {
        // Cannot be full: it is written once.
        let _ = self.end.write(1);
    }
}

/// A socket that becomes readable when an address of the machine, or a route, comes or goes (rtnetlink(7)).
fn addresses() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let protocol = SockProtocol::NetlinkRoute;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    let groups = [
        libc::RTMGRP_IPV4_IFADDR,
        libc::RTMGRP_IPV6_IFADDR,
        libc::RTMGRP_IPV4_ROUTE,
    ];
    let groups = groups.iter().fold(0, |all, one| all | one);
    let address = NetlinkAddr::new(0, u32::try_from(groups).unwrap_or(0));
    bind(socket.as_raw_fd(), &address)?;
    Ok(socket)
}

struct Listener {
    alarm: Arc<Alarm>,
    end: Arc<EventFd>,
    addresses: Option<OwnedFd>,
    hostname: Option<File>,
}

impl Listener {
    fn listen(mut self, tell: &dyn Fn(Tiding)) {
        loop {
            let [alarm, end, addresses, hostname] = match self.wait() {
                Ok(seen) => seen,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::warn!(%error, "changes of clock and addresses are not seen any more");
                    return;
                }
            };
            if !end.is_empty() {
                return;
            }
            if !alarm.is_empty()
                && let Ok(Some(ring)) = self.alarm.ring()
            {
                tell(Tiding::Clock(ring));
            }
            if !addresses.is_empty() {
                if !self.addresses.as_ref().is_some_and(is_drained) {
                    self.addresses = None;
                }
                tell(Tiding::Names);
            }
            if !hostname.is_empty() {
                // Told by POLLPRI and POLLERR; looking at it has made it quiet again (fs/proc/proc_sysctl.c).
                if !hostname.contains(PollFlags::POLLPRI) {
                    self.hostname = None;
                }
                tell(Tiding::Names);
            }
        }
    }

    /// Waits until one of them has something; in the order alarm, end, addresses, host name.
    fn wait(&self) -> nix::Result<[PollFlags; 4]> {
        // What is not there is asked for nothing: its place is taken by one that is.
        let none = (self.end.as_fd(), PollFlags::empty());
        let addresses = self.addresses.as_ref().map(AsFd::as_fd);
        let hostname = self.hostname.as_ref().map(AsFd::as_fd);
        let asked = [
            (self.alarm.as_fd(), PollFlags::POLLIN),
            (self.end.as_fd(), PollFlags::POLLIN),
            addresses.map_or(none, |fd| (fd, PollFlags::POLLIN)),
            hostname.map_or(none, |fd| (fd, PollFlags::POLLPRI)),
        ];
        let mut fds = asked.map(|(fd, flags)| PollFd::new(fd, flags));
        poll(&mut fds, PollTimeout::NONE)?;
        Ok(fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty())))
    }
}

/// Takes what waits; false when nothing will come any more.
fn is_drained(socket: &OwnedFd) -> bool {
    let mut buffer = [0; 4096];
    loop {
        let error = match nix::unistd::read(socket, &mut buffer) {
            Ok(0) => return false,
            Ok(_) => continue,
            Err(error) => error,
        };
        if error == Errno::EAGAIN {
            return true;
        }
        // Some were lost, which is a change, too.
        if error != Errno::ENOBUFS && error != Errno::EINTR {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_moment_is_told_and_the_thread_ends_with_the_sentry() {
        let (tell, told) = mpsc::channel();
        let sentry = Sentry::start(move |tiding| tell.send(tiding).unwrap()).unwrap();
        sentry.wake_at(UnixTime::from(SystemTime::now())).unwrap();
        let patience = Duration::from_secs(20);
        // Addresses may change meanwhile: the machine is others', too.
        while told.recv_timeout(patience).unwrap() != Tiding::Clock(Ring::Due) {}
        drop(sentry);
        while let Ok(tiding) = told.recv_timeout(patience) {
            assert_eq!(tiding, Tiding::Names);
        }
        let ended = told.recv_timeout(patience);
        assert_eq!(ended, Err(mpsc::RecvTimeoutError::Disconnected));
    }

    #[test]
    fn what_waits_in_the_socket_is_taken() {
        assert!(is_drained(&addresses().unwrap()));
        let (gone, _) = nix::sys::socket::socketpair(
            AddressFamily::Unix,
            SockType::Stream,
            None,
            SockFlag::SOCK_NONBLOCK,
        )
        .unwrap();
        assert!(!is_drained(&gone), "an end is no reason to spin");
    }
}
