//! Files of a container, reached from outside: a folder to unpack into, a file to send or to read.
//!
//! Every path is resolved in the container's root and on its file system, so nothing of the host's
//! is reached and nothing of the kernel's (`/proc`, `/sys`) with the agent's rights. What a user
//! asks for is done with that user's rights: a thread of its own takes them and ends. No file is
//! waited for: a pipe is no file.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, fchownat, setfsgid, setfsuid};

use crate::garden::beneath;
use crate::garden::user::{self, User};
use crate::garden::{Garden, Handle};

/// How deep the first file of a folder is looked for.
const DEPTH_MAX: usize = 16;
/// How many names of a folder are looked at.
const NAMES_MAX: usize = 100_000;
/// The mode of folders that are made.
const FOLDER_MODE: u32 = 0o755;

/// A container's root folder, open.
#[derive(Debug)]
pub(super) struct Inside {
    root: OwnedFd,
}

impl Inside {
    /// The root of a container that runs.
    pub(super) async fn of(garden: &dyn Garden, handle: &Handle) -> Result<Self, String> {
        let root = garden.root(handle).await.map_err(|error| error.to_string())?;
        Ok(Self { root })
    }

    /// A user by the container's own list.
    pub(super) fn user(&self, name: &str) -> Result<User, String> {
        user::resolve(Some(name), |path| {
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
            Ok(File::from(beneath::open_on_root(&self.root, Path::new(path), flags)?))
        })
    }

    /// A folder, made with those above it if missing; what is made is the user's.
    pub(super) fn folder(&self, path: &str, user: &User) -> Result<OwnedFd, String> {
        let path = absolute(path, user);
        self.open_or_make(&path, user).map_err(|errno| explain(&path, errno))
    }

    fn open_or_make(&self, path: &Path, user: &User) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let opened = beneath::open_on_root(&self.root, path, flags);
        let (Err(Errno::ENOENT), Some(parent), Some(name)) =
            (&opened, path.parent(), path.file_name())
        else {
            return opened;
        };
        let parent = self.open_or_make(parent, user)?;
        match mkdirat(&parent, name, Mode::from_bits_truncate(FOLDER_MODE)) {
            Ok(()) => {
                let owner = (Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)));
                // Not through a link that came in between.
                fchownat(&parent, name, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            }
            // A process of the container was quicker.
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        beneath::open_on_root(&self.root, path, flags)
    }

    /// Opens a file, or the first one of a folder, to be read: by name, depth first.
    pub(super) fn first_file(&self, path: &str, user: &User) -> Result<File, String> {
        let path = absolute(path, user);
        let failed = |errno| explain(&path, errno);
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let opened = beneath::open_on_root(&self.root, &path, flags).map_err(failed)?;
        let file = File::from(opened);
        let metadata = file.metadata().map_err(|error| format!("{}: {error}", path.display()))?;
        if metadata.is_file() {
            return Ok(file);
        }
        if !metadata.is_dir() {
            return Err(format!("{} is neither a file nor a folder", path.display()));
        }
        let first = first_below(file.into(), DEPTH_MAX).map_err(failed)?;
        first.ok_or_else(|| format!("there is no file in {}", path.display()))
    }
}

/// Does something with the rights of a user to files, on a thread that ends with it.
pub(super) async fn as_user<T: Send + 'static>(
    user: User,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let failed = |why: &str| format!("cannot act as a user: {why}");
    // The runtime's own threads serve others afterwards: one of these only waits.
    let waited = tokio::task::spawn_blocking(move || {
        let thread = std::thread::Builder::new().name("as-user".to_owned());
        let spawned = thread.spawn(move || take_rights(&user).and_then(|()| work()));
        match spawned.map(std::thread::JoinHandle::join) {
            Ok(Ok(worked)) => worked,
            Ok(Err(_)) => Err(failed("it broke off")),
            Err(error) => Err(failed(&error.to_string())),
        }
    });
    waited.await.map_err(|error| failed(&error.to_string()))?
}

/// Only this thread's: what the kernel calls its file system ids. The rights of root to files go
/// with them.
fn take_rights(user: &User) -> Result<(), String> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setfsgid(gid);
    setfsuid(uid);
    // They fail without a word: what the next call gives back is what holds.
    if setfsgid(gid) != gid || setfsuid(uid) != uid {
        return Err(format!("the cell may not act as user {}", user.uid));
    }
    Ok(())
}

/// A path as the user means it: from the home where it is relative.
fn absolute(path: &str, user: &User) -> PathBuf {
    Path::new(&user.home).join(path)
}

fn first_below(folder: OwnedFd, depth_left: usize) -> nix::Result<Option<File>> {
    let again = folder.try_clone().map_err(|_| Errno::EMFILE)?;
    let mut folder = Dir::from_fd(again)?;
    let mut names: Vec<(OsString, Option<Type>)> = Vec::new();
    for entry in folder.iter().take(NAMES_MAX) {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            let name = std::os::unix::ffi::OsStringExt::from_vec(name.to_vec());
            names.push((name, entry.file_type()));
        }
    }
    names.sort_by(|one, other| one.0.cmp(&other.0));
    for (name, kind) in names {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY;
        let open = || openat(folder.as_fd(), name.as_os_str(), flags, Mode::empty());
        match kind {
            Some(Type::File) => return Ok(Some(File::from(open()?))),
            Some(Type::Directory) if depth_left > 0 => {
                if let Some(found) = first_below(open()?, depth_left - 1)? {
                    return Ok(Some(found));
                }
            }
            Some(_) | None => {}
        }
    }
    Ok(None)
}

fn explain(path: &Path, errno: Errno) -> String {
    let path = path.display();
    if errno == Errno::ENOENT {
        return format!("{path} is not in the container");
    }
    if errno == Errno::EXDEV {
        return format!("{path} is not on the file system of the container's root");
    }
    format!("{path}: {}", errno.desc())
}
