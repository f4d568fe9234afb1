//! Many clients at the same time.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
};

use super::{
    client::{Client, History},
    door::Door,
};

/// The running clients of one node.
pub(super) struct Load {
    door: Arc<Door>,
    clients: Vec<JoinHandle<History>>,
}

impl Load {
    /// Starts clients, which wait for the door to open.
    pub(super) fn start(name: &str, clients: usize, seed: u64) -> Self {
        let door = Arc::new(Door::default());
        let start = |number: usize| {
            let seed = seed.wrapping_mul(1000).wrapping_add(u64::try_from(number).unwrap());
            let client = Client::new(format!("{name}-{number}"), seed, Arc::clone(&door));
            thread::spawn(|| client.run())
        };
        let clients = (0..clients).map(start).collect();
        Self { door, clients }
    }

    pub(super) fn door(&self) -> &Door {
        &self.door
    }

    /// Fails when a client has.
    pub(super) fn check(&self) {
        assert!(!self.clients.iter().any(JoinHandle::is_finished), "a client has failed");
    }

    /// Waits until each client knows what became of all that it asked for.
    pub(super) fn end(self) -> Vec<History> {
        self.door.close();
        let failed = "a client has failed";
        self.clients.into_iter().map(|client| client.join().expect(failed)).collect()
    }
}
