//! What can go wrong in Garden, in the caller's terms.
//!
//! Every variant names the operation or the thing; none holds an environment or an output.

use std::io;

use super::{Handle, ProcessId, RootfsName};

/// Why Garden did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request breaks a rule; asking again does not help.
    #[error("invalid specification: {reason}")]
    InvalidSpec {
        /// Which rule.
        reason: String,
    },
    /// There is a container of that name already.
    #[error("handle {handle} is in use")]
    HandleInUse {
        /// The name.
        handle: Handle,
    },
    /// There is no such container.
    #[error("unknown handle: {handle}")]
    UnknownHandle {
        /// The name asked for.
        handle: Handle,
    },
    /// No such process was ever run in the container, or its record is gone.
    #[error("unknown process: {process} in container {handle}")]
    UnknownProcess {
        /// The container.
        handle: Handle,
        /// The name asked for.
        process: ProcessId,
    },
    /// A process of that name was already run in the container.
    #[error("process {process} was already run in container {handle}")]
    ProcessInUse {
        /// The container.
        handle: Handle,
        /// The name.
        process: ProcessId,
    },
    /// No folder is configured for that name, or it is not there.
    #[error("rootfs {rootfs} does not exist on this cell")]
    UnknownRootfs {
        /// The name asked for.
        rootfs: RootfsName,
    },
    /// The cell holds as many containers as it may.
    #[error("the cell is full: it holds {containers_max} containers at most")]
    Full {
        /// The limit.
        containers_max: u32,
    },
    /// A container could not be made; nothing of it is left.
    #[error("cannot create container {handle}: {reason}")]
    Create {
        /// The container.
        handle: Handle,
        /// In words.
        reason: String,
    },
    /// A process could not be exec'd; it never ran.
    #[error("cannot run process {process} in container {handle}: {reason}")]
    Run {
        /// The container.
        handle: Handle,
        /// The process.
        process: ProcessId,
        /// In words, such as `executable /x not found`.
        reason: String,
    },
    /// The container's init or shim is gone. No more can be known about a process without a
    /// record: it did run, and it does not run any more.
    #[error("container {handle} is stopped")]
    Stopped {
        /// The container.
        handle: Handle,
    },
    /// The shim broke off; whether it did what was asked is not known.
    #[error("the shim of container {handle} did not answer")]
    Unanswered {
        /// The container.
        handle: Handle,
    },
    /// A container could not be removed; what is left of it stays known.
    #[error("cannot destroy container {handle}: {reason}")]
    Destroy {
        /// The container.
        handle: Handle,
        /// In words.
        reason: String,
    },
    /// Something did not happen in time; the caller may try again.
    #[error("container {handle}: {operation} took too long")]
    Timeout {
        /// The container.
        handle: Handle,
        /// What was waited for.
        operation: &'static str,
    },
    /// The machine cannot hold containers as it is; the text says what is missing.
    #[error("this machine cannot run containers: {reason}")]
    Unsupported {
        /// What is missing, and what to do.
        reason: String,
    },
    /// Another agent works in the same folder.
    #[error("the folder {folder} is in use by another agent")]
    FolderInUse {
        /// The folder.
        folder: String,
    },
    /// The machine refused something.
    #[error("cannot {operation}")]
    Host {
        /// What was being done, to what.
        operation: String,
        /// The machine's answer.
        source: io::Error,
    },
}

impl Error {
    /// Wraps the machine's answer with what was being done.
    pub(crate) fn host(operation: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let operation = operation.into();
        move |source| Self::Host { operation, source }
    }
}
