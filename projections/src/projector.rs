//! Follows the log and keeps the present world: the only loop of this crate.
//!
//! Readers look at it under a short lock and are woken when it has moved. It is behind the log by
//! what is being folded, never ahead of it: only committed events get here.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use domain::{
    id::CellId,
    log::{Owner, Position},
};
use tokio::sync::watch;
use tracing::error;

use crate::{
    event_store::{self, EventStore, Subscription},
    failpoint::{self, Step},
    history::note_owner,
    worker,
    world::World,
};

/// How many events are folded under one lock.
const FOLD_MAX: usize = 500;
/// The pause before the log is followed anew after a failure.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The present world, kept up with the log.
#[derive(Debug, Clone)]
pub struct Now {
    shared: Arc<Shared>,
    position: watch::Receiver<Position>,
    filled: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Shared {
    world: RwLock<World>,
    cells: Mutex<HashMap<CellId, watch::Sender<Position>>>,
    // Changed only under the world's write lock.
    dirty: Mutex<HashSet<Owner>>,
    // Why the log is followed no longer.
    failure: OnceLock<event_store::Error>,
}

impl Now {
    /// Starts to follow the log behind a world that was folded so far. Its aggregates can be read
    /// at once; its views are filled first of all, and whoever asks for one waits for it.
    #[must_use]
    pub fn follow(store: Arc<dyn EventStore>, world: World) -> Self {
        let (moved, position) = watch::channel(world.position());
        let shared = Arc::new(Shared {
            world: RwLock::new(world),
            cells: Mutex::new(HashMap::new()),
            dirty: Mutex::new(HashSet::new()),
            failure: OnceLock::new(),
        });
        let (fill, filled) = watch::channel(false);
        drop(worker::spawn("projector", follow(store, Arc::clone(&shared), moved, fill)));
        Self { shared, position, filled }
    }

    /// Waits until the views of the world that was given are filled: whoever looks at one before
    /// fills it, or waits for that, on a thread that others need.
    pub async fn filled(&self) {
        // An error says that following has ended: nothing more will be filled.
        self.filled.clone().wait_for(|is_filled| *is_filled).await.ok();
    }

    /// Looks at the world. The lock is held meanwhile: copy out what is needed, and be quick.
    pub fn read<R>(&self, look: impl FnOnce(&World) -> R) -> R {
        look(&self.shared.world.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The owners of whom events were folded since this was asked last, but for cells and
    /// freshness domains.
    pub(crate) fn take_dirty_owners(&self) -> HashSet<Owner> {
        std::mem::take(&mut self.shared.dirty.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes whenever the world has moved.
    #[must_use]
    pub fn moved(&self) -> watch::Receiver<Position> {
        self.position.clone()
    }

    /// Waits until the world is at a position at least; `false` when following has ended.
    pub async fn reach(&self, position: Position) -> bool {
        self.moved().wait_for(|reached| *reached >= position).await.is_ok()
    }

    /// Why following has ended, when it was for what the log holds: an event of a newer version,
    /// past which this program must not go, or another log than before.
    #[must_use]
    pub fn failure(&self) -> Option<&event_store::Error> {
        self.shared.failure.get()
    }

    /// Wakes whenever the assignment of a cell has changed.
    #[must_use]
    pub fn assignment_moved(&self, cell_id: &CellId) -> watch::Receiver<Position> {
        let mut cells = self.shared.cells.lock().unwrap_or_else(PoisonError::into_inner);
        cells
            .entry(cell_id.clone())
            .or_insert_with(|| {
                let changed_at = self.read(|world| world.cell_assignments().changed_at(cell_id));
                watch::Sender::new(changed_at)
            })
            .subscribe()
    }
}

async fn follow(
    store: Arc<dyn EventStore>,
    shared: Arc<Shared>,
    moved: watch::Sender<Position>,
    fill: watch::Sender<bool>,
) {
    // Before anything is folded: whoever would write waits for those who fill, and who would read
    // for whoever would write.
    let filling = Arc::clone(&shared);
    let filled = tokio::task::spawn_blocking(move || {
        filling.world.read().unwrap_or_else(PoisonError::into_inner).fill_views();
    });
    if let Err(failure) = filled.await {
        error!(%failure, "The views could not be filled ahead; each is when it is asked for.");
    }
    fill.send_replace(true);
    let mut subscription = store.subscribe(*moved.borrow());
    loop {
        if let Err(failure) = follow_until_failure(&mut subscription, &shared, &moved).await {
            if failure.is_final() {
                error!(
                    error = &failure as &dyn std::error::Error,
                    "The log is followed no longer."
                );
                drop(shared.failure.set(failure));
                return;
            }
            error!(error = %failure, "The log could not be followed; trying again.");
            tokio::time::sleep(RETRY_PAUSE).await;
            subscription = store.subscribe(*moved.borrow());
        }
    }
}

async fn follow_until_failure(
    subscription: &mut Subscription,
    shared: &Shared,
    moved: &watch::Sender<Position>,
) -> Result<(), event_store::Error> {
    loop {
        let events = subscription.next_batch(FOLD_MAX).await?;
        let (changed, position) = {
            let mut world = shared.world.write().unwrap_or_else(PoisonError::into_inner);
            let mut dirty = shared.dirty.lock().unwrap_or_else(PoisonError::into_inner);
            for recorded in &events {
                note_owner(&mut dirty, recorded);
            }
            (world.apply_all(events.iter().map(Arc::as_ref)), world.position())
        };
        failpoint::reached(Step::ViewsPublishing);
        moved.send_replace(position);
        let cells = shared.cells.lock().unwrap_or_else(PoisonError::into_inner);
        for sender in changed.iter().filter_map(|cell_id| cells.get(cell_id)) {
            sender.send_replace(position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_store::{
        conformance::samples::{INCARNATION, fill},
        sqlite::{Database, SqliteStore, change_event_by_hand},
    };

    #[tokio::test]
    async fn an_event_of_a_newer_version_ends_following_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("diario.db");
        let database = Database::open(&path, INCARNATION).await.unwrap();
        let store = Arc::new(SqliteStore::new(database.clone()));
        fill(&*store, &[1, 1, 1]).await;
        change_event_by_hand(&path, 2, |row| row.schema_version = 9);

        let now = Now::follow(store, World::empty());

        assert!(!now.reach(Position(2)).await, "it does not get there");
        let failure = now.failure().unwrap();
        assert_eq!(failure.to_string(), "cannot read the event at position 2");
        let reason = std::error::Error::source(failure).unwrap().to_string();
        assert!(reason.contains("schema version 9") && reason.ends_with("upgrade"), "{reason}");
        database.close().await;
    }
}
