//! What the parts of one store tell each other: the newest head they know, versions of streams,
//! and the feed. All of it is a shortcut; the database decides.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

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
    is_appending: AtomicBool,
}

/// While it is there, this store's own append is under way.
pub(super) struct Appending<'a>(&'a Shared);

impl Drop for Appending<'_> {
    fn drop(&mut self) {
        let Self(shared) = self;
        shared.is_appending.store(false, Ordering::SeqCst);
        if shared.feed.published() < shared.lineage.known().position {
            shared.wake.notify_one();
        }
    }
}

impl Shared {
    pub(super) fn new(lineage: Arc<Lineage>) -> Self {
        let feed = Feed::new();
        feed.begin_behind(lineage.known().position);
        Self {
            feed,
            wake: Notify::new(),
            lineage,
            versions: Mutex::default(),
            is_appending: AtomicBool::new(false),
        }
    }

    /// Marks an append until what comes back is dropped, after its events were published. The
    /// server tells of it before it answers: the tailer is not to read what is known already.
    pub(super) fn appending(&self) -> Appending<'_> {
        self.is_appending.store(true, Ordering::SeqCst);
        Appending(self)
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

    /// Notes a head that a node told with its append, and wakes the tailer, now or when an append
    /// of ours has ended.
    pub(super) fn heard(&self, notification: &str) {
        if let Some(head) = told_head(notification) {
            self.lineage.saw(head);
            if self.is_appending.load(Ordering::SeqCst) {
                return;
            }
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::event_store::conformance::samples::INCARNATION;

    fn head(position: u64) -> Head {
        let recorded_at = Timestamp(1);
        Head { position: Position(position), recorded_at, incarnation: INCARNATION, link: [7; 32] }
    }

    fn is_woken(shared: &Shared) -> bool {
        shared.wake.notified().now_or_never().is_some()
    }

    #[test]
    fn what_is_told_during_an_append_wakes_the_tailer_afterwards_unless_it_was_published() {
        let shared = Shared::new(Arc::new(Lineage::new("test".to_owned(), head(0))));
        let told = |position: u64| {
            format!("{} {position} 1 {}", INCARNATION.0.simple(), hex::encode([7; 32]))
        };
        let appending = shared.appending();
        shared.heard(&told(1));
        assert!(!is_woken(&shared), "it is an append of ours, perhaps");
        shared.feed.begin_behind(Position(1));
        drop(appending);
        assert!(!is_woken(&shared), "it was ours, and is published");

        let appending = shared.appending();
        shared.heard(&told(2));
        drop(appending);
        assert!(is_woken(&shared), "it was another node's");

        shared.heard(&told(3));
        assert!(is_woken(&shared), "nothing is under way");
    }
}
