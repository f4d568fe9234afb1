//! A tar, gzipped or not, entry by entry.
//!
//! The library only reads it. It keeps long names whole in memory, so what it may read between two
//! entries is bounded here; and so is what an entry may hold beyond what it says.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::rc::Rc;

use tar::{Archive, Entry, EntryType};

use super::tree::{Attributes, Tree, shown};
use super::{Error, broken};

/// How much may lie between two entries: their headers, long names, and padding.
const BETWEEN_BYTES_MAX: u64 = 1 << 20;

/// A reader that ends in an error when it has given as much as it may.
struct Bounded<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let bytes = u64::try_from(count).unwrap_or(u64::MAX);
        let left = self.left.get().checked_sub(bytes);
        self.left.set(left.ok_or_else(|| io::Error::other("a header of it is too long"))?);
        Ok(count)
    }
}

pub(super) fn unpack(reader: impl Read, tree: &mut Tree<'_>) -> Result<(), Error> {
    let left = Rc::new(Cell::new(BETWEEN_BYTES_MAX));
    let mut archive = Archive::new(Bounded { inner: reader, left: Rc::clone(&left) });
    let mut entries = archive.entries().map_err(|error| broken(&error))?;
    loop {
        left.set(BETWEEN_BYTES_MAX);
        let Some(entry) = entries.next() else { return Ok(()) };
        let mut entry = entry.map_err(|error| broken(&error))?;
        left.set(entry.size().saturating_add(BETWEEN_BYTES_MAX));
        put(&mut entry, tree)?;
    }
}

fn put(entry: &mut Entry<'_, impl Read>, tree: &mut Tree<'_>) -> Result<(), Error> {
    let name = OsString::from_vec(entry.path_bytes().into_owned());
    let header = entry.header();
    let attributes = Attributes {
        mode: header.mode().map_err(|error| broken(&error))?,
        modified_at: header.mtime().ok(),
    };
    let kind = header.entry_type();
    if kind.is_dir() {
        return tree.folder(&name, attributes);
    }
    if kind.is_symlink() || kind.is_hard_link() {
        let target = entry.link_name_bytes().unwrap_or_default();
        let target = OsString::from_vec(target.into_owned());
        return match kind.is_symlink() {
            true => tree.symbolic_link(&name, &target),
            false => tree.hard_link(&name, &target),
        };
    }
    if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
        // Before there were folders of their own kind, a name told them.
        if name.as_encoded_bytes().ends_with(b"/") {
            return tree.folder(&name, attributes);
        }
        return tree.file(&name, attributes, entry);
    }
    match not_unpacked(kind) {
        Some(kind) => Err(Error::Kind { entry: shown(&name), kind }),
        // Notes about the archive or about other entries, which the library has read.
        None => Ok(()),
    }
}

fn not_unpacked(kind: EntryType) -> Option<&'static str> {
    if kind.is_pax_global_extensions() || kind.is_pax_local_extensions() {
        return None;
    }
    if kind.is_block_special() || kind.is_character_special() {
        return Some("a device");
    }
    if kind.is_fifo() {
        return Some("a named pipe");
    }
    Some("of an unknown kind")
}
