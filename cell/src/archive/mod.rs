//! Archives: tar, gzipped tar and zip, told apart by what is in them, unpacked below a folder.
//!
//! An archive comes from anywhere. Nothing of it is ever written outside its folder, whatever it
//! names and whatever links it brings; nothing is made of it but files, folders and links; what it
//! may take of the disk and of memory is bounded, however small it is itself.
//! Never spawns and never waits for anything but the disk: the caller runs it where that is fine.

mod tar;
#[cfg(test)]
mod tests;
mod tree;
mod zip;

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;

use flate2::read::MultiGzDecoder;

use self::tree::Tree;

/// How many files, folders and links one archive may hold: as many as a container of Diego's.
pub(crate) const ENTRIES_MAX: u64 = 200_000;
/// What the least file is counted as: a block of the disk.
pub(crate) const BLOCK_BYTES: u64 = 4096;
/// How much is told of what is broken.
const REASON_BYTES_MAX: usize = 512;
/// How much of an archive is looked at to tell what it is: the first header of a tar.
const HEAD_BYTES: u64 = 512;

/// Why an archive was not unpacked. What was written of it before stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Its content is that of no archive that is known.
    #[error("it is neither a tar, a gzipped tar nor a zip archive")]
    Unknown,
    /// An entry would be written elsewhere.
    #[error("{entry} leads out of the folder that it is unpacked into")]
    Escapes {
        /// Its name in the archive.
        entry: String,
    },
    /// An entry is nothing that is unpacked.
    #[error("{entry} is {kind}, which is not unpacked")]
    Kind {
        /// Its name in the archive.
        entry: String,
        /// What it is.
        kind: &'static str,
    },
    /// There are too many entries.
    #[error("it holds more than {entries_max} files")]
    TooMany {
        /// How many there may be.
        entries_max: u64,
    },
    /// There is no room for it, in the words of whoever gives room.
    #[error("{reason}")]
    NoRoom {
        /// In words.
        reason: String,
    },
    /// It ends too early, or is not what its beginning says.
    #[error("the archive is broken: {reason}")]
    Broken {
        /// In words.
        reason: String,
    },
    /// The disk, or a right to a folder, does not allow it.
    #[error("cannot write {entry}: {reason}")]
    Write {
        /// Its name in the archive.
        entry: String,
        /// The machine's answer.
        reason: String,
    },
}

/// Gives room on the disk before it is taken, or says in words why not.
pub(crate) type Room<'a> = dyn FnMut(u64) -> Result<(), String> + 'a;

/// What an archive is, by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Tar,
    GzippedTar,
    Zip,
}

/// Unpacks an archive below an open folder. What is made belongs to whom this thread acts as.
///
/// # Errors
/// The first thing that is wrong with it; what was written before stays.
pub(crate) fn unpack(archive: &File, folder: OwnedFd, room: &mut Room<'_>) -> Result<(), Error> {
    let format = format_of(archive)?;
    let mut tree = Tree::new(folder, room);
    match format {
        Format::Tar => tar::unpack(BufReader::new(archive), &mut tree)?,
        Format::GzippedTar => {
            tar::unpack(MultiGzDecoder::new(BufReader::new(archive)), &mut tree)?;
        }
        Format::Zip => zip::unpack(BufReader::new(archive), &mut tree)?,
    }
    tree.finish()
}

fn format_of(archive: &File) -> Result<Format, Error> {
    let mut head = Vec::new();
    let mut reader = archive;
    let looked = reader
        .seek(SeekFrom::Start(0))
        .and_then(|_| reader.take(HEAD_BYTES).read_to_end(&mut head))
        .and_then(|_| reader.seek(SeekFrom::Start(0)));
    looked.map_err(|error| broken(&error))?;
    match head.as_slice() {
        [0x1f, 0x8b, ..] => Ok(Format::GzippedTar),
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Ok(Format::Zip),
        _ if is_tar(&head) => Ok(Format::Tar),
        _ => Err(Error::Unknown),
    }
}

/// Whether this is the first header of a tar, of whatever age, or the end of an empty one.
fn is_tar(head: &[u8]) -> bool {
    const SUM: std::ops::Range<usize> = 148..156;
    let Some(told) = head.get(SUM) else { return false };
    if u64::try_from(head.len()) != Ok(HEAD_BYTES) {
        return false;
    }
    if head.iter().all(|byte| *byte == 0) {
        return true;
    }
    let told: String = told.iter().map(|byte| char::from(*byte)).collect();
    let told = u32::from_str_radix(told.trim_matches([' ', '\0']), 8);
    // The sum counts its own field as spaces.
    let sum = head.iter().enumerate().map(|(index, byte)| match SUM.contains(&index) {
        true => u32::from(b' '),
        false => u32::from(*byte),
    });
    told == Ok(sum.sum())
}

fn broken(error: &dyn std::error::Error) -> Error {
    let mut reason = error.to_string();
    // It may repeat a name, and a name may be as long as a header.
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    Error::Broken { reason }
}
