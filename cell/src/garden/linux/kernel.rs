//! System calls that nix does not offer, or not safely, each wrapped once.
//!
//! The only unsafe code of this crate. One operation per block; never any policy here: which
//! namespace, which capability and when is decided by the callers.

#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::libc;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use crate::garden::ExitStatus;

/// The first descriptor after stdin, stdout and stderr.
const FIRST_CLOSED: libc::c_uint = 3;

/// Proof that this process has one thread, so that a clone of it may go on running Rust.
#[derive(Debug)]
pub(crate) struct SingleThreaded(());

impl SingleThreaded {
    /// Looks at the process; nothing in a shim ever starts a thread afterwards.
    pub(crate) fn prove() -> io::Result<Self> {
        match fs::read_dir("/proc/self/task")?.count() {
            1 => Ok(Self(())),
            threads => Err(io::Error::other(format!("the shim has {threads} threads, not one"))),
        }
    }
}

/// Which side of a clone this is.
#[derive(Debug)]
pub(crate) enum Cloned {
    /// The one that cloned.
    Parent {
        /// The new process, as numbered here.
        child: Pid,
    },
    /// The new one.
    Child,
}

/// Copies this process, as `fork` does, into the namespaces asked for.
pub(crate) fn clone(_: &SingleThreaded, flags: CloneFlags) -> nix::Result<Cloned> {
    let flags = libc::c_long::from(flags.bits() | libc::SIGCHLD);
    let null = ptr::null::<libc::c_void>();
    // SAFETY: without CLONE_VM and with no stack given this is a fork; the process has one
    // thread, so no lock of the C library or the allocator is held by anyone who is not copied.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, null, null, null, null) };
    match Errno::result(result)? {
        0 => Ok(Cloned::Child),
        child => Ok(Cloned::Parent {
            child: Pid::from_raw(i32::try_from(child).map_err(|_| Errno::EOVERFLOW)?),
        }),
    }
}

/// Reaps one ended child: any, or none if none has ended. Waits for one if `is_patient`.
///
/// Not by nix, whose `waitpid` has no word for a death by a real-time signal.
pub(crate) fn reap(is_patient: bool) -> nix::Result<Option<(Pid, ExitStatus)>> {
    let mut status = 0;
    let flags = if is_patient { 0 } else { libc::WNOHANG };
    // SAFETY: the pointer is to a live integer.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, flags) };
    match Errno::result(pid)? {
        0 => Ok(None),
        pid if libc::WIFSIGNALED(status) => {
            Ok(Some((Pid::from_raw(pid), ExitStatus::Signaled { signal: libc::WTERMSIG(status) })))
        }
        // Without WUNTRACED and WCONTINUED only ends are told.
        pid => {
            Ok(Some((Pid::from_raw(pid), ExitStatus::Exited { code: libc::WEXITSTATUS(status) })))
        }
    }
}

/// Leaves the agent's session keyring for an empty one, which all children inherit: keys are
/// not part of any namespace.
pub(crate) fn join_new_keyring() -> nix::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    let anonymous = ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for a new anonymous keyring; nothing else is read.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, anonymous) };
    match Errno::result(result) {
        // A kernel without keys has none to leave.
        Ok(_) | Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// A descriptor that names a process for ever, whatever happens to its number.
pub(crate) fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: takes two integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let raw = i32::try_from(Errno::result(result)?).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: the kernel just gave this descriptor to us and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Sends a signal through a pidfd: never to a later process of the same number.
pub(crate) fn pidfd_kill(pidfd: &OwnedFd) -> nix::Result<()> {
    let no_info = ptr::null::<libc::siginfo_t>();
    let raw = pidfd.as_raw_fd();
    // SAFETY: takes integers and a null pointer, which means no extra information.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, raw, libc::SIGKILL, no_info, 0) };
    Errno::result(result).map(drop)
}

/// Every descriptor from 3 up closes at the next exec.
pub(crate) fn close_all_on_exec() -> nix::Result<()> {
    close_range(libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes every descriptor from 3 up, for a process that goes on without any.
///
/// Only for a process that has just begun or never returns: values that own those descriptors are not dropped.
pub(crate) fn close_all_now() -> nix::Result<()> {
    close_range(0)
}

/// Closes every descriptor from 3 up but those named: what is closed cannot be reached by any
/// path, while what closes at an exec still can until then.
///
/// Only for a process that never returns: values that own the others are not dropped.
pub(crate) fn close_all_but(kept: &[BorrowedFd<'_>]) -> nix::Result<()> {
    let number = |one: &BorrowedFd<'_>| libc::c_uint::try_from(one.as_raw_fd()).ok();
    let mut kept: Vec<libc::c_uint> = kept.iter().filter_map(number).collect();
    kept.sort_unstable();
    let mut first = FIRST_CLOSED;
    for number in kept.into_iter().filter(|number| *number >= FIRST_CLOSED) {
        if number > first {
            close_between(first, number - 1, 0)?;
        }
        first = first.max(number.saturating_add(1));
    }
    close_between(first, libc::c_uint::MAX, 0)
}

fn close_range(flags: libc::c_uint) -> nix::Result<()> {
    close_between(FIRST_CLOSED, libc::c_uint::MAX, flags)
}

fn close_between(first: libc::c_uint, last: libc::c_uint, flags: libc::c_uint) -> nix::Result<()> {
    // SAFETY: takes three integers; the callers are about to exec, to wait for ever or never to
    // return, or have just begun, so no owned descriptor among these is used after it.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    Errno::result(result).map(drop)
}

/// Ends this process at once: no destructors, no exit handlers, which belong to the parent.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: does not return and runs nothing.
    unsafe { libc::_exit(code) }
}

/// Gives every signal its default action, as a program expects them after exec.
///
/// Rust ignores SIGPIPE from the start, and an ignored signal stays ignored across exec.
pub(crate) fn reset_signal_actions() {
    // The C library keeps 32 and 33 for itself and would not set them, so the kernel is asked.
    // All zeros is the default action, no flags, nothing blocked, for any layout of the struct.
    const SIGNAL_SET_BYTES: usize = 8;
    let (default, nothing) = ([0_u64; 8], ptr::null::<u64>());
    for signal in 1..=64 {
        // SAFETY: the pointer is to a live array at least as long as the kernel's structure. The
        // kernel refuses the two signals that cannot be set: those are always at their default.
        let _result = unsafe {
            let action = default.as_ptr();
            libc::syscall(libc::SYS_rt_sigaction, signal, action, nothing, SIGNAL_SET_BYTES)
        };
    }
}

/// Lets the kernel reap this process's children, so that an init needs no code for it.
pub(crate) fn ignore_child_signals() {
    // SAFETY: ignoring a signal runs no code of ours.
    let _previous = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Whether a capability may still be gained by an exec; `None` past the kernel's last one.
pub(crate) fn bounding_set_has(capability: u32) -> Option<bool> {
    // SAFETY: takes integers only.
    let result = unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) };
    Errno::result(result).ok().map(|present| present == 1)
}

/// Takes a capability away from every later exec of this process and its children.
pub(crate) fn drop_from_bounding_set(capability: u32) -> nix::Result<()> {
    // SAFETY: takes integers only.
    let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    Errno::result(result).map(drop)
}

/// Empties the ambient set.
pub(crate) fn clear_ambient_set() -> nix::Result<()> {
    // SAFETY: takes integers only.
    let result =
        unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    Errno::result(result).map(drop)
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: two words of 32 capabilities each.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Sets this process's permitted and effective capabilities to a set and inherits none.
pub(crate) fn set_capabilities(capabilities: u64) -> nix::Result<()> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let word = |shift: u32| {
        let bits = u32::try_from((capabilities >> shift) & u64::from(u32::MAX)).unwrap_or(0);
        CapabilityData { effective: bits, permitted: bits, inheritable: 0 }
    };
    let data = [word(0), word(32)];
    // SAFETY: both pointers are to live values of the layout that this version of the call has.
    let result = unsafe { libc::syscall(libc::SYS_capset, ptr::from_ref(&header), data.as_ptr()) };
    Errno::result(result).map(drop)
}

/// The capabilities that this process may use now.
pub(crate) fn permitted_capabilities() -> nix::Result<u64> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapabilityData { effective: 0, permitted: 0, inheritable: 0 }; 2];
    let header_pointer = ptr::from_mut(&mut header);
    // SAFETY: both pointers are to live values of the layout that this version of the call has.
    let result = unsafe { libc::syscall(libc::SYS_capget, header_pointer, data.as_mut_ptr()) };
    Errno::result(result)?;
    Ok(u64::from(data[0].permitted) | (u64::from(data[1].permitted) << 32))
}
