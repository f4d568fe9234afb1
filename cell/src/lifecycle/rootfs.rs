//! Builds the folder behind `preloaded:diario`: the static binary and the few files around it.
//!
//! Named by its content and put in place by one rename, so a folder that is there is whole, and
//! an upgrade never changes one under a running container. A fresh machine needs no image.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Raised when what is built around the binary changes.
const LAYOUT: &str = "1";
const NAME: &str = "diario-";
/// The user that apps run as, in Cloud Foundry.
const VCAP: u32 = 2000;
const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/false\nvcap:x:2000:2000:vcap:/home/vcap:/bin/false\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nvcap:x:2000:\n";
const FOLDERS: [(&str, u32); 13] = [
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("etc/cf-assets", 0o755),
    ("home", 0o755),
    ("home/vcap", 0o755),
    ("home/vcap/app", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("var", 0o755),
];

/// A rootfs that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootfs {
    /// The folder to give to Garden under the name `diario`.
    pub folder: PathBuf,
    /// The binary in it, as a path on the host: to be bound, read-only, into containers with
    /// another rootfs.
    pub binary: PathBuf,
}

/// Builds the rootfs of a binary in a folder, if it is not there yet, and removes older ones
/// that no container uses. Blocks; must be called by one process at a time for one folder.
///
/// # Errors
/// The binary cannot be read, or the folder cannot be written.
pub fn build(parent: &Path, binary: &Path) -> io::Result<Rootfs> {
    fs::create_dir_all(parent)?;
    let name = format!("{NAME}{}", digest(binary)?);
    let folder = parent.join(&name);
    if !folder.exists() {
        let unfinished = parent.join(format!(".{name}"));
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fill(&unfinished, binary)?;
        fs::rename(&unfinished, &folder)?;
    }
    remove_unused(parent, &name)?;
    Ok(Rootfs { binary: folder.join("bin/diario"), folder })
}

fn digest(binary: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    hash.update(LAYOUT);
    io::copy(&mut File::open(binary)?, &mut HashWriter(&mut hash))?;
    Ok(hex::encode(hash.finalize().get(..8).unwrap_or(&[])))
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn fill(folder: &Path, binary: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(folder)?;
    for (name, mode) in FOLDERS {
        let path = folder.join(name);
        fs::create_dir(&path)?;
        // Not by the builder, whose mode the umask narrows.
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    for name in ["home/vcap", "home/vcap/app"] {
        chown(folder.join(name), Some(VCAP), Some(VCAP))?;
    }
    fs::copy(binary, folder.join("bin/diario"))?;
    fs::set_permissions(folder.join("bin/diario"), fs::Permissions::from_mode(0o755))?;
    symlink("diario", folder.join("bin/healthcheck"))?;
    write(&folder.join("etc/passwd"), PASSWD)?;
    write(&folder.join("etc/group"), GROUP)?;
    // Mount points of the files that Garden generates.
    for name in ["etc/hosts", "etc/hostname", "etc/resolv.conf"] {
        write(&folder.join(name), "")?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

/// Every shim holds a shared lock on its container's rootfs folder: one that can be locked
/// exclusively is not in use.
fn remove_unused(parent: &Path, current: &str) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_old = name.to_str().is_some_and(|name| name.starts_with(NAME) && name != current);
        if is_old && File::open(entry.path())?.try_lock().is_ok() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_binary_gets_a_folder_of_its_own_and_a_used_one_stays() {
        let home = tempfile::tempdir().unwrap();
        let parent = home.path().join("preloaded");
        let binary = home.path().join("binary");
        fs::write(&binary, "one").unwrap();

        let first = build(&parent, &binary).unwrap();
        let in_use = File::open(&first.folder).unwrap();
        in_use.lock_shared().unwrap();
        assert_eq!(build(&parent, &binary).unwrap(), first);
        fs::write(&binary, "two").unwrap();
        let second = build(&parent, &binary).unwrap();

        assert_ne!(first.folder, second.folder);
        assert!(first.binary.exists());
        assert_eq!(fs::read_to_string(&second.binary).unwrap(), "two");
        let mode = fs::metadata(second.folder.join("tmp")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o1777);

        drop(in_use);
        build(&parent, &binary).unwrap();
        assert!(!first.folder.exists());
    }
}
