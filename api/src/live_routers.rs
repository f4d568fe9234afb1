//! How far the routers of all nodes have followed the routes, as this node knows it: told by its own
//! router, and by the other nodes through [`crate::presence_sync`].

use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::log::Position;
use projections::presence::Routers;
use tokio::sync::Notify;

/// What is known of routers, and a bell for whoever waits for them.
#[derive(Debug)]
pub struct LiveRouters {
    known: Mutex<Routers>,
    moved: Notify,
}

impl LiveRouters {
    /// Begins with what is known.
    #[must_use]
    pub fn new(known: Routers) -> Self {
        Self { known: Mutex::new(known), moved: Notify::new() }
    }

    /// Notes how far this node's own router has followed.
    pub fn note_own(&self, position: Position) {
        if self.known().note_own(position) {
            self.moved.notify_one();
        }
    }

    /// What is known now.
    pub fn known(&self) -> MutexGuard<'_, Routers> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rings for whoever waits: something new is known.
    pub(crate) fn ring(&self) {
        self.moved.notify_one();
    }

    /// Waits until something new is known.
    pub(crate) async fn moved(&self) {
        self.moved.notified().await;
    }
}
