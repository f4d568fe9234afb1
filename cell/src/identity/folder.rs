//! Where a container finds its identity: a folder of its own on the cell, seen read-only inside.
//!
//! Only root may enter it on the cell; inside, every process of the container may read it. A file
//! is replaced whole, the key before its certificate, as in Diego.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use domain::units::Timestamp;

use super::certificate::{self, Issued};
use crate::durable_file;
use crate::garden::Handle;

/// The folder inside the container.
pub(crate) const INSIDE: &str = "/etc/cf-instance-credentials";

const CERTIFICATE: &str = "instance.crt";
const KEY: &str = "instance.key";

/// The folder of one container.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// That of a container, within the one of all; nothing is made yet.
    pub(crate) fn of(all: &Path, handle: &Handle) -> Self {
        Self(all.join(handle.to_string()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The variables that tell processes where it is.
    pub(crate) fn variables() -> [(String, String); 2] {
        [("CF_INSTANCE_CERT", CERTIFICATE), ("CF_INSTANCE_KEY", KEY)]
            .map(|(name, file)| (name.to_owned(), format!("{INSIDE}/{file}")))
    }

    /// Makes it, empty.
    pub(crate) fn make(&self) -> io::Result<()> {
        if let Some(all) = self.0.parent() {
            durable_file::create_folder(all)?;
        }
        durable_file::create_folder(&self.0)?;
        // Whoever runs in the container; on the cell, the folder above keeps others out.
        fs::set_permissions(&self.0, Permissions::from_mode(0o755))
    }

    pub(crate) fn write(&self, issued: &Issued) -> io::Result<()> {
        self.replace(KEY, &issued.key)?;
        self.replace(CERTIFICATE, &issued.certificate)
    }

    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let unfinished = self.0.join(format!("{name}.unfinished"));
        let mut file = File::create(&unfinished)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())?;
        fs::rename(&unfinished, self.0.join(name))
    }

    /// Until when what lies there holds; `None` where there is nothing that can be read.
    pub(crate) fn not_after(&self) -> Option<Timestamp> {
        certificate::not_after(&fs::read_to_string(self.0.join(CERTIFICATE)).ok()?)
    }

    /// Removes it with all that is in it; does nothing if it is not there.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
