//! Small files that must survive the agent, the machine, or both.
//!
//! A reader sees all of a file or nothing of it. Everything is readable by its owner only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a written file must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Survives {
    /// The death of this process: the kernel has the bytes.
    Agent,
    /// The death of the machine: the disk has the bytes, and the name.
    Machine,
}

/// Writes a file whole, mode 0600, replacing one that is there.
pub(crate) fn write(path: &Path, bytes: &[u8], survives: Survives) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let mut file = private().create(true).truncate(true).open(&unfinished)?;
    file.write_all(bytes)?;
    if survives == Survives::Machine {
        file.sync_all()?;
    }
    fs::rename(&unfinished, path)?;
    if survives == Survives::Machine { sync_folder_of(path) } else { Ok(()) }
}

/// Writes a value as JSON.
pub(crate) fn write_json<T: Serialize>(
    path: &Path,
    value: &T,
    survives: Survives,
) -> io::Result<()> {
    write(path, &serde_json::to_vec(value).map_err(io::Error::other)?, survives)
}

/// Reads a value back; `None` if there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a file; does nothing if it is not there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes a folder and those above it, mode 0700.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// How files of the cell are opened for writing: mode 0600.
pub(crate) fn private() -> OpenOptions {
    let mut options = File::options();
    options.write(true).mode(0o600);
    options
}

/// Makes a new name in a folder, or a removed one, survive the machine's death.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
