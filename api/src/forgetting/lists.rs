//! Where it is noted what was forgotten: in the data folder, and in a file that operators name.

use std::path::{Path, PathBuf};

use clap::Args;
use projections::{data_dir::keys_folder, event_store::keys::FORGOTTEN_LIST_FILE};

/// Where it is noted what was forgotten, besides the data folder.
#[derive(Debug, Clone, Default, Args)]
#[group(skip)]
pub struct Options {
    /// Note here too what is forgotten, in a file that no backup and no restore of the data folder
    /// touches: what an older copy of the log would bring back is forgotten again by it.
    /// keys/forgotten.list in the data folder is written in any case.
    #[arg(long, value_name = "FILE")]
    pub forgotten_list: Option<PathBuf>,
}

impl Options {
    /// The lists of a control plane with this data folder.
    #[must_use]
    pub fn paths(&self, data_dir: &Path) -> Vec<PathBuf> {
        let mut paths = vec![in_folder(data_dir)];
        paths.extend(self.forgotten_list.clone());
        paths
    }
}

/// The list in a data folder.
#[must_use]
pub fn in_folder(data_dir: &Path) -> PathBuf {
    keys_folder(data_dir).join(FORGOTTEN_LIST_FILE)
}
