//! Small exhaustive models over the real rules: every interleaving of what users, loops, cells and
//! faults can do to a few slots or tasks on a few cells. Nothing is left to chance.
//!
//! - `search`: breadth first over states told apart by what matters of them
//! - `log`: the real rules, and the bugs that are planted in them
//! - `machines`: cells and the containers on them
//! - `lrp`: two slots on three cells; `task`: two tasks on two cells
//! - `bugs`: what is planted in the rules is found
//!
//! `DIARIO_MODEL=full` searches with all cells and faults that the large models have; CI looks at
//! fewer.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod bugs;
mod log;
mod lrp;
mod machines;
mod search;
mod task;

use std::{io::Write as _, time::Instant};

/// Whether the large models are asked for.
fn is_full() -> bool {
    std::env::var_os("DIARIO_MODEL").is_some_and(|value| value == "full")
}

/// Not by a macro, whose output a passing test would hide.
fn tell(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Searches a model to its end, and tells what that came to.
fn search_all<M: search::Model>(what: &str, first: &M) {
    #[expect(clippy::disallowed_methods, reason = "how long a search took is told, and no more")]
    let began = Instant::now();

    let found = match search::search(first) {
        Ok(found) => found,
        Err(search::Broken { what, way }) => panic!("{what}, after {way:#?}"),
    };

    tell(&format!("{what}: {found:?} in {:.0?}", began.elapsed()));
    assert!(found.states > 1000, "{found:?}");
}
