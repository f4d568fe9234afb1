//! Garden: containers and the processes in them.
//!
//! [`Garden`] is the whole of what the rest of the cell knows; `linux` is the real one, `fake`
//! one in memory for tests. Garden never names an action, an LRP or a Task: it is told what to
//! run, and tells how it ended.

pub(crate) mod beneath;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
mod id;
mod info;
pub mod linux;
mod output;
mod spec;
pub(crate) mod user;

use std::fmt::Debug;
use std::os::fd::OwnedFd;

use async_trait::async_trait;

pub use error::Error;
pub use id::{Handle, InvalidId, ProcessId, RootfsName};
pub(crate) use info::surplus;
pub use info::{
    Capacity, ContainerInfo, ContainerState, ExitRecord, ExitStatus, Inspection, Metrics,
    OomReport, PROCESSES_MAX, ProcessInfo, ProcessState,
};
pub use output::{OutputChunk, OutputCursor, OutputRecord, OutputStream};
pub use spec::{BindMount, ContainerSpec, Environment, Limits, ProcessSpec, Signal};

/// Makes containers and runs processes in them.
///
/// A container outlives the agent that made it: after a restart, `list` gives what is there.
/// Dropping a future never leaves a container half made or half destroyed.
#[async_trait]
pub trait Garden: Send + Sync + Debug {
    /// Makes a container with no process of the caller's in it.
    ///
    /// # Errors
    /// After any error nothing of the container is left, and the same handle may be tried again.
    async fn create(&self, spec: ContainerSpec) -> Result<ContainerInfo, Error>;

    /// Runs a process; returns once it is exec'd.
    ///
    /// # Errors
    /// [`Error::Run`] says in words why it could not be exec'd: then it never ran.
    async fn run(&self, handle: &Handle, process: ProcessSpec) -> Result<(), Error>;

    /// Sends a signal to a process; does nothing if it has ended.
    ///
    /// # Errors
    /// The container or the process is not known.
    async fn signal(
        &self,
        handle: &Handle,
        process: &ProcessId,
        signal: Signal,
    ) -> Result<(), Error>;

    /// Waits until a process ends; answers at once, and any number of times, if it has.
    ///
    /// # Errors
    /// [`Error::Stopped`] if its container stopped or was destroyed and left no record of it.
    async fn wait(&self, handle: &Handle, process: &ProcessId) -> Result<ExitRecord, Error>;

    /// Reads what processes wrote after a cursor: whole records, at least one if there is one,
    /// else no more than `max_bytes` of what they wrote.
    ///
    /// # Errors
    /// The container is not known, or its spool cannot be read.
    async fn read_output(
        &self,
        handle: &Handle,
        after: OutputCursor,
        max_bytes: usize,
    ) -> Result<OutputChunk, Error>;

    /// Waits until there may be output after a cursor, or the container is stopped or gone.
    async fn output_ready(&self, handle: &Handle, after: OutputCursor);

    /// What a container uses now.
    ///
    /// # Errors
    /// The container is not known, or the machine does not tell.
    async fn metrics(&self, handle: &Handle) -> Result<Metrics, Error>;

    /// The disk that a container takes, without its root file system: in bytes.
    ///
    /// # Errors
    /// The container is not known, or its folder cannot be read.
    async fn disk_usage(&self, handle: &Handle) -> Result<u64, Error>;

    /// Looks into a container, for whoever wants to know why it ends.
    ///
    /// # Errors
    /// The container is not known.
    async fn inspect(&self, handle: &Handle) -> Result<Inspection, Error>;

    /// The root folder of a container as its processes see it, mounts and all.
    ///
    /// What is below belongs to the container and changes meanwhile: a path is opened by the
    /// kernel with this as its root, and nothing that may block is waited for.
    ///
    /// # Errors
    /// The container is not known, or is stopped: then nobody sees it any more.
    async fn root(&self, handle: &Handle) -> Result<OwnedFd, Error>;

    /// Whether processes can be run in a container; `None` if there is none of that name.
    async fn state(&self, handle: &Handle) -> Option<ContainerState>;

    /// Waits until a container is stopped or gone; at once if it is.
    async fn until_stopped(&self, handle: &Handle);

    /// Every container, by handle; what an agent needs to take them up again.
    async fn list(&self) -> Vec<ContainerInfo>;

    /// Destroys a container and all that is in it, running or not; nothing of it is left.
    /// Does nothing if it is not there.
    ///
    /// # Errors
    /// Something could not be removed; the container stays known and it may be tried again.
    async fn destroy(&self, handle: &Handle) -> Result<(), Error>;

    /// What the machine could give to containers.
    ///
    /// # Errors
    /// The machine does not tell.
    async fn capacity(&self) -> Result<Capacity, Error>;
}
