//! Walks through the log event by event, both ways.
//!
//! Forwards it folds. Backwards it folds again from a world that it kept nearby, so that a step
//! back is as quick as one forth; where none is near it loads one. Only reads.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use domain::{
    event::Event,
    log::{Position, Recorded},
};

use super::{
    Error,
    changes::{Change, Look},
    load,
};
use crate::{event_store::EventStore, snapshot::SnapshotStore, world::World};

/// How far apart worlds are kept: a step back folds no more events than this.
const KEPT_EVERY_EVENTS: u64 = 64;
/// How many worlds are kept: those nearest to where it is.
const KEPT_MAX: usize = 8;
const READ_PAGE: usize = 1_000;

/// One step: an event, and what it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The event.
    pub recorded: Recorded<Event>,
    /// What it changed.
    pub changes: Vec<Change>,
}

/// A place in the log from which one may go both ways.
#[derive(Debug)]
pub struct Stepper {
    store: Arc<dyn EventStore>,
    snapshots: Arc<dyn SnapshotStore>,
    world: World,
    keeps: bool,
    kept: BTreeMap<Position, World>,
    // Read ahead: the events behind the world's position.
    ahead: VecDeque<Recorded<Event>>,
}

impl Stepper {
    /// Begins at a position that the log has reached. One that `keeps` worlds may step back
    /// quickly; without, it only walks on, as fast as it can.
    ///
    /// # Errors
    /// As [`load`].
    pub async fn open(
        store: Arc<dyn EventStore>,
        snapshots: Arc<dyn SnapshotStore>,
        position: Position,
        keeps: bool,
    ) -> Result<Self, Error> {
        let world = load(store.as_ref(), snapshots.as_ref(), position).await?.world;
        let (kept, ahead) = (BTreeMap::new(), VecDeque::new());
        Ok(Self { store, snapshots, world, keeps, kept, ahead })
    }

    /// The world where it is.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The world where it is, to keep.
    #[must_use]
    pub fn into_world(self) -> World {
        self.world
    }

    /// Folds the next event; `None` at the log's end.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn fold(&mut self) -> Result<Option<Recorded<Event>>, Error> {
        let Some(recorded) = self.read_next().await? else { return Ok(None) };
        self.world.apply(&recorded);
        self.keep();
        Ok(Some(recorded))
    }

    /// Goes one event on, and says what it changed; `None` at the log's end.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn next(&mut self) -> Result<Option<Step>, Error> {
        let Some(recorded) = self.read_next().await? else { return Ok(None) };
        let before = Look::at(&self.world, &recorded.stream);
        self.world.apply(&recorded);
        self.keep();
        let changes = before.changes_to(Look::at(&self.world, &recorded.stream));
        Ok(Some(Step { recorded, changes }))
    }

    /// Goes one event back, and says what was undone: the step that led to where it was. `None` at
    /// the log's start.
    ///
    /// # Errors
    /// When the log or its snapshots cannot be read.
    pub async fn back(&mut self) -> Result<Option<Step>, Error> {
        let Some(before) = self.world.position().0.checked_sub(1).map(Position) else {
            return Ok(None);
        };
        self.go(before).await?;
        let step = self.next().await?;
        self.go(before).await?;
        Ok(step)
    }

    /// Goes to a position that the log has reached.
    ///
    /// # Errors
    /// As [`load`].
    pub async fn go(&mut self, position: Position) -> Result<(), Error> {
        let here = self.world.position();
        let is_just_ahead = position >= here && position.0 - here.0 <= KEPT_EVERY_EVENTS;
        if !is_just_ahead {
            self.jump_before(position).await?;
        }
        while self.world.position() < position {
            if self.fold().await?.is_none() {
                return Err(Error::AheadOfHead { position, head: self.world.position() });
            }
        }
        Ok(())
    }

    /// Takes a world at a position or not far before it.
    async fn jump_before(&mut self, position: Position) -> Result<(), Error> {
        let nearest = self.kept.range(..=position).next_back();
        self.world = match nearest {
            Some((at, world)) if position.0 - at.0 <= KEPT_EVERY_EVENTS => world.clone(),
            // Some way before, so that the steps back that follow need not load again.
            Some(_) | None => {
                let before = Position(position.0.saturating_sub(KEPT_EVERY_EVENTS / 2));
                load(self.store.as_ref(), self.snapshots.as_ref(), before).await?.world
            }
        };
        self.ahead.clear();
        self.keep();
        Ok(())
    }

    /// Keeps the world where it is, when none is kept near before it.
    fn keep(&mut self) {
        if !self.keeps {
            return;
        }
        let here = self.world.position();
        let nearest = self.kept.range(..=here).next_back();
        if nearest.is_some_and(|(at, _)| here.0 - at.0 < KEPT_EVERY_EVENTS) {
            return;
        }
        self.kept.insert(here, self.world.clone());
        if self.kept.len() > KEPT_MAX {
            let farthest = self.kept.keys().max_by_key(|at| at.0.abs_diff(here.0)).copied();
            farthest.and_then(|farthest| self.kept.remove(&farthest));
        }
    }

    async fn read_next(&mut self) -> Result<Option<Recorded<Event>>, Error> {
        if self.ahead.is_empty() {
            let after = self.world.position();
            let failed = |source| Error::Log { position: after.next(), source };
            self.ahead = self.store.read_all(after, READ_PAGE).await.map_err(failed)?.into();
        }
        Ok(self.ahead.pop_front())
    }
}
