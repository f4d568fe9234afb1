//! Postgres under nodes under load: killed, terminated, read-only, stalled, full, restored; and
//! several nodes that write it together, of which the leader is killed.
//!
//! No acknowledged command is lost or doubled, every error says what to do next, and service is
//! back by itself. Here a share; `tests/run --long postgres-faults` and `--long nodes` do it all.

mod clients;
mod harm;
mod judgement;
mod node;
mod nodes;
mod reader;
mod replaced;
mod server;
mod wire;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A number from the environment, where the long runs set it.
pub(crate) fn setting(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a number")),
        Err(_) => otherwise,
    }
}

/// `DIARIO_SEED`, or another one each time.
pub(crate) fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    setting("DIARIO_SEED", u64::from(now.subsec_nanos()))
}

fn seconds(name: &str, otherwise: u64) -> Duration {
    Duration::from_secs(setting(name, otherwise))
}

/// Runs what reads the log itself.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
