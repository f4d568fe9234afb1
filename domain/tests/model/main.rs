//! Small exhaustive models over the real rules: every interleaving of what users, loops, cells and
//! faults can do to a few slots or tasks on a few cells. Nothing is left to chance.
//!
//! - `search`: breadth first over states told apart by what matters of them
//! - `lrp`: two slots on three cells; `task`: two tasks on two cells
//!
//! `DIARIO_MODEL=full` searches with all faults that the large model has; CI looks at fewer.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod lrp;
mod search;
mod task;

/// Whether the large models are asked for.
fn is_full() -> bool {
    std::env::var_os("DIARIO_MODEL").is_some_and(|value| value == "full")
}
