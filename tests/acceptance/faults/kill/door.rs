//! Where clients find a node, life after life.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::harness::PATIENCE;

/// How long there may be no node.
const BETWEEN_LIVES_MAX: Duration = PATIENCE.saturating_mul(3);

/// Where a node is.
#[derive(Debug, Default)]
pub(super) struct Door {
    state: Mutex<State>,
    moved: Condvar,
    told: AtomicU64,
}

/// One life of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Life {
    /// Which; 0 is none.
    pub(super) number: u64,
    /// The address of its API.
    pub(super) address: String,
}

#[derive(Debug, Default)]
struct State {
    life: Life,
    is_closing: bool,
}

impl Door {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A next life has begun.
    pub(super) fn open(&self, address: &str) {
        let mut state = self.state();
        state.life = Life { number: state.life.number + 1, address: address.to_owned() };
        self.moved.notify_all();
    }

    /// Clients end once they know what became of all that they asked for.
    pub(super) fn close(&self) {
        self.state().is_closing = true;
    }

    pub(super) fn is_closing(&self) -> bool {
        self.state().is_closing
    }

    /// Waits for a life after one that is over.
    pub(super) fn after(&self, over: u64) -> Life {
        let is_over = |state: &mut State| state.life.number <= over;
        let waited = self.moved.wait_timeout_while(self.state(), BETWEEN_LIVES_MAX, is_over);
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "no life came after life {over}");
        state.life.clone()
    }

    /// A client was told what became of a command.
    pub(super) fn note_told(&self) {
        self.told.fetch_add(1, Ordering::Relaxed);
    }

    /// How many commands clients were told of.
    pub(super) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }
}
