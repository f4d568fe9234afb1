//! Playing the past: a world that goes on event by event, as fast as it is asked to.

use std::{collections::VecDeque, sync::Arc};

use domain::{
    event::Event,
    log::{Position, Recorded},
};

use super::{Error, READ_PAGE};
use crate::{
    event_store::{EventStore, ReadAhead},
    world::World,
};

/// A world on its way through the log.
#[derive(Debug)]
pub struct Playback {
    log: ReadAhead<'static>,
    world: World,
    read: VecDeque<Recorded<Event>>,
}

impl Playback {
    pub(super) fn new(store: Arc<dyn EventStore>, world: World) -> Self {
        let log = ReadAhead::new(store, world.position(), Position(u64::MAX), READ_PAGE);
        Self { log, world, read: VecDeque::new() }
    }

    /// The world after the events that were played.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Folds the next event and says which; `None` at the end of the log, where a later call may
    /// find more.
    ///
    /// # Errors
    /// [`Error::Log`] when the log cannot be read.
    pub async fn step(&mut self) -> Result<Option<Recorded<Event>>, Error> {
        if self.read.is_empty() {
            let position = self.world.position();
            let page = self.log.page().await;
            self.read = page.map_err(|source| Error::Log { position, source })?.into();
        }
        let Some(recorded) = self.read.pop_front() else { return Ok(None) };
        self.world.apply(&recorded);
        Ok(Some(recorded))
    }
}
