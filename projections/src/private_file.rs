//! Files that hold secrets: read only when nobody else can read them, written whole or not at all.
//!
//! No error repeats what a file holds, and what was read is overwritten when it is dropped.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// The largest private file in bytes: they hold keys and tokens.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Why a private file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner can use it.
    #[error("{path} has mode {mode:o}, but must have mode 600: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is larger than any such file needs to be.
    #[error("{path} is larger than {FILE_BYTES_MAX} bytes, so it is not the file it should be")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It holds no text.
    #[error("{path} is not UTF-8 text")]
    NotText {
        /// The file.
        path: PathBuf,
    },
}

impl Error {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Reads a text file that only its owner may use.
///
/// # Errors
/// When it cannot be read, others can use it, or it is too large or no text.
pub fn read(path: &Path) -> Result<Zeroizing<String>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode });
    }
    // Of full size at once: a buffer that grows would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 1));
    let limit = u64::try_from(FILE_BYTES_MAX + 1).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(Error::TooLarge { path: path.to_owned() });
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::NotText { path: path.to_owned() })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Makes a private file; of several that try at once one wins, and the others are told
/// [`io::ErrorKind::AlreadyExists`]. Survives the machine's death once this returns.
///
/// # Errors
/// What the system said.
pub fn create(path: &Path, text: &str) -> io::Result<()> {
    let beside = write_beside(path, text)?;
    // A hard link fails when the name is taken.
    let linked = fs::hard_link(&beside, path);
    fs::remove_file(&beside)?;
    linked?;
    sync_folder_of(path)
}

/// Writes a private file whole, replacing one that is there. Survives the machine's death once
/// this returns.
///
/// # Errors
/// What the system said; the old file is untouched then.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = write_beside(path, text)?;
    fs::rename(&beside, path)?;
    sync_folder_of(path)
}

/// Written beside and put in place, so that a crash never leaves half a file.
fn write_beside(path: &Path, text: &str) -> io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    // A file left by an earlier try keeps its own mode.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(beside)
}

/// Makes the names in a file's folder durable.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_nobody_else_can_use_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        assert!(read(&path).unwrap_err().is_not_found());

        create(&path, "one").unwrap();
        assert_eq!(create(&path, "other").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read(&path).unwrap().as_str(), "one");
        replace(&path, "two").unwrap();
        assert_eq!(read(&path).unwrap().as_str(), "two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside");

        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read(&path), Err(Error::Exposed { mode: told, .. }) if told == mode));
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, vec![b' '; FILE_BYTES_MAX + 1]).unwrap();
        assert!(matches!(read(&path), Err(Error::TooLarge { .. })));
        fs::write(&path, b"\xff").unwrap();
        assert!(matches!(read(&path), Err(Error::NotText { .. })));
    }
}
