//! A data folder: where its keys are, and its lock: one control plane at a time, told by process id.
//!
//! The kernel drops the lock with the process, however it ends, so none is ever stale.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// The name of the folder of keys in a data folder.
pub const KEYS_FOLDER: &str = "keys";

/// The folder of keys in a data folder.
#[must_use]
pub fn keys_folder(data_dir: &Path) -> PathBuf {
    data_dir.join(KEYS_FOLDER)
}

/// Why a data folder could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error("the data folder {folder} is in use by process {holder}")]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The holder's process id, or `unknown`.
        holder: String,
    },
    /// The folder or its lock file cannot be made or written.
    #[error("cannot lock the data folder {folder}")]
    Lock {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A data folder that is ours until this is dropped.
#[derive(Debug)]
pub struct DataDirLock {
    _held: Flock<File>,
}

impl DataDirLock {
    /// Locks a folder, which is made if it is missing. Does not wait.
    ///
    /// # Errors
    /// [`Error::InUse`] names the process that has it; [`Error::Lock`] when the folder cannot be
    /// made or written.
    pub fn acquire(folder: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Lock { folder: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join("lock"))
            .map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                write_holder(&mut held).map_err(failed)?;
                Ok(Self { _held: held })
            }
            Err((file, Errno::EWOULDBLOCK)) => {
                Err(Error::InUse { folder: folder.to_owned(), holder: holder(file) })
            }
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }
}

fn write_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// Only for the message: the holder may be between locking and writing.
fn holder(file: File) -> String {
    let mut text = String::new();
    match file.take(32).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        Ok(_) | Err(_) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_is_refused_and_names_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let held = DataDirLock::acquire(&path).unwrap();

        let refused = DataDirLock::acquire(&path).unwrap_err();

        let expected = format!(
            "the data folder {} is in use by process {}",
            path.display(),
            std::process::id()
        );
        assert_eq!(refused.to_string(), expected);
        drop(held);
        assert!(DataDirLock::acquire(&path).is_ok());
    }
}
