//! What became of this cell since its agent ran last: the agent was restarted, upgraded, or the
//! whole machine was.
//!
//! Told in the log of every instance that it concerns, and in the agent's own.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::StorageError;
use crate::durable_file::{self, Survives};

/// Where the kernel tells which of its lives this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What happened between the last agent's life and this one's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EarlierLife {
    /// There was none: the cell is new.
    None,
    /// The same agent was started again.
    Restarted,
    /// Another version of it was started.
    Upgraded {
        /// From which.
        from: String,
        /// To which.
        to: String,
    },
    /// The machine was started again: nothing runs any more.
    Rebooted,
}

/// What is kept of an agent's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Life {
    version: String,
    boot_id: String,
}

impl EarlierLife {
    /// Looks what was, and keeps what is.
    ///
    /// # Errors
    /// The cell's folder cannot be used.
    pub(crate) fn look(folder: &Path) -> Result<Self, StorageError> {
        let path = folder.join("life.json");
        let now = Life {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned(),
        };
        // A torn one tells nothing; what it would tell is no ground of any decision.
        let before: Option<Life> = durable_file::read_json(&path).unwrap_or_default();
        let found = Self::between(before.as_ref(), &now);
        durable_file::write_json(&path, &now, Survives::Machine)
            .map_err(StorageError::new("write", &path))?;
        Ok(found)
    }

    fn between(before: Option<&Life>, now: &Life) -> Self {
        match before {
            None => Self::None,
            Some(before) if before.boot_id != now.boot_id => Self::Rebooted,
            Some(before) if before.version != now.version => {
                Self::Upgraded { from: before.version.clone(), to: now.version.clone() }
            }
            Some(_) => Self::Restarted,
        }
    }
}

impl fmt::Display for EarlierLife {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("its agent is new"),
            Self::Restarted => f.write_str("its agent was restarted"),
            Self::Upgraded { from, to } => write!(f, "its agent was upgraded from {from} to {to}"),
            Self::Rebooted => f.write_str("the machine was restarted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_an_upgrade_and_a_reboot_are_told_apart() {
        let life = |version: &str, boot_id: &str| Life {
            version: version.to_owned(),
            boot_id: boot_id.to_owned(),
        };
        let told = |before: Option<Life>| {
            EarlierLife::between(before.as_ref(), &life("2.0.0", "b")).to_string()
        };

        assert_eq!(told(None), "its agent is new");
        assert_eq!(told(Some(life("2.0.0", "b"))), "its agent was restarted");
        let upgraded = "its agent was upgraded from 1.0.0 to 2.0.0";
        assert_eq!(told(Some(life("1.0.0", "b"))), upgraded);
        assert_eq!(told(Some(life("1.0.0", "a"))), "the machine was restarted");
    }

    #[test]
    fn what_is_kept_is_found_by_the_next_agent() {
        let folder = tempfile::tempdir().unwrap();

        assert_eq!(EarlierLife::look(folder.path()).unwrap(), EarlierLife::None);
        assert_eq!(EarlierLife::look(folder.path()).unwrap(), EarlierLife::Restarted);
        fs::write(folder.path().join("life.json"), "{").unwrap();
        assert_eq!(EarlierLife::look(folder.path()).unwrap(), EarlierLife::None);
    }
}
