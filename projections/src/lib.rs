//! The log and everything computed from it: the only crate that knows SQL.
//!
//! - [`event_store`]: the log itself, its hash chain, its keys
//! - [`archive`]: the older part of the log, moved out of the database
//! - [`checkpoint`]: signed statements of what the log was
//! - [`verify`]: proves that a log is the one that was written
//! - [`world`]: the live aggregates and the views over them, at one position
//! - [`view`]: what a view is; [`auction_queue`], [`cell_capacity`], [`cell_assignments`],
//!   [`route_table`], and [`app_status`] are the views
//! - [`projector`]: keeps the present world up with the log
//! - [`failpoint`]: where a debug build can be told to die
//! - [`history`]: the world at any position
//! - [`snapshot`]: shards of folded state, so that a start need not read the whole log
//! - [`leases`]: which of several nodes runs the loops
//! - [`log_stats`]: what a log is made of
//! - [`observations`]: log lines and metrics, which are not events
//! - [`peers`]: what the benches run beside us
//! - [`presence`]: which cell was heard when
//! - [`transfer`]: exports of the log, and what takes them in again
//! - [`backup`]: a log and all beside it in a folder, and its restore
//! - [`data_dir`]: the lock on a data folder; [`private_file`]: files that hold secrets
//! - [`storage`]: the database that holds it all, opened as one; `damage`: tests of broken files
//! - `testing`: a Postgres server for tests
//! - [`worker`]: the one place where a task is spawned
//!
//! Invariant: dropping every view and folding the log again gives the same views, to the byte.

pub mod app_status;
pub mod archive;
pub mod auction_queue;
pub mod backup;
mod bytes;
pub mod cell_assignments;
pub mod cell_capacity;
pub mod checkpoint;
#[cfg(test)]
mod damage;
pub mod data_dir;
pub mod event_store;
pub mod failpoint;
pub mod history;
pub mod leases;
pub mod log_stats;
pub mod observations;
pub mod peers;
pub mod presence;
pub mod private_file;
pub mod projector;
pub mod route_table;
pub mod snapshot;
pub mod storage;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transfer;
pub mod verify;
pub mod view;
pub mod worker;
pub mod world;
