//! Where a control plane's master keys are: the one place that reads `DIARIO_MASTER_KEYS`.
//!
//! Never shows what it read.

use std::path::{Path, PathBuf};

use projections::{
    data_dir::keys_folder,
    event_store::keys::{Error, MasterKeySource, MasterKeys},
};
use zeroize::Zeroizing;

/// The variable that goes before the file.
const VARIABLE: &str = "DIARIO_MASTER_KEYS";

/// The file in a data folder.
#[must_use]
pub fn file(data_dir: &Path) -> PathBuf {
    keys_folder(data_dir).join("master.key")
}

/// The environment's keys where it has any, else the file of a data folder.
///
/// # Errors
/// When the environment's are malformed.
pub fn source(data_dir: &Path) -> Result<MasterKeySource, Error> {
    let Some(given) = std::env::var_os(VARIABLE).filter(|given| !given.is_empty()) else {
        return Ok(MasterKeySource::File(file(data_dir)));
    };
    let given = given.into_string().map_err(|_| Error::MalformedGivenKeys { entry: 1 })?;
    MasterKeys::parse_given(&Zeroizing::new(given)).map(MasterKeySource::Given)
}
