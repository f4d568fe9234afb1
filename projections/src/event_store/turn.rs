//! The turn of a store that only one process writes: nobody is kept out, because nobody else is
//! there. An append that meets another writer all the same is refused as any other.

use async_trait::async_trait;
use domain::{
    event::Event,
    log::{Position, Recorded},
};

use super::{AppendError, Batch, Error, EventStore, Head, Turn};

/// A turn that rests on the head it found.
pub(super) struct FreeTurn<S> {
    store: S,
    head: Head,
}

impl<S: EventStore + Clone + 'static> FreeTurn<S> {
    pub(super) async fn of(store: &S) -> Result<Box<dyn Turn>, AppendError> {
        let head = store.head().await.map_err(AppendError::Failed)?;
        Ok(Box::new(Self { store: store.clone(), head }))
    }
}

#[async_trait]
impl<S: EventStore> Turn for FreeTurn<S> {
    fn head(&self) -> Head {
        self.head
    }

    async fn read_all(
        &mut self,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, Error> {
        self.store.read_all(after, limit).await
    }

    async fn append(self: Box<Self>, batch: Batch) -> Result<Vec<Recorded<Event>>, AppendError> {
        self.store.append(batch).await
    }
}
