//! Acceptance: `diario` as its users run it, with real containers, each scenario on a control
//! plane of its own.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(clippy::disallowed_methods, reason = "a test outside the product waits on real time")]

mod archive;
mod auction;
mod bad_input;
mod bbs;
mod bench;
mod cell_faults;
mod cells;
mod churn;
mod connection;
mod demo;
mod disk;
mod ends;
mod harness;
mod identity;
mod load;
mod logs;
mod lrps;
mod mixed_up;
mod moving;
mod nodes;
mod pg_faults;
mod readme;
mod replay;
mod restart;
mod secrets;
mod tasks;
mod transfer;
