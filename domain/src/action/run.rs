//! Run: a process inside the container, and what it sees.

use serde::{Deserialize, Serialize};

use crate::sealed::Sealed;

/// One variable of a process's environment. Its value is treated as secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentVariable<V> {
    /// Its name: not empty, without `=` and NUL.
    pub name: String,
    /// Its value; never interpolated.
    pub value: V,
}

/// A file that is put into the container. Its content is treated as secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File<V> {
    /// Where: relative to the folder of such files, without `..`.
    pub path: String,
    /// What is in it.
    pub content: V,
}

/// A process to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run<V = Sealed> {
    /// The executable, as seen inside the container.
    pub path: String,
    /// Its arguments, without the executable's name.
    #[serde(default = "Vec::new")]
    pub args: Vec<String>,
    /// The working directory; the user's home when absent.
    #[serde(default)]
    pub dir: Option<String>,
    /// Variables beside the container's own.
    #[serde(default = "Vec::new")]
    pub env: Vec<EnvironmentVariable<V>>,
    /// The user inside the container, by name.
    pub user: String,
    /// The source that its log lines carry; the definition's when absent.
    #[serde(default)]
    pub log_source: Option<String>,
    /// The most files it may hold open; the cell's default when absent.
    #[serde(default)]
    pub nofile: Option<u64>,
    /// The most processes of its user: kept, and without effect, as in Diego.
    #[serde(default)]
    pub nproc: Option<u64>,
    /// Whether what it writes is kept out of the log.
    #[serde(default)]
    pub suppress_log_output: bool,
    /// Files that are there when it runs.
    #[serde(default = "Vec::new")]
    pub volume_mounted_files: Vec<File<V>>,
}

impl<V> Run<V> {
    /// A process that says nothing but what it runs, and as whom.
    pub fn new(path: impl Into<String>, user: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            args: Vec::new(),
            dir: None,
            env: Vec::new(),
            user: user.into(),
            log_source: None,
            nofile: None,
            nproc: None,
            suppress_log_output: false,
            volume_mounted_files: Vec::new(),
        }
    }
}
