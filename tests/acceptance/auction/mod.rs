//! Diego's simulation suite across processes: a control plane of its own for each scenario, and
//! cells that speak to its gateway over the network. Spread and bin-packed, prompt and late.
//!
//! Here the small sizes; `tests/run --long rules` does Diego's. How fast anything is, is never
//! asked: only where everything is in the end.

mod cluster;
mod fleet;
mod scenarios;
mod spread_over;

use std::sync::OnceLock;

use crate::pg_faults::setting;

/// Whether Diego's own sizes are asked for.
fn is_whole() -> bool {
    setting("DIARIO_AUCTION_WHOLE", 0) > 0
}

/// Those of Diego's sizes that are tried: all, or so many of the first.
fn of_sizes<T>(all: &[T], share: usize) -> &[T] {
    if is_whole() { all } else { &all[..share] }
}

/// One seed for all scenarios of a run. Printed by each of them.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    let seed = *SEED.get_or_init(crate::pg_faults::seed);
    crate::harness::tell(&format!("DIARIO_SEED={seed}"));
    seed
}

/// Prompt, and late by the seed.
fn lines() -> [fleet::Line; 2] {
    [fleet::Line::Prompt, fleet::Line::Late { seed: seed() }]
}
