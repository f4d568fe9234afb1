//! How a cell's Garden is set up, and the rules for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::subnet::Subnet;
use crate::garden::Error;

/// Settings of a [`LinuxGarden`](super::LinuxGarden).
#[derive(Debug, Clone)]
pub struct LinuxConfig {
    /// The cell's folder, absolute; made if missing. Not itself on an overlay.
    pub cell_dir: PathBuf,
    /// Begins the names of the cell's bridge, interfaces and cgroups: a lower-case letter, then
    /// up to 8 lower-case letters and digits. No two cells of a machine may share one.
    pub prefix: String,
    /// The containers' network; `None` picks a free /22 of 10.254.0.0/16 by the prefix.
    pub subnet: Option<Subnet>,
    /// The program that is run as `<program> shim --config <path>`.
    pub shim_binary: PathBuf,
    /// The folder of each `preloaded:<name>`, absolute.
    pub rootfses: BTreeMap<String, PathBuf>,
    /// The most containers at a time; the network's size bounds it too.
    pub containers_max: u32,
}

impl LinuxConfig {
    /// Checks everything that can be checked without changing anything.
    pub(super) fn validate(&self) -> Result<(), Error> {
        let invalid = |reason: String| Err(Error::InvalidSpec { reason });
        if !geteuid().is_root() {
            let reason = "containers need root; run the same command with sudo".to_owned();
            return Err(Error::Unsupported { reason });
        }
        let first_is_letter = self.prefix.starts_with(|letter: char| letter.is_ascii_lowercase());
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if !first_is_letter || self.prefix.len() > 9 || !self.prefix.bytes().all(allowed) {
            return invalid(format!(
                "prefix {:?} is not 1 to 9 lower-case letters and digits after a letter",
                self.prefix
            ));
        }
        for folder in self.rootfses.values().chain([&self.cell_dir]) {
            if !folder.is_absolute() || !is_mountable(folder) {
                return invalid(format!(
                    "folder {} must be absolute and without ',', ':', '\\' and control characters",
                    folder.display()
                ));
            }
        }
        Ok(())
    }

    /// Holds a folder for each container.
    pub(super) fn containers_dir(&self) -> PathBuf {
        self.cell_dir.join("containers")
    }

    /// Holds what is being removed.
    pub(super) fn trash_dir(&self) -> PathBuf {
        self.cell_dir.join("trash")
    }
}

/// Whether a path can stand among an overlay's mount options.
fn is_mountable(path: &Path) -> bool {
    path.to_str().is_some_and(|path| {
        !path.contains(|letter: char| ",:\\".contains(letter) || letter.is_control())
    })
}
