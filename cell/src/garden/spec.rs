//! What a caller asks of Garden: a container, a process in it, a signal.
//!
//! Plain data, checked by `validate` before anything is made. Never prints an environment: its
//! values are secrets.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Error, Handle, ProcessId, RootfsName};

/// The most variables that a container or a process may bring.
const VARIABLES_MAX: usize = 4096;
/// The most bytes of one argument or variable, as the kernel has it (`MAX_ARG_STRLEN`).
const STRING_BYTES_MAX: usize = 128 * 1024 - 1;
/// The most bytes of all arguments and variables together.
const STRINGS_BYTES_MAX: usize = 1024 * 1024;
/// The most bind mounts of one container.
const BIND_MOUNTS_MAX: usize = 64;
/// Below this, not even a static program starts.
const MEMORY_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// A container to make.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// Its name on this cell.
    pub handle: Handle,
    /// What its root is made of; writes go to a layer of its own.
    pub rootfs: RootfsName,
    /// Its host name, 1 to 64 bytes.
    pub hostname: String,
    /// Variables that every process gets; a process's own variable of the same name wins.
    pub environment: Environment,
    /// What it may use.
    pub limits: Limits,
    /// Host files and folders seen inside.
    pub bind_mounts: Vec<BindMount>,
    /// The caller's own notes, kept with the container and given back by `list`; not secret.
    pub properties: BTreeMap<String, String>,
}

/// What a container may use; `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, and memory with swap, in bytes; at least 4 MiB.
    pub memory_bytes: Option<u64>,
    /// Relative share of the processors when they are scarce; at least 2.
    pub cpu_shares: Option<u64>,
    /// Processor time in microseconds per 100 ms; at least 1000. 100000 is one whole core.
    pub cpu_quota_us: Option<u64>,
    /// Processes and threads; at least 2, for one is the container's own init.
    pub pids_max: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: None, cpu_shares: None, cpu_quota_us: None, pids_max: Some(1024) }
    }
}

/// A host file or folder that is seen inside a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    /// An existing absolute path on the host.
    pub source: PathBuf,
    /// An absolute path inside; made if missing, and never followed out of the container.
    pub destination: PathBuf,
    /// Whether writing through it is refused.
    pub is_read_only: bool,
}

/// A process to run in a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Its name: never used twice in one container.
    pub id: ProcessId,
    /// The executable: a path inside the container, or a name looked up in `PATH`.
    pub path: String,
    /// The arguments after the program's name.
    pub args: Vec<String>,
    /// Its own variables, over the container's.
    pub environment: Environment,
    /// The working folder, made if missing; `None` is the user's home.
    pub dir: Option<String>,
    /// `name`, `uid` or `uid:gid`, looked up in the container's `/etc/passwd`; `None` is root.
    pub user: Option<String>,
    /// The most open files; lowered, with a warning, to what this machine can give.
    pub nofile: Option<u64>,
    /// Whether it is one of many, such as a check that is run again and again: of too many exit
    /// records, those of such processes go first.
    #[serde(default)]
    pub is_fleeting: bool,
}

/// Environment variables. `Debug` shows the names only.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Environment(pub Vec<(String, String)>);

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl From<Vec<(String, String)>> for Environment {
    fn from(variables: Vec<(String, String)>) -> Self {
        Self(variables)
    }
}

/// What may be sent to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// SIGTERM, to the process alone.
    Terminate,
    /// SIGKILL, to the process and to its whole process group.
    Kill,
}

impl ContainerSpec {
    /// Checks everything that can be checked without looking at the machine.
    ///
    /// # Errors
    /// [`Error::InvalidSpec`] says which field breaks which rule.
    pub fn validate(&self) -> Result<(), Error> {
        let is_label = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
        let hostname = &self.hostname;
        refuse_unless(
            !hostname.is_empty() && hostname.len() <= 64 && hostname.bytes().all(is_label),
            "hostname must be 1 to 64 letters, digits, '-' and '.'",
        )?;
        self.limits.validate()?;
        validate_environment(&self.environment)?;
        refuse_unless(self.bind_mounts.len() <= BIND_MOUNTS_MAX, "too many bind mounts")?;
        for mount in &self.bind_mounts {
            refuse_unless(
                mount.source.is_absolute() && mount.destination.is_absolute(),
                "a bind mount needs absolute paths",
            )?;
        }
        Ok(())
    }
}

impl Limits {
    fn validate(&self) -> Result<(), Error> {
        let memory = self.memory_bytes.unwrap_or(MEMORY_BYTES_MIN);
        refuse_unless(memory >= MEMORY_BYTES_MIN, "memory_bytes must be at least 4194304")?;
        refuse_unless(i64::try_from(memory).is_ok(), "memory_bytes is too large")?;
        refuse_unless(self.cpu_shares.is_none_or(|shares| shares >= 2), "cpu_shares below 2")?;
        refuse_unless(
            self.cpu_quota_us.is_none_or(|quota| (1000..=1_000_000_000).contains(&quota)),
            "cpu_quota_us must be 1000 to 1000000000",
        )?;
        refuse_unless(self.pids_max.is_none_or(|pids| pids >= 2), "pids_max must be at least 2")
    }
}

impl ProcessSpec {
    /// Checks everything that can be checked without looking into the container.
    ///
    /// # Errors
    /// [`Error::InvalidSpec`] says which field breaks which rule.
    pub fn validate(&self) -> Result<(), Error> {
        refuse_unless(!self.path.is_empty(), "path is empty")?;
        let dir_is_absolute = self.dir.as_ref().is_none_or(|dir| dir.starts_with('/'));
        refuse_unless(dir_is_absolute, "dir must be absolute")?;
        let texts = self.args.iter().chain([&self.path]).chain(&self.dir).chain(&self.user);
        let mut bytes = 0;
        for text in texts {
            refuse_unless(is_argument(text), "an argument holds a NUL byte or is too long")?;
            bytes += text.len() + 1;
        }
        refuse_unless(bytes <= STRINGS_BYTES_MAX, "the arguments are too long together")?;
        validate_environment(&self.environment)
    }
}

fn validate_environment(environment: &Environment) -> Result<(), Error> {
    refuse_unless(environment.0.len() <= VARIABLES_MAX, "too many environment variables")?;
    let mut bytes = 0;
    for (name, value) in &environment.0 {
        refuse_unless(
            !name.is_empty() && !name.contains('=') && is_argument(name) && is_argument(value),
            "an environment variable is empty, too long, or holds '=' in its name or a NUL byte",
        )?;
        bytes += name.len() + value.len() + 2;
    }
    refuse_unless(bytes <= STRINGS_BYTES_MAX, "the environment is too long")
}

fn is_argument(text: &str) -> bool {
    text.len() <= STRING_BYTES_MAX && !text.contains('\0')
}

fn refuse_unless(is_fine: bool, reason: &str) -> Result<(), Error> {
    if is_fine { Ok(()) } else { Err(Error::InvalidSpec { reason: reason.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_never_prints_its_values() {
        let environment = Environment(vec![("TOKEN".to_owned(), "hunter2".to_owned())]);

        assert_eq!(format!("{environment:?}"), "[\"TOKEN\"]");
    }

    #[test]
    fn absurd_limits_are_refused() {
        let limits = Limits::default();
        for refused in [
            Limits { memory_bytes: Some(0), ..limits },
            Limits { memory_bytes: Some(u64::MAX), ..limits },
            Limits { cpu_shares: Some(1), ..limits },
            Limits { cpu_quota_us: Some(999), ..limits },
            Limits { pids_max: Some(1), ..limits },
        ] {
            assert!(refused.validate().is_err(), "{refused:?}");
        }
        assert!(limits.validate().is_ok());
    }
}
