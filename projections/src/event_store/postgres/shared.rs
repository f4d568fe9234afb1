//! What the parts of one store tell each other: the newest head they know, versions of streams,
//! and the feed. All of it is a shortcut; the database decides.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::{
    event::Event,
    log::{Incarnation, Position, Recorded},
    units::Timestamp,
};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    super::{AppendError, Head, subscription::Feed},
    lineage::Lineage,
    versions::Versions,
};

/// Known to every part of a store.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) feed: Feed,
    /// Wakes the tailer.
    pub(super) wake: Notify,
    pub(super) lineage: Arc<Lineage>,
    versions: Mutex<Versions>,
}

impl Shared {
    pub(super) fn new(lineage: Arc<Lineage>) -> Self {
        let feed = Feed::new();
        feed.begin_behind(lineage.known().position);
        Self { feed, wake: Notify::new(), lineage, versions: Mutex::default() }
    }

    pub(super) fn versions(&self) -> MutexGuard<'_, Versions> {
        // Every entry stands by itself, also after a holder panicked.
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses to append once the log was lost.
    pub(super) fn intact(&self) -> Result<(), AppendError> {
        self.lineage.intact().map_err(AppendError::Failed)
    }

    /// Notes events that are committed and follow each other.
    pub(super) fn saw_events(&self, events: &[Recorded<Event>]) {
        let mut versions = self.versions();
        for event in events {
            versions.seen(&event.stream, event.version);
        }
    }

    /// Notes a head that a node told with its append, and wakes the tailer.
    pub(super) fn heard(&self, notification: &str) {
        if let Some(head) = told_head(notification) {
            self.lineage.saw(head);
        }
        self.wake.notify_one();
    }
}

/// `<incarnation> <position> <recorded_at> <link>`; anything else only wakes.
fn told_head(notification: &str) -> Option<Head> {
    let mut parts = notification.split(' ');
    let mut next = || parts.next();
    let incarnation = Incarnation(Uuid::try_parse(next()?).ok()?);
    let position = Position(next()?.parse().ok()?);
    let recorded_at = Timestamp(next()?.parse().ok()?);
    let mut link = [0; 32];
    hex::decode_to_slice(next()?, &mut link).ok()?;
    Some(Head { position, recorded_at, incarnation, link })
}
