//! The changes of the log as Diego's streams tell them: one fold for all who follow.
//!
//! Each reader has its place in a bounded ring; one that falls behind by more than the ring holds is
//! cut off, and reads on from the log by the position it has. The hub holds nothing that the log does
//! not: it may end and begin anew at any position.

use std::sync::{Arc, Mutex, PoisonError};

use domain::{
    aggregates::Aggregates,
    event::Event,
    log::{Position, Recorded},
};
use projections::{
    event_store::{self, Subscription},
    worker,
};
use tokio::sync::broadcast;
use tracing::error;

use super::events::change::{self, Change, Sight};
use crate::control_plane::ControlPlane;

/// How many changes may wait for one reader, as in Diego.
pub(super) const PENDING_MAX: usize = 1024;
/// How many events are folded before others may go on.
const FOLD_MAX: usize = 500;

/// What one event of the log is to those who follow.
pub(super) type Told = Arc<Change>;

/// The hub.
#[derive(Debug)]
pub(super) struct Hub {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    /// The last event that was told.
    position: Position,
    /// None once the log is followed no longer.
    sender: Option<broadcast::Sender<Told>>,
}

/// A place in the ring, behind a position.
#[derive(Debug)]
pub(super) struct Place {
    /// All up to this one was told before.
    pub(super) position: Position,
    /// What comes.
    pub(super) live: broadcast::Receiver<Told>,
}

impl Place {
    /// The same, behind what its reader knows by now.
    pub(super) fn behind(self, position: Position) -> Self {
        Self { position: self.position.max(position), ..self }
    }
}

impl Hub {
    /// Starts to follow the log behind what is known now.
    pub(super) fn start(control_plane: &ControlPlane) -> Self {
        let (aggregates, position) =
            control_plane.now.read(|world| (world.aggregates().clone(), world.position()));
        let shared = Shared { position, sender: Some(broadcast::Sender::new(PENDING_MAX)) };
        let shared = Arc::new(Mutex::new(shared));
        let follow = follow(control_plane.clone(), aggregates, position, Arc::clone(&shared));
        drop(worker::spawn("BBS event hub", follow));
        Self { shared }
    }

    /// The last event that was told.
    pub(super) fn position(&self) -> Position {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).position
    }

    /// A place behind all that was told; none once the hub has ended.
    pub(super) fn join(&self) -> Option<Place> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let live = shared.sender.as_ref()?.subscribe();
        Some(Place { position: shared.position, live })
    }
}

/// Folds events and says what each changed.
#[derive(Debug)]
pub(super) struct Folder {
    control_plane: ControlPlane,
    aggregates: Aggregates,
}

impl Folder {
    pub(super) fn new(control_plane: ControlPlane, aggregates: Aggregates) -> Self {
        Self { control_plane, aggregates }
    }

    /// What an event changes of what Diego shows; none when it is nothing.
    pub(super) async fn fold(&mut self, recorded: &Recorded<Event>) -> Option<Change> {
        let incarnation = self.control_plane.incarnation;
        let before = Sight::of(&self.aggregates, incarnation, &recorded.stream);
        self.aggregates.apply(recorded);
        let after = Sight::of(&self.aggregates, incarnation, &recorded.stream);
        change::tell(&self.control_plane, recorded, before, after).await
    }
}

async fn follow(
    control_plane: ControlPlane,
    aggregates: Aggregates,
    position: Position,
    shared: Arc<Mutex<Shared>>,
) {
    let mut subscription = control_plane.store.subscribe(position);
    let mut folder = Folder::new(control_plane, aggregates);
    let failure = loop {
        if let Err(failure) = fold_batch(&mut subscription, &mut folder, &shared).await {
            break failure;
        }
    };
    if !matches!(failure, event_store::Error::Closed) {
        let error: &dyn std::error::Error = &failure;
        error!(error, "The BBS tells no more events: the log cannot be followed.");
    }
    // Whoever follows is cut off, and reads on from the log by its position when it can.
    shared.lock().unwrap_or_else(PoisonError::into_inner).sender = None;
}

async fn fold_batch(
    subscription: &mut Subscription,
    folder: &mut Folder,
    shared: &Mutex<Shared>,
) -> Result<(), event_store::Error> {
    for recorded in subscription.next_batch(FOLD_MAX).await? {
        let change = folder.fold(&recorded).await;
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.position = recorded.position;
        if let (Some(change), Some(sender)) = (change, &shared.sender) {
            // Without a reader nobody need be told.
            drop(sender.send(Arc::new(change)));
        }
    }
    Ok(())
}
