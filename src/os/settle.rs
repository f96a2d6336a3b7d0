//! What the program sets for itself at its start instead of inheriting it.
//!
//! Invariant: after [`settle`] a child of ours starts with default dispositions, an empty mask and no descriptor but
//! those it is given, however we were started ourselves.

use crate::sys;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use std::io;
use thiserror::Error;

/// Why the process could not be prepared for supervising.
#[derive(Debug, Error)]
pub enum SetupError {
    /// The process cannot become the one that orphans are handed to.
    #[error("cannot become the reaper of orphaned processes; Linux 3.4 or newer is needed")]
    Subreaper(#[source] io::Error),
    /// The signal mask cannot be set.
    #[error("cannot set the signal mask")]
    Mask(#[source] io::Error),
    /// What happens on a signal cannot be set.
    #[error("cannot set what happens on {}", supervision::exit::signal_name(*signal))]
    Disposition {
        /// The signal's number.
        signal: i32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The process table cannot be read.
    #[error("cannot read the process table; /proc must be mounted and readable")]
    ProcessTable(#[source] io::Error),
    /// The ends of children cannot be listened to.
    #[error("cannot listen for the ends of child processes")]
    ChildSignal(#[source] io::Error),
    /// There is no source of random numbers.
    #[error("cannot read /dev/urandom")]
    Random(#[source] io::Error),
    /// A thread that starts processes cannot be made.
    #[error("cannot start a thread; the limit on processes may be reached")]
    Thread(#[source] io::Error),
    /// No descriptor is left for hearing of started processes.
    #[error("cannot make an eventfd; the limit on open files may be reached")]
    Descriptor(#[source] io::Error),
}

/// Prepares the process for supervising others; call it once, first thing in `main`, before there are threads.
///
/// - Orphaned descendants become our children (child subreaper).
/// - Every inherited descriptor from 3 on becomes close-on-exec. Those that systemd passed stay usable by us, and reach
///   no plugin; a program that re-executes itself clears the flag on what it hands on.
/// - The signal mask becomes empty, every signal inherited as ignored gets its default back (`nohup` and shells leave
///   such behind; an ignored SIGCHLD would lose exit codes), and SIGPIPE is ignored by us (not by children).
/// - All threads share one heap: what one frees another can use, and none has much to ask of it at once.
///
/// # Errors
/// The first step that the system refused.
pub fn settle() -> Result<(), SetupError> {
    sys::share_one_heap();
    become_subreaper()?;
    close_inherited_on_exec();
    clear_mask()?;
    reset_dispositions()
}

/// Makes orphaned descendants our children; may be repeated.
pub(crate) fn become_subreaper() -> Result<(), SetupError> {
    prctl::set_child_subreaper(true).map_err(|errno| SetupError::Subreaper(errno.into()))
}

/// Keeps signals that are meant for the process away from the calling thread.
pub(crate) fn block_signals() -> Result<(), SetupError> {
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)
        .map_err(|errno| SetupError::Mask(errno.into()))
}

/// Does something whose new threads are to have no signals: one that is woken by the signal of an ended child has nothing
/// to do but to wake the main thread. What is signalled meanwhile goes to other threads, or waits until this is done.
pub fn without_signals<T>(act: impl FnOnce() -> T) -> T {
    let _mask = Mask::blocked();
    act()
}

/// What a thread does from its start on that is to have no signals.
pub fn keep_signals_away() {
    // It fails for no mask that there is; and a thread with signals is one that is woken more often.
    let _ = block_signals();
}

/// The signal mask as it was, put back when this is dropped.
struct Mask(Option<SigSet>);

impl Mask {
    fn blocked() -> Mask {
        Mask(SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).ok())
    }
}

impl Drop for Mask {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // It was in force before.
            let _ = before.thread_set_mask();
        }
    }
}

/// Empties the signal mask of the calling thread, and so of those it starts.
pub(crate) fn clear_mask() -> Result<(), SetupError> {
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .map_err(|errno| SetupError::Mask(errno.into()))
}

fn close_inherited_on_exec() {
    if sys::close_on_exec_from(3).is_ok() {
        return;
    }
    // Before Linux 5.11, or forbidden by a filter: one by one. Without /proc nothing else would work either, and
    // `Host::start` says so.
    let Ok(folder) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    for entry in folder.flatten() {
        let number = entry.file_name().to_str().and_then(|n| n.parse().ok());
        if let Some(fd) = number.filter(|fd| *fd > 2) {
            sys::set_close_on_exec(fd);
        }
    }
}

fn reset_dispositions() -> Result<(), SetupError> {
    for signal in 1..=sys::last_signal() {
        let ignored = signal == libc::SIGPIPE;
        let inherited = sys::disposition(signal) == Some(sys::Disposition::Ignored);
        if !ignored && !inherited {
            continue;
        }
        sys::set_ignored(signal, ignored)
            .map_err(|source| SetupError::Disposition { signal, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Helper, drain};
    use crate::{Output, fifo, limits};
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::path::Path;

    /// Not a test of its own: a launcher that was started badly, started again by the test below.
    #[tokio::test]
    async fn launcher() {
        let Some(home) = Helper::home() else {
            return;
        };
        // As if a careless parent had left them.
        let leaked = File::open("/").unwrap();
        nix::fcntl::fcntl(
            &leaked,
            nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
        )
        .unwrap();
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGCHLD] {
            sys::set_ignored(signal, true).unwrap();
        }
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).unwrap();
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 200, 300)
            .unwrap();

        settle().unwrap();
        let scene = crate::testing::Scene::at(home);
        let path = scene.path("fifo");
        fifo::create(&path).unwrap();
        let mut reader = fifo::open_reader(&path).unwrap();
        let mut looks = Vec::new();
        // The shell starts after a moment, when its limit has been set back.
        for script in [
            "sleep 0.2; ulimit -n; exec grep '^Sig[BI]' /proc/self/status",
            "exec ls /proc/self/fd",
        ] {
            let mut spec = scene.shell(script);
            spec.stdout = Output::Fifo(path.clone());
            let run = scene.host.spawn(spec).await.unwrap();
            assert_eq!(run.tree_ended().await, supervision::ExitStatus::Code(0));
            let text = drain(&mut reader);
            looks.push(text);
        }
        assert!(leaked.as_raw_fd() > 2);
        assert_eq!(limits::raise_open_files().unwrap(), 300);
        assert!(looks[0].starts_with("200\nSigBlk:\t0000000000000000\nSigIgn:\t"));
        let ignored = looks[0].split_whitespace().last().unwrap();
        // Signals 32 and 33 belong to the C library.
        let ignored = u64::from_str_radix(ignored, 16).unwrap() & !(3 << 31);
        assert_eq!(ignored, 0);
        assert_eq!(looks[1], "0\n1\n2\n3\n", "the fourth is the listing's own");
        std::fs::write(scene.path("out"), "1\n").unwrap();
    }

    #[tokio::test]
    async fn a_badly_started_launcher_starts_its_children_well() {
        let folder = tempfile::tempdir().unwrap();
        let home: &Path = folder.path();
        Helper::start("settle::tests::launcher", home)
            .succeeds()
            .await;
        // It did go to its end, and was not merely told that it is no helper.
        assert!(home.join("out").exists());
    }

    #[test]
    fn threads_started_without_signals_have_none() {
        let before = SigSet::thread_get_mask().unwrap();
        let of_new = || {
            let thread = std::thread::spawn(|| SigSet::thread_get_mask().unwrap());
            thread.join().unwrap()
        };
        let blocked = without_signals(of_new);
        for signal in [
            nix::sys::signal::Signal::SIGCHLD,
            nix::sys::signal::Signal::SIGTERM,
        ] {
            assert!(blocked.contains(signal));
        }
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
        assert_eq!(of_new(), before);
    }
}
