//! Writes files, folders and links below an open folder, and never anywhere else.
//!
//! A parent is looked up by the kernel itself, beneath the folder and on its file system
//! (`RESOLVE_BENEATH`, `RESOLVE_NO_XDEV`), so that no `..`, no link and no mount leads out of it,
//! also while others change what is there. The last name is only ever made anew: nothing that is
//! there is opened, so nothing is written through it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat};
use nix::sys::stat::{Mode, fchmod, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

use super::{BLOCK_BYTES, ENTRIES_MAX, Error, Room};
use crate::garden::beneath;

/// What of a mode is kept: nobody becomes somebody else by a file that was unpacked.
const MODE_MASK: u32 = 0o1777;
/// The mode of folders that the archive does not tell, and of all until they are full.
const FOLDER_MODE: u32 = 0o755;
/// The longest path of an entry: as a part of another one, it is still a path.
const PATH_BYTES_MAX: usize = 2048;
const COPY_BYTES: usize = 64 * 1024;

/// What is kept of an entry beside its content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    /// In seconds since the Unix epoch.
    pub(super) modified_at: Option<u64>,
}

/// The folder that an archive is unpacked into.
pub(super) struct Tree<'a> {
    folder: OwnedFd,
    room: &'a mut Room<'a>,
    entries: u64,
    /// The parent of the entry before: mostly that of the next one.
    last_parent: Option<(PathBuf, OwnedFd)>,
    /// Those that get their modes at the end, when nothing is written into them any more.
    unfinished: Vec<(PathBuf, Attributes)>,
}

/// Where an entry is to be: its parent, open, and its name in it.
struct Place {
    parent: OwnedFd,
    name: OsString,
}

impl<'a> Tree<'a> {
    pub(super) fn new(folder: OwnedFd, room: &'a mut Room<'a>) -> Self {
        Self { folder, room, entries: 0, last_parent: None, unfinished: Vec::new() }
    }

    pub(super) fn folder(&mut self, name: &OsStr, attributes: Attributes) -> Result<(), Error> {
        self.count(BLOCK_BYTES)?;
        let path = inside(name)?;
        // The folder that all is unpacked into is not the archive's.
        let Some(place) = self.place(name, &path)? else { return Ok(()) };
        let written = written(name);
        match make_folder(&place) {
            // One that is there keeps its own mode.
            Err(Errno::EEXIST) if open_folder(&place).is_ok() => return Ok(()),
            Err(Errno::EEXIST) => {
                unlinkat(&place.parent, place.name.as_os_str(), UnlinkatFlags::NoRemoveDir)
                    .and_then(|()| make_folder(&place))
                    .map_err(written)?;
            }
            made => made.map_err(written)?,
        }
        self.unfinished.push((path, attributes));
        Ok(())
    }

    pub(super) fn file(
        &mut self,
        name: &OsStr,
        attributes: Attributes,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        self.count(0)?;
        let path = inside(name)?;
        let place = self.place(name, &path)?.ok_or_else(|| escapes(name))?;
        let written = written(name);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let make = || {
            let mode = Mode::from_bits_truncate(0o600);
            openat(&place.parent, place.name.as_os_str(), flags | OFlag::O_CLOEXEC, mode)
        };
        let file = replacing(&place, make).map_err(&written)?;
        let mut file = File::from(file);
        self.copy(name, content, &mut file)?;
        set(&file, attributes).map_err(&written)
    }

    pub(super) fn symbolic_link(&mut self, name: &OsStr, target: &OsStr) -> Result<(), Error> {
        self.count(0)?;
        let path = inside(name)?;
        let place = self.place(name, &path)?.ok_or_else(|| escapes(name))?;
        let make = || symlinkat(target, &place.parent, place.name.as_os_str());
        replacing(&place, make).map_err(written(name))
    }

    /// Another name for a file that lies below the folder too.
    pub(super) fn hard_link(&mut self, name: &OsStr, target: &OsStr) -> Result<(), Error> {
        self.count(0)?;
        let (path, target_path) = (inside(name)?, inside(target).map_err(|_| escapes(name))?);
        let target = self.place(name, &target_path)?.ok_or_else(|| escapes(name))?;
        let place = self.place(name, &path)?.ok_or_else(|| escapes(name))?;
        let make = || {
            let (from, to) = (target.name.as_os_str(), place.name.as_os_str());
            // Not what a link leads to: that may lie elsewhere.
            linkat(&target.parent, from, &place.parent, to, AtFlags::empty())
        };
        replacing(&place, make).map_err(written(name))
    }

    /// Gives the folders their own modes, the innermost first.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        for (path, attributes) in std::mem::take(&mut self.unfinished).into_iter().rev() {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
            let finished =
                self.open(&path, flags).and_then(|folder| set(&File::from(folder), attributes));
            match finished {
                // A later entry, or another process, put something else in its place.
                Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                Err(errno) => return Err(written(path.as_os_str())(errno)),
            }
        }
        Ok(())
    }

    fn count(&mut self, bytes: u64) -> Result<(), Error> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(Error::TooMany { entries_max: ENTRIES_MAX });
        }
        self.take(bytes)
    }

    fn take(&mut self, bytes: u64) -> Result<(), Error> {
        (self.room)(bytes).map_err(|reason| Error::NoRoom { reason })
    }

    fn copy(&mut self, name: &OsStr, content: &mut dyn Read, file: &mut File) -> Result<(), Error> {
        let mut buffer = vec![0; COPY_BYTES];
        let (mut taken, mut total) = (0_u64, 0_u64);
        loop {
            let count = content.read(&mut buffer).map_err(|error| super::broken(&error))?;
            if count == 0 {
                return Ok(());
            }
            total = total.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            let needed = total.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES);
            self.take(needed - taken)?;
            taken = needed;
            let bytes = buffer.get(..count).unwrap_or_default();
            file.write_all(bytes)
                .map_err(|error| Error::Write { entry: shown(name), reason: error.to_string() })?;
        }
    }

    /// Opens the parent of a path, made with those above it if missing; `None` for the folder
    /// itself.
    fn place(&mut self, entry: &OsStr, path: &Path) -> Result<Option<Place>, Error> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(None);
        };
        let opened = match &self.last_parent {
            Some((known, opened)) if known == parent => opened
                .try_clone()
                .map_err(|error| Error::Write { entry: shown(entry), reason: error.to_string() })?,
            Some(_) | None => {
                let opened = self.parent(entry, parent)?;
                if let Ok(kept) = opened.try_clone() {
                    self.last_parent = Some((parent.to_owned(), kept));
                }
                opened
            }
        };
        Ok(Some(Place { parent: opened, name: name.to_owned() }))
    }

    fn parent(&mut self, entry: &OsStr, path: &Path) -> Result<OwnedFd, Error> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        match self.open(path, flags) {
            Err(Errno::ENOENT) => {}
            // Out of the folder by a link, onto another file system, or in a circle.
            Err(Errno::EXDEV | Errno::ELOOP) => return Err(escapes(entry)),
            opened => return opened.map_err(written(entry)),
        }
        let place = self.place(entry, path)?.ok_or_else(|| escapes(entry))?;
        self.take(BLOCK_BYTES)?;
        match make_folder(&place) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(written(entry)(errno)),
        }
        match self.open(path, flags) {
            // What is there leads out, or nowhere.
            Err(Errno::EXDEV | Errno::ELOOP | Errno::ENOENT) => Err(escapes(entry)),
            opened => opened.map_err(written(entry)),
        }
    }

    fn open(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_XDEV
            | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        beneath::open_how(&self.folder, path, how)
    }
}

/// The path of an entry below the folder: relative, and without `.` and `..`.
fn inside(name: &OsStr) -> Result<PathBuf, Error> {
    if name.len() > PATH_BYTES_MAX {
        return Err(written(name)(Errno::ENAMETOOLONG));
    }
    let mut path = PathBuf::new();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => path.push(part),
            // As tar does: an absolute name is meant below the folder.
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => return Err(escapes(name)),
        }
    }
    Ok(path)
}

/// Makes something, in the place of what is there under its name.
fn replacing<T>(place: &Place, make: impl Fn() -> nix::Result<T>) -> nix::Result<T> {
    match make() {
        Err(Errno::EEXIST) => {
            unlinkat(&place.parent, place.name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
            make()
        }
        made => made,
    }
}

fn make_folder(place: &Place) -> nix::Result<()> {
    let name = place.name.as_os_str();
    mkdirat(&place.parent, name, Mode::from_bits_truncate(0o700))?;
    // Not by the call that makes it, whose mode the umask narrows.
    let folder = open_folder(place)?;
    fchmod(&folder, Mode::from_bits_truncate(FOLDER_MODE))
}

fn open_folder(place: &Place) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(&place.parent, place.name.as_os_str(), flags, Mode::empty())
}

fn set(file: &File, attributes: Attributes) -> nix::Result<()> {
    fchmod(file, Mode::from_bits_truncate(attributes.mode & MODE_MASK))?;
    match attributes.modified_at.and_then(|seconds| i64::try_from(seconds).ok()) {
        Some(seconds) => {
            let time = TimeSpec::new(seconds, 0);
            futimens(file, &time, &time)
        }
        None => Ok(()),
    }
}

/// A name of the archive as it is told.
pub(super) fn shown(name: &OsStr) -> String {
    let mut name = String::from_utf8_lossy(name.as_bytes()).into_owned();
    name.truncate(name.floor_char_boundary(256));
    name
}

fn escapes(name: &OsStr) -> Error {
    Error::Escapes { entry: shown(name) }
}

fn written(name: &OsStr) -> impl Fn(Errno) -> Error + use<> {
    let entry = shown(name);
    move |errno| Error::Write { entry: entry.clone(), reason: errno.desc().to_owned() }
}
