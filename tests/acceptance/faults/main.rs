//! Faults: real processes that are killed while they write, and what they leave behind. A binary
//! of its own, so that its load runs beside no other scenario.
//!
//! Sizes and seeds come from the environment, as each scenario says; `tests/run --long` sets them.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(clippy::disallowed_methods, reason = "a test outside the product waits on real time")]

#[path = "../connection.rs"]
mod connection;
#[path = "../harness.rs"]
#[expect(dead_code, reason = "cells and containers are the other acceptance tests' business")]
mod harness;
mod kill;

/// A setting of the run.
fn setting(name: &str, otherwise: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return otherwise };
    text.parse().unwrap_or_else(|_| panic!("{name} must be a number, but is {text:?}"))
}
