//! A long history from a seed: what users, loops and cells of a busy cluster would have written.
//!
//! For benches and for tests of size. Pure and the same on every machine: the n-th event of a
//! [`Shape`] never depends on how many are asked for. Every event is what `decide` would answer to
//! some command at that point, so a fold of it is a state that the product can be in. It reads no
//! clock and holds no secret: its sealed values are noise that no key opens.

mod cluster;
mod dice;
mod texts;

use std::collections::{BTreeMap, VecDeque};

pub use dice::Dice;

use crate::{
    event::Event,
    id::CommandId,
    log::{Actor, Position, Recorded, StreamId, StreamVersion},
    units::Timestamp,
};
use cluster::Cluster;

/// When every workload begins: 2023-11-14T22:13:20Z.
pub const WORKLOAD_START: Timestamp = Timestamp(1_700_000_000_000_000_000);

/// What a workload is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Another seed is another history.
    pub seed: u64,
    /// How many desired LRPs there are at a time, from 1; nearly all of one instance. The first
    /// five events of each come first, then they crash and restart, change routes and
    /// annotations, are scaled, and now and then removed and desired anew under another guid.
    pub lrps: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self { seed: 1, lrps: 1000 }
    }
}

/// An endless history of a [`Shape`]: an iterator of events with their places in the log, from
/// position 1 on. Payloads have about 320 bytes on average, once every LRP runs.
///
/// About 2,000 events fall into a second of its time. Events of one command share command id,
/// time and actor and follow each other; 24 bytes or so of memory are kept per event that is
/// asked for at a time, and about 200 per LRP.
#[derive(Debug)]
pub struct Workload {
    cluster: Cluster,
    position: Position,
    versions: BTreeMap<StreamId, StreamVersion>,
    ready: VecDeque<Recorded<Event>>,
}

/// What one command came to.
#[derive(Debug)]
struct Step {
    recorded_at: Timestamp,
    actor: Actor,
    command_id: CommandId,
    /// With the event's number in its stream, where the cluster counts it.
    events: Vec<(StreamId, Option<StreamVersion>, Event)>,
}

impl Workload {
    /// The history of a shape, from its start. A shape without LRPs is taken to have one.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        let shape = Shape { lrps: shape.lrps.max(1), ..shape };
        Self {
            cluster: Cluster::new(shape),
            position: Position(0),
            versions: BTreeMap::new(),
            ready: VecDeque::new(),
        }
    }

    fn record(&mut self, step: Step) {
        let Step { recorded_at, actor, command_id, events } = step;
        for (stream, version, event) in events {
            self.position = self.position.next();
            let version = version.unwrap_or_else(|| {
                let version = self.versions.entry(stream.clone()).or_default();
                version.0 += 1;
                *version
            });
            self.ready.push_back(Recorded {
                position: self.position,
                stream,
                version,
                recorded_at,
                actor: actor.clone(),
                command_id: command_id.clone(),
                causation: None,
                correlation: command_id.clone(),
                event,
            });
        }
    }
}

impl Iterator for Workload {
    type Item = Recorded<Event>;

    fn next(&mut self) -> Option<Recorded<Event>> {
        while self.ready.is_empty() {
            let step = self.cluster.step();
            self.record(step);
        }
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests;
