//! What a container of an LRP or a task is made of and runs.
//!
//! Immutable once desired: a changed definition is a new process guid. `V` is how secret values
//! are held, as in [`crate::action`].

use serde::{Deserialize, Serialize};

use crate::{
    action::{
        self, Action, EnvironmentVariable, LIST_MAX, LOG_SOURCE_BYTES_MAX, try_map_environment,
    },
    check::{self, CheckDefinition},
    invalid::{Invalid, InvalidField},
    sealed::{Digest, PlainText, Sealed},
    units::{Mebibytes, Milliseconds},
};

pub use super::rootfs::{InvalidRootfs, Rootfs};

/// The most memory or disk that one container may ask for: 4 TiB.
pub const AMOUNT_MAX: Mebibytes = Mebibytes(4 << 20);
/// The longest start timeout: a day.
const START_TIMEOUT_MAX_MS: u64 = 86_400_000;
/// The longest time from SIGTERM to SIGKILL: an hour. Its room on the cell is taken for so long.
const GRACEFUL_STOP_MAX_MS: u64 = 3_600_000;

/// What a container is made of and runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition<V = Sealed> {
    /// Its root file system.
    pub rootfs: Rootfs,
    /// Variables of every process in it.
    #[serde(default = "Vec::new")]
    pub env: Vec<EnvironmentVariable<V>>,
    /// Runs to its end before the action.
    #[serde(default = "no_setup")]
    pub setup: Option<Action<V>>,
    /// What it is there for.
    pub action: Action<V>,
    /// What makes it healthy.
    #[serde(default)]
    pub check: CheckDefinition,
    /// How long it may take to become healthy, in milliseconds; 0 is for ever.
    #[serde(default = "default_start_timeout")]
    pub start_timeout_ms: Milliseconds,
    /// How long it may take to end by itself after SIGTERM, in milliseconds; then comes SIGKILL. 0
    /// is at once; absent is the cell's default. (Diego has one value for all apps of a cell.)
    #[serde(default)]
    pub graceful_stop_ms: Option<Milliseconds>,
    /// Its memory limit, in mebibytes; also what is reserved on the cell.
    pub memory_mb: Mebibytes,
    /// What is reserved of the cell's disk, in mebibytes.
    pub disk_mb: Mebibytes,
    /// The most processes and threads in it; 0 is the cell's default (1024).
    #[serde(default)]
    pub max_pids: u32,
    /// Its share of the processor against other containers, from 1 to 100.
    #[serde(default = "default_cpu_weight")]
    pub cpu_weight: u32,
    /// The ports it listens on.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// The source that its log lines carry.
    #[serde(default = "default_log_source")]
    pub log_source: String,
    /// The tags that a cell must carry to hold it.
    #[serde(default)]
    pub placement_tags: Vec<String>,
    /// The drivers of the volumes that are mounted in it: a cell must have all of them.
    #[serde(default)]
    pub volume_drivers: Vec<String>,
    /// How an instance leaves a cell that is being evacuated. A task has no use for it.
    #[serde(default)]
    pub update_strategy: UpdateStrategy,
}

/// How an instance is replaced by its next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateStrategy {
    /// It runs on until the next one is healthy.
    #[default]
    Rolling,
    /// It is stopped first: never two at once on cells that are heard.
    Recreate,
}

fn no_setup<V>() -> Option<Action<V>> {
    None
}

fn default_start_timeout() -> Milliseconds {
    Milliseconds::from_seconds(60)
}

fn default_cpu_weight() -> u32 {
    100
}

fn default_log_source() -> String {
    "APP".to_owned()
}

impl<V> Definition<V> {
    /// The same definition with every secret value changed by `map`.
    ///
    /// # Errors
    /// The first error of `map`.
    pub fn try_map<W, E>(
        &self,
        map: &mut impl FnMut(&V) -> Result<W, E>,
    ) -> Result<Definition<W>, E> {
        Ok(Definition {
            rootfs: self.rootfs.clone(),
            env: try_map_environment(&self.env, map)?,
            setup: self.setup.as_ref().map(|action| action.try_map(map)).transpose()?,
            action: self.action.try_map(map)?,
            check: self.check.clone(),
            start_timeout_ms: self.start_timeout_ms,
            graceful_stop_ms: self.graceful_stop_ms,
            memory_mb: self.memory_mb,
            disk_mb: self.disk_mb,
            max_pids: self.max_pids,
            cpu_weight: self.cpu_weight,
            ports: self.ports.clone(),
            log_source: self.log_source.clone(),
            placement_tags: self.placement_tags.clone(),
            volume_drivers: self.volume_drivers.clone(),
            update_strategy: self.update_strategy,
        })
    }
}

impl Definition<Sealed> {
    /// The name of this very definition: the digest of its JSON form.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).unwrap_or_default())
    }
}

impl Definition<PlainText> {
    /// Says what is wrong with a definition from outside.
    pub(crate) fn check(&self, invalid: &mut Invalid) {
        action::check_environment(&self.env, "env", invalid);
        if let Some(setup) = &self.setup {
            action::check(setup, "setup", invalid);
        }
        action::check(&self.action, "action", invalid);
        check::check(&self.check, "check", invalid);
        let amount_max = u64::from(AMOUNT_MAX.0);
        invalid.between("memory_mb", u64::from(self.memory_mb.0), 1, amount_max);
        invalid.between("disk_mb", u64::from(self.disk_mb.0), 0, amount_max);
        invalid.between("max_pids", u64::from(self.max_pids), 0, 4_194_304);
        invalid.between("cpu_weight", u64::from(self.cpu_weight), 1, 100);
        invalid.between("start_timeout_ms", self.start_timeout_ms.0, 0, START_TIMEOUT_MAX_MS);
        if let Some(graceful_stop) = self.graceful_stop_ms {
            invalid.between("graceful_stop_ms", graceful_stop.0, 0, GRACEFUL_STOP_MAX_MS);
        }
        invalid.at_most("ports", self.ports.len(), LIST_MAX);
        if self.ports.contains(&0) {
            invalid.push(InvalidField::new("ports", "must each be from 1 to 65535"));
        }
        invalid.text("log_source", &self.log_source, LOG_SOURCE_BYTES_MAX);
        for (name, texts) in
            [("placement_tags", &self.placement_tags), ("volume_drivers", &self.volume_drivers)]
        {
            invalid.at_most(name, texts.len(), 100);
            for (index, text) in texts.iter().enumerate() {
                invalid.text(&format!("{name}[{index}]"), text, 255);
            }
        }
    }
}
