//! Opens paths of a container from outside it, as its own processes would see them.
//!
//! The kernel resolves them with the container's root as `/` (`RESOLVE_IN_ROOT`): neither `..` nor a
//! link leads out, whatever its processes put there meanwhile (CVE-2021-30465).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// How often a resolution is tried that a rename in the container disturbed.
const TRIES: u32 = 8;

/// Opens a path below a root; `/` and links are the root's.
pub(crate) fn open(root: impl AsFd, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    open_how(root, path, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve))
}

/// The same, but not what another file system is mounted over: the agent has rights there that no
/// process of the container has, as in `/proc`.
pub(crate) fn open_on_root(root: impl AsFd, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT
        | ResolveFlag::RESOLVE_NO_MAGICLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    open_how(root, path, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve))
}

/// Opens a path as told, again where something in the container moved meanwhile.
pub(crate) fn open_how(folder: impl AsFd, path: &Path, how: OpenHow) -> nix::Result<OwnedFd> {
    let mut tried = Err(Errno::EAGAIN);
    for _ in 0..TRIES {
        tried = openat2(folder.as_fd(), path, how);
        if !matches!(tried, Err(Errno::EAGAIN)) {
            break;
        }
    }
    tried
}
