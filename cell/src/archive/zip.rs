//! A zip, entry by entry.

use std::ffi::OsString;
use std::io::{Read, Seek};
use std::os::unix::ffi::OsStringExt;

use zip::ZipArchive;
use zip::read::ZipFile;

use super::tree::{Attributes, Tree, shown};
use super::{ENTRIES_MAX, Error, broken};

/// The mode of a file for which the archive has none, as in Diego.
const FILE_MODE: u32 = 0o744;
const FOLDER_MODE: u32 = 0o755;
/// How long the target of a link may be, as the kernel has it.
const LINK_BYTES_MAX: u64 = 4096;
/// Which kind of file a mode tells.
const KIND_MASK: u32 = 0o170_000;
const KIND_NONE: u32 = 0;
const KIND_FILE: u32 = 0o100_000;

pub(super) fn unpack(reader: impl Read + Seek, tree: &mut Tree<'_>) -> Result<(), Error> {
    let mut archive = ZipArchive::new(reader).map_err(|error| broken(&error))?;
    if u64::try_from(archive.len()).unwrap_or(u64::MAX) > ENTRIES_MAX {
        return Err(Error::TooMany { entries_max: ENTRIES_MAX });
    }
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| broken(&error))?;
        put(&mut entry, tree)?;
    }
    Ok(())
}

fn put(entry: &mut ZipFile<'_, impl Read>, tree: &mut Tree<'_>) -> Result<(), Error> {
    let name = OsString::from_vec(entry.name_raw().to_vec());
    let mode = entry.unix_mode();
    let attributes = |default| Attributes { mode: mode.unwrap_or(default), modified_at: None };
    if entry.is_dir() {
        return tree.folder(&name, attributes(FOLDER_MODE));
    }
    if entry.is_symlink() {
        let mut target = Vec::new();
        let read = entry.take(LINK_BYTES_MAX).read_to_end(&mut target);
        read.map_err(|error| broken(&error))?;
        return tree.symbolic_link(&name, &OsString::from_vec(target));
    }
    match mode.unwrap_or(KIND_NONE) & KIND_MASK {
        KIND_NONE | KIND_FILE => tree.file(&name, attributes(FILE_MODE), entry),
        _ => Err(Error::Kind { entry: shown(&name), kind: "a device or a pipe" }),
    }
}
