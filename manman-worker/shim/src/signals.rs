//! Signals as something to poll.
//!
//! The only unsafe code of the crate: neither std nor rustix can block a signal or make a
//! `signalfd`, and without one SIGTERM would end the shim (or, as process 1 of a container, be
//! lost) instead of beginning the stop ladder. std gives each child of ours an empty mask again, so
//! none of this is inherited by a game. SIGPIPE is ignored by std from the start.
#![expect(unsafe_code, reason = "std and rustix have no safe way to block signals and to read them from a descriptor")]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::process::Signal;

/// `sigset_t` of glibc and musl: 1024 bits, signal n at bit n - 1.
#[repr(C)]
struct Set([u64; 16]);

unsafe extern "C" {
    fn sigprocmask(how: c_int, set: *const Set, old: *mut Set) -> c_int;
    fn signalfd(fd: c_int, set: *const Set, flags: c_int) -> c_int;
}

const SIG_BLOCK: c_int = 0;
/// Size of the kernel's `signalfd_siginfo`; its first field is the signal's number.
const SIGINFO: usize = 128;

/// What would end the shim, and SIGCHLD.
const BLOCKED: [Signal; 8] =
    [Signal::CHILD, Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP, Signal::USR1, Signal::USR2, Signal::ALARM];

pub(crate) struct Signals {
    descriptor: OwnedFd,
}

impl Signals {
    /// Blocks them for this, the only thread.
    pub(crate) fn block() -> io::Result<Self> {
        let mut set = Set([0; 16]);
        for signal in BLOCKED {
            set.0[0] |= 1 << (signal.as_raw() - 1);
        }
        let flags = (OFlags::CLOEXEC | OFlags::NONBLOCK).bits().cast_signed();
        // SAFETY: `set` is a whole sigset_t, live for the call, and a null `old` is allowed.
        if unsafe { sigprocmask(SIG_BLOCK, &raw const set, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `set` is a whole sigset_t, live for the call; -1 asks for a new descriptor.
        let descriptor = unsafe { signalfd(-1, &raw const set, flags) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd has just made it, so nobody else owns it.
        Ok(Self { descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) } })
    }

    /// The next signal that has come; several of one kind may have become one.
    pub(crate) fn take(&self) -> Option<Signal> {
        let mut info = [0; SIGINFO];
        let length = rustix::io::read(&self.descriptor, &mut info).ok()?;
        let (number, _) = info.get(..length)?.split_first_chunk()?;
        Signal::from_named_raw(i32::from_ne_bytes(*number))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
