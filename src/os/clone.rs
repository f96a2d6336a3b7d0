//! Starting a process in a cgroup: what `posix_spawn` of the C libraries of today cannot do.
//!
//! Invariants:
//! - the new process is in its cgroup from its first instruction on (`CLONE_INTO_CGROUP`), so nothing it forks escapes;
//! - until its exec it only makes system calls: it allocates nothing, locks nothing and cannot panic;
//! - no handler of ours ever runs in it (`CLONE_CLEAR_SIGHAND`), and the calling thread waits for its exec or its end;
//! - where we can call it on a stack of its own it shares our memory until its exec, as with `posix_spawn`; elsewhere it
//!   gets a copy, which takes longer the bigger we are.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

/// Not in `libc`, or with a type that it does not fit.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The stack of a child until its exec; it needs a small part of it.
const STACK_BYTES: usize = 64 * 1024;

/// The exit code of a child that could not execute its program; nobody sees it.
const NOT_EXECUTED: i32 = 127;

/// What the kernel's `struct clone_args` was when cgroups came into it.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// What an output becomes.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// `/dev/null`.
    Null,
    /// It stays as it is.
    Ours,
    /// This descriptor.
    Is(RawFd),
}

/// What the child does. All pointers are to texts that end with a zero, or to arrays that end with a null pointer.
pub(crate) struct Deeds {
    pub(crate) path: *const libc::c_char,
    pub(crate) argv: *const *mut libc::c_char,
    pub(crate) env: *const *mut libc::c_char,
    pub(crate) cwd: *const libc::c_char,
    /// Standard output and error output.
    pub(crate) outputs: [Target; 2],
}

/// Whose memory the child works in until its exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Ours.
    Shared,
    /// A copy.
    Copied,
}

impl Memory {
    /// What this machine can do best.
    pub(crate) const BEST: Memory = if cfg!(target_arch = "x86_64") {
        Memory::Shared
    } else {
        Memory::Copied
    };
}

/// Why nothing was started.
pub(crate) enum NotStarted {
    /// The kernel made no process.
    Clone(io::Error),
    /// It could not become what it should; it is gone.
    Deed(io::Error),
}

/// What the child sees.
struct Errand<'a> {
    deeds: &'a Deeds,
    /// Where it leaves its error; in memory that is ours, too.
    error: *mut i32,
}

/// Starts a process in a cgroup; it becomes our child.
///
/// # Safety
/// The pointers of `deeds` must be as that says, until this returns.
pub(crate) unsafe fn start_in(
    cgroup: BorrowedFd<'_>,
    deeds: &Deeds,
    memory: Memory,
) -> Result<i32, NotStarted> {
    let shared = Word::new(memory).map_err(NotStarted::Clone)?;
    let errand = Errand {
        deeds,
        error: shared.0,
    };
    let mut args = CloneArgs {
        flags: CLONE_INTO_CGROUP | CLONE_CLEAR_SIGHAND | libc::CLONE_VFORK as u64,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup.as_raw_fd() as u64,
        ..CloneArgs::default()
    };
    let pid = match memory {
        // SAFETY: as the caller promises; the errand lives until the child has executed its program or ended, as we wait
        // for that.
        Memory::Shared => unsafe { clone_on_own_stack(&mut args, &errand) },
        // SAFETY: likewise.
        Memory::Copied => unsafe { clone_copied(&mut args, &errand) },
    };
    let pid = pid.map_err(NotStarted::Clone)?;
    // SAFETY: the word is ours and aligned; the child that wrote it is gone, or is another program.
    let error = unsafe { shared.0.read_volatile() };
    drop(shared);
    if error == 0 {
        return Ok(pid);
    }
    // SAFETY: waits for our own child, which has ended; a null status is not wanted.
    while unsafe { libc::waitpid(pid, ptr::null_mut(), 0) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
    Err(NotStarted::Deed(io::Error::from_raw_os_error(error)))
}

/// A word that the child can write to, whosever its memory is.
struct Word(*mut i32, Memory);

impl Word {
    fn new(memory: Memory) -> io::Result<Word> {
        match memory {
            Memory::Shared => Ok(Word(Box::into_raw(Box::new(0)), memory)),
            Memory::Copied => {
                // SAFETY: a new mapping that nobody has; it is zero, and aligned to a page.
                let page = unsafe {
                    libc::mmap(
                        ptr::null_mut(),
                        size_of::<i32>(),
                        libc::PROT_READ | libc::PROT_WRITE,
                        libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                        -1,
                        0,
                    )
                };
                if page == libc::MAP_FAILED {
                    return Err(io::Error::last_os_error());
                }
                Ok(Word(page.cast(), memory))
            }
        }
    }
}

impl Drop for Word {
    fn drop(&mut self) {
        match self.1 {
            // SAFETY: made from a box by `new`, and not used any more.
            Memory::Shared => drop(unsafe { Box::from_raw(self.0) }),
            Memory::Copied => {
                // SAFETY: mapped by `new`, and not used any more.
                unsafe { libc::munmap(self.0.cast(), size_of::<i32>()) };
            }
        }
    }
}

/// The child has a copy of all our memory, so it can simply go on here.
///
/// # Safety
/// As [`start_in`].
unsafe fn clone_copied(args: &mut CloneArgs, errand: &Errand<'_>) -> io::Result<i32> {
    let args: *mut CloneArgs = args;
    // SAFETY: the arguments are valid; without CLONE_VM the child has our stack as a copy.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, args, size_of::<CloneArgs>()) };
    match i32::try_from(pid).map_err(io::Error::other)? {
        // SAFETY: as the caller promises; this is the child.
        0 => unsafe { child(errand) },
        pid if pid > 0 => Ok(pid),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The child shares our memory, so it must not go on on our stack: the call itself leads it to [`child`] on another.
///
/// # Safety
/// As [`start_in`].
#[cfg(target_arch = "x86_64")]
unsafe fn clone_on_own_stack(args: &mut CloneArgs, errand: &Errand<'_>) -> io::Result<i32> {
    #[repr(align(16))]
    struct Stack(MaybeUninit<[u8; STACK_BYTES]>);
    let mut stack = Stack(MaybeUninit::uninit());
    args.flags |= libc::CLONE_VM as u64;
    args.stack = stack.0.as_mut_ptr() as u64;
    args.stack_size = STACK_BYTES as u64;
    let mut result = libc::SYS_clone3;
    // SAFETY: the arguments and the stack are valid and outlive the child's use of them, as CLONE_VFORK keeps us here
    // until it has executed its program or ended. The child finds zero as result, an aligned empty stack, and never comes
    // out of this block: it calls `child`, which does not return. In us the kernel changes but the three registers named.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inout("rax") result,
            in("rdi") ptr::from_mut(args),
            in("rsi") size_of::<CloneArgs>(),
            in("r12") ptr::from_ref(errand),
            in("r13") child as unsafe extern "C" fn(*const Errand<'_>) -> !,
            out("rcx") _,
            out("r11") _,
        );
    }
    match i32::try_from(result).map_err(io::Error::other)? {
        pid if pid > 0 => Ok(pid),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// Nobody asks for it here.
///
/// # Safety
/// None is needed.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn clone_on_own_stack(args: &mut CloneArgs, errand: &Errand<'_>) -> io::Result<i32> {
    let _ = (MaybeUninit::<[u8; STACK_BYTES]>::uninit, &args, &errand);
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// What the new process does, from its first instruction to its exec.
///
/// # Safety
/// As [`start_in`]; to be called in the child only.
unsafe extern "C" fn child(errand: *const Errand<'_>) -> ! {
    // SAFETY: it lives until we have executed the program, or ended; so do the texts it points to. All that is called
    // is a plain system call.
    unsafe {
        let errand = &*errand;
        let error = become_program(errand.deeds);
        errand.error.write_volatile(error);
        libc::_exit(NOT_EXECUTED)
    }
}

/// Comes back only with an error.
///
/// # Safety
/// As [`child`].
unsafe fn become_program(deeds: &Deeds) -> i32 {
    // SAFETY: as the caller promises.
    unsafe {
        if libc::setpgid(0, 0) != 0 {
            return errno();
        }
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        // What is handled has its default back; this one we ignore.
        action.sa_sigaction = libc::SIG_DFL;
        if libc::sigaction(libc::SIGPIPE, &raw const action, ptr::null_mut()) != 0 {
            return errno();
        }
        if libc::chdir(deeds.cwd) != 0 {
            return errno();
        }
        if !open_null(0, libc::O_RDONLY) {
            return errno();
        }
        let [stdout, stderr] = deeds.outputs;
        if !put(1, stdout) || !put(2, stderr) {
            return errno();
        }
        // The last thing: from here on signals end it, as they end any program.
        let none = MaybeUninit::<libc::sigset_t>::zeroed().assume_init();
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) != 0 {
            return errno();
        }
        libc::execve(deeds.path, deeds.argv.cast(), deeds.env.cast());
        errno()
    }
}

/// # Safety
/// As [`child`].
unsafe fn put(number: RawFd, target: Target) -> bool {
    // SAFETY: as the caller promises; on a descriptor that is not open it fails without effect.
    unsafe {
        match target {
            Target::Null => open_null(number, libc::O_WRONLY),
            Target::Ours => true,
            // It stays where it is, without the flag that closes it.
            Target::Is(fd) if fd == number => libc::fcntl(fd, libc::F_SETFD, 0) == 0,
            Target::Is(fd) => libc::dup2(fd, number) == number,
        }
    }
}

/// # Safety
/// As [`child`].
unsafe fn open_null(number: RawFd, flags: i32) -> bool {
    // SAFETY: as the caller promises; the text ends with a zero.
    unsafe {
        let fd = libc::open(c"/dev/null".as_ptr(), flags);
        if fd == number {
            return true;
        }
        let put = fd >= 0 && libc::dup2(fd, number) == number;
        if fd >= 0 {
            libc::close(fd);
        }
        put
    }
}

/// # Safety
/// As [`child`].
unsafe fn errno() -> i32 {
    // SAFETY: this thread's own; the child's is ours or a copy of it, and we wait.
    unsafe { *libc::__errno_location() }
}
