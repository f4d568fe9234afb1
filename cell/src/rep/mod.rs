//! Rep: keeps a cell's containers as its assignment wants them, and reports what becomes of them.
//!
//! What to do is decided by the pure plan in the domain; how to run a container is the
//! executor's; this remembers, on disk, all that must outlive the agent, and knows for whom a
//! container is. It never decides what should run here.
//!
//! - [`session`] everything that runs under one registration of the cell
//! - [`worker`] carries out the plan; [`instance`] one container's whole story; [`adoption`]
//!   takes up what an earlier agent left, and [`earlier_life`] tells why there was one
//! - [`self_check`] whether the cell can make containers at all
//! - [`book`] the containers held; [`room`] what they leave free; [`definitions`] what they run
//! - [`report_spool`], [`reporter`] what is said of them; [`observation_spool`], [`observer`]
//!   what is seen in them

mod adoption;
mod book;
mod definitions;
mod earlier_life;
mod instance;
mod observation_spool;
mod observer;
mod order;
mod report_spool;
mod reporter;
mod room;
mod self_check;
mod session;
mod worker;

#[cfg(test)]
mod tests;

pub(crate) use book::Book;
pub(crate) use earlier_life::EarlierLife;
pub(crate) use observation_spool::ObservationSpool;
pub(crate) use report_spool::ReportSpool;
pub(crate) use session::{Equipment, SessionEnd, destroy_everything, run};

use domain::id::InstanceGuid;
use sha2::{Digest as _, Sha256};

use crate::garden::Handle;

/// A place on the cell's disk that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path}")]
pub struct StorageError {
    /// What was being done.
    pub operation: &'static str,
    /// With what.
    pub path: String,
    /// The machine's answer.
    pub source: std::io::Error,
}

impl StorageError {
    fn new(
        operation: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.display().to_string();
        move |source| Self { operation, path, source }
    }
}

/// The container of an instance: its guid, or a digest of one that is no handle.
fn handle_of(instance_guid: &InstanceGuid) -> Handle {
    Handle::parse(instance_guid.as_str()).unwrap_or_else(|_| {
        let digest = hex::encode(Sha256::digest(instance_guid.as_str()));
        Handle::parse(&digest).expect("64 hexadecimal digits are a handle")
    })
}
