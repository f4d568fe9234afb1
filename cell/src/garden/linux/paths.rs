//! Paths that a user named, resolved inside the container without any way out of it.
//!
//! The caller has entered the container's mount namespace, so its root is the process's root. What
//! is left are the magic links of `/proc`, which lead wherever a process holds something open:
//! they are never followed here (CVE-2024-21626), and nothing is made or given away behind one.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, fchownat};

use crate::garden::beneath;

/// Opens a path for nothing but to know where it is; `ELOOP` if a magic link is on the way.
pub(super) fn open_without_magic(path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | flags)
        .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    beneath::open_how(AT_FDCWD, path, how)
}

/// Opens a folder, made with those above it if missing; the last one then gets an owner.
pub(super) fn open_or_make_folder(path: &Path, owner: (Uid, Gid)) -> nix::Result<OwnedFd> {
    let opened = open_without_magic(path, OFlag::O_DIRECTORY);
    if !matches!(opened, Err(Errno::ENOENT)) {
        return opened;
    }
    let root = (Uid::from_raw(0), Gid::from_raw(0));
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return opened };
    let parent = open_or_make_folder(parent, root)?;
    match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) => {
            let (uid, gid) = owner;
            // Not through a link that came in between.
            fchownat(&parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        }
        // Another process of the container was quicker.
        Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    open_without_magic(path, OFlag::O_DIRECTORY)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn nothing_is_made_or_opened_behind_a_magic_link() {
        let home = tempfile::tempdir().unwrap();
        let held = File::open(home.path()).unwrap();
        let own = (nix::unistd::getuid(), nix::unistd::getgid());
        let magic = format!("/proc/self/fd/{}/new/deep", held.as_raw_fd());

        let made = open_or_make_folder(Path::new(&magic), own);

        assert_eq!(made.unwrap_err(), Errno::ELOOP);
        assert!(!home.path().join("new").exists());
        let program = open_without_magic(Path::new("/proc/self/exe"), OFlag::empty());
        assert_eq!(program.unwrap_err(), Errno::ELOOP);
    }
}
