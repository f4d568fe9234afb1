//! What a container runs: the recipe, as Diego's action tree.
//!
//! `V` is how secret values are held: [`Sealed`] in the log, [`PlainText`](crate::sealed::PlainText)
//! at the edges. Values of the environment and contents of files are secret, and so is where
//! something is loaded from or sent to: such a URL may hold credentials. No value is ever
//! interpolated.
//!
//! - [`Run`] a process; [`Download`] and [`Upload`] what goes in and out; [`Checksum`] what of
//! - here: the actions that hold others
//! - `map` the same recipe with other secrets; `check` what is wrong with one from outside

mod check;
mod checksum;
mod map;
mod run;
mod transfer;

use serde::{Deserialize, Serialize};

use crate::{sealed::Sealed, units::Milliseconds};

pub(crate) use check::{check, check_environment, check_files, check_url};
pub use checksum::{Checksum, ChecksumAlgorithm, InvalidChecksum};
pub use map::try_map_environment;
pub(crate) use map::try_map_files;
pub use run::{EnvironmentVariable, File, Run};
pub use transfer::{Download, Upload};

/// How many actions one recipe may hold in all.
pub const ACTIONS_MAX: usize = 100;
/// How deep actions may be nested.
pub const ACTION_DEPTH_MAX: usize = 16;
/// How many bytes a path, an argument or a value of the environment may have.
pub const TEXT_BYTES_MAX: usize = 128 * 1024;
/// How many bytes the name of a log source may have.
pub(crate) const LOG_SOURCE_BYTES_MAX: usize = 255;
/// How many variables or arguments one list may have.
pub const LIST_MAX: usize = 1000;

/// One step of a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action<V = Sealed> {
    /// Runs a process to its end.
    Run(Run<V>),
    /// Runs actions one after another; the first failure ends it.
    Serial(Serial<V>),
    /// Stops its action when it takes too long.
    Timeout(Timeout<V>),
    /// Unpacks an archive into the container.
    Download(Download<V>),
    /// Sends a file of the container.
    Upload(Upload<V>),
    /// Runs actions at once, and waits for all of them even when one fails.
    Parallel(Parallel<V>),
    /// Runs actions at once; the first that ends, however it does, ends all.
    Codependent(Codependent<V>),
    /// Tells in the log how its action goes.
    EmitProgress(EmitProgress<V>),
    /// Does not care whether its action fails.
    Try(Try<V>),
}

/// Actions in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serial<V = Sealed> {
    /// In the order they run.
    pub actions: Vec<Action<V>>,
    /// The source of its log lines; those below have their own.
    #[serde(default)]
    pub log_source: Option<String>,
}

/// Actions at once, each to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parallel<V = Sealed> {
    /// In no order.
    pub actions: Vec<Action<V>>,
    /// The source of its log lines; those below have their own.
    #[serde(default)]
    pub log_source: Option<String>,
}

/// Actions that only run together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Codependent<V = Sealed> {
    /// In no order.
    pub actions: Vec<Action<V>>,
    /// The source of its log lines; those below have their own.
    #[serde(default)]
    pub log_source: Option<String>,
}

/// An action with a time limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeout<V = Sealed> {
    /// What is limited.
    pub action: Box<Action<V>>,
    /// How long it may take, in milliseconds; more than 0.
    pub timeout_ms: Milliseconds,
    /// The source of its log lines; those below have their own.
    #[serde(default)]
    pub log_source: Option<String>,
}

/// An action whose begin and end are told in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmitProgress<V = Sealed> {
    /// What is told of.
    pub action: Box<Action<V>>,
    /// Told before it; empty for nothing.
    #[serde(default)]
    pub start_message: String,
    /// Told when it succeeded; empty for nothing.
    #[serde(default)]
    pub success_message: String,
    /// Told with what went wrong when it failed; empty for nothing.
    #[serde(default)]
    pub failure_message_prefix: String,
    /// The source of these lines; the definition's when absent.
    #[serde(default)]
    pub log_source: Option<String>,
}

/// An action that may fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Try<V = Sealed> {
    /// What is tried.
    pub action: Box<Action<V>>,
    /// The source of its log lines; those below have their own.
    #[serde(default)]
    pub log_source: Option<String>,
}

impl<V> Action<V> {
    /// The actions right below this one, in their order.
    #[must_use]
    pub fn children(&self) -> &[Self] {
        match self {
            Self::Run(_) | Self::Download(_) | Self::Upload(_) => &[],
            Self::Serial(serial) => &serial.actions,
            Self::Parallel(parallel) => &parallel.actions,
            Self::Codependent(codependent) => &codependent.actions,
            Self::Timeout(timeout) => std::slice::from_ref(&timeout.action),
            Self::EmitProgress(progress) => std::slice::from_ref(&progress.action),
            Self::Try(tried) => std::slice::from_ref(&tried.action),
        }
    }

    /// How many actions it holds, itself among them.
    #[must_use]
    pub fn count(&self) -> usize {
        1 + self.children().iter().map(Self::count).sum::<usize>()
    }

    /// The action of a number: itself is 0, those below it follow depth first.
    #[must_use]
    pub fn nth(&self, number: usize) -> Option<&Self> {
        let Some(mut left) = number.checked_sub(1) else { return Some(self) };
        for child in self.children() {
            let count = child.count();
            if left < count {
                return child.nth(left);
            }
            left -= count;
        }
        None
    }
}
