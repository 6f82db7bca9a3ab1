//! The only unsafe code of the crate: what neither std nor rustix can do in a safe way.
//!
//! Signals as something to poll: without a `signalfd`, SIGTERM would end the shim (or, as process 1
//! of a container, be lost) instead of beginning the stop ladder. SIGPIPE is ignored by std from the
//! start. A game gets none of this, nor what a worker has been started with (`nohup`): [`plain`]
//! and [`keep_descriptors`].
//!
//! A mount namespace of the game's own: rustix calls `unshare` unsafe, since it could take descriptors
//! away from other threads; here it does not.
//!
//! And who is at the other end of a socket: rustix reads the peer's pid as a number that can not be
//! 0, which it is for a peer outside this process's pid namespace, the worker of a container.
#![expect(
    unsafe_code,
    reason = "std and rustix have no safe way to block signals, to poll for them, to unshare, to name a descriptor by its number, or to ask for a peer without a pid"
)]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use manman_shim::spec::Bind;
use rustix::fs::OFlags;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::mount::{MountPropagationFlags, mount_bind_recursive, mount_change};
use rustix::process::Signal;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// `sigset_t` of glibc and musl: 1024 bits, signal n at bit n - 1.
#[repr(C)]
struct Set([u64; 16]);

unsafe extern "C" {
    fn sigprocmask(how: c_int, set: *const Set, old: *mut Set) -> c_int;
    fn signalfd(fd: c_int, set: *const Set, flags: c_int) -> c_int;
    fn signal(number: c_int, handler: usize) -> usize;
    fn getsockopt(socket: c_int, level: c_int, name: c_int, value: *mut Peer, length: *mut u32) -> c_int;
}

/// `struct ucred`.
#[derive(Default)]
#[repr(C)]
struct Peer {
    pid: i32,
    uid: u32,
    gid: u32,
}

const SOL_SOCKET: c_int = 1;
const SO_PEERCRED: c_int = 17;

const SIG_BLOCK: c_int = 0;
const SIG_SETMASK: c_int = 2;
const SIG_DFL: usize = 0;
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

/// Blocks and ignores no signal any more: both would be inherited over exec.
pub(crate) fn plain() -> io::Result<()> {
    for number in 1..=31 {
        // SAFETY: SIG_DFL is no function, so none can be called. SIGKILL and SIGSTOP are refused.
        unsafe { signal(number, SIG_DFL) };
    }
    let set = Set([0; 16]);
    // SAFETY: `set` is a whole sigset_t, live for the call, and a null `old` is allowed.
    match unsafe { sigprocmask(SIG_SETMASK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Shows a directory under another name, to this process and what it starts alone.
pub(crate) fn bind(bind: &Bind) -> io::Result<()> {
    // SAFETY: no descriptor table is unshared, and this is the only thread of its process.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    // What is mounted from here on is nobody else's, and what others unmount goes here, too.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    Ok(mount_bind_recursive(&bind.source, &bind.target)?)
}

/// The pid and the user of the process that has connected; the pid is 0 where it is of no namespace
/// that this one sees.
pub(crate) fn peer(stream: &UnixStream) -> io::Result<(i32, u32)> {
    let mut peer = Peer::default();
    let mut length = size_of::<Peer>() as u32;
    // SAFETY: `peer` is a whole struct ucred of `length` bytes, both live for the call, and any bytes
    // are a valid one.
    match unsafe { getsockopt(stream.as_raw_fd(), SOL_SOCKET, SO_PEERCRED, &raw mut peer, &raw mut length) } {
        0 if length as usize == size_of::<Peer>() => Ok((peer.pid, peer.uid)),
        0 => Err(io::ErrorKind::InvalidData.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes every descriptor above stdio that this process was started with end at the next exec. To
/// be called before it opens any of its own that a game shall inherit.
pub(crate) fn keep_descriptors() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        if let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()).filter(|number| *number > 2) {
            // SAFETY: it is open, as the listing has just said and no other thread can have changed,
            // and it is only borrowed. (The listing's own is among them and closed after the loop.)
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            fcntl_setfd(descriptor, FdFlags::CLOEXEC)?;
        }
    }
    Ok(())
}
