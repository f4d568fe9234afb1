//! Following the log: catch up from the store, then live from a bounded ring, with no gap and no
//! double at the seam.
//!
//! The ring is only a shortcut. Whatever it loses (a slow reader, another process's write) is
//! read from the store, and a position that is not the last one plus one is never handed out.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use domain::{
    event::Event,
    log::{Owner, Position, Recorded},
};
use futures_util::future::BoxFuture;
use tokio::sync::broadcast::{self, error::RecvError};

use super::{
    Error, Filter, Order,
    of_owner::{OwnerSubscription, Rings},
};

/// How many events the ring holds; a reader further behind goes back to the store.
pub const RING_EVENTS: usize = 4096;

/// How many events one catch-up read asks for.
const PAGE_EVENTS: usize = 500;

/// Where a subscription catches up from.
#[async_trait]
pub(crate) trait Source: Send + Sync + fmt::Debug {
    async fn page(&self, after: Position, limit: usize) -> Result<Vec<Recorded<Event>>, Error>;

    /// As [`Source::page`], of one owner's events alone.
    async fn page_of(
        &self,
        owner: &Owner,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, Error>;

    async fn end(&self) -> Result<Position, Error>;
}

/// What the ring tells its readers.
#[derive(Debug, Clone)]
enum Told {
    /// A committed event.
    Event(Arc<Recorded<Event>>),
    /// That the store knows why there will be no more.
    LookAgain,
}

/// How the events of an owner are asked for.
pub(crate) fn filter_of(owner: &Owner) -> (Filter, Order) {
    (Filter { owner: Some(owner.clone()), ..Filter::default() }, Order::OldestFirst)
}

/// The ring that a store publishes its committed events to, in order, and those of single owners.
#[derive(Debug)]
pub(super) struct Feed {
    sender: broadcast::Sender<Told>,
    of_owners: Rings,
    /// The last position that was published.
    published: Mutex<Position>,
}

impl Feed {
    pub(super) fn new() -> Self {
        let sender = broadcast::Sender::new(RING_EVENTS);
        Self { sender, of_owners: Rings::default(), published: Mutex::new(Position(0)) }
    }

    /// Publishes committed events, except those at or before what was published already: a batch
    /// whose answer was lost is published by whoever finds it, maybe behind a later one.
    pub(super) fn publish(&self, events: &[Recorded<Event>]) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        self.send(&mut published, events);
    }

    /// Publishes committed events unless there are others before them that were not; then it
    /// answers `false`, and what is between must be read and published first.
    pub(super) fn publish_next(&self, events: &[Recorded<Event>]) -> bool {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let is_next = events.first().is_some_and(|first| first.position <= published.next());
        if is_next {
            self.send(&mut published, events);
        }
        is_next
    }

    fn send(&self, published: &mut Position, events: &[Recorded<Event>]) {
        let Some(last) = events.last().filter(|last| last.position > *published) else { return };
        let before = std::mem::replace(published, last.position);
        if events.first().is_some_and(|first| first.position > before.next()) {
            self.of_owners.end();
        }
        if self.sender.receiver_count() == 0 && self.of_owners.are_none() {
            return;
        }
        for event in events.iter().filter(|event| event.position > before) {
            let event = Arc::new(event.clone());
            self.of_owners.send(&event);
            // Fails only when nobody reads the whole log, or left meanwhile: nobody misses it.
            drop(self.sender.send(Told::Event(event)));
        }
    }

    /// Sends every reader to the store, which tells it why there will be no more events.
    pub(super) fn look_again(&self) {
        self.of_owners.end();
        // Without a reader nobody need be told.
        drop(self.sender.send(Told::LookAgain));
    }

    /// The last position that was published.
    pub(super) fn published(&self) -> Position {
        *self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins behind a position: what is before it was there when the store was opened.
    pub(super) fn begin_behind(&self, position: Position) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        if position > *published {
            *published = position;
            self.of_owners.end();
        }
    }

    /// Follows one owner's events.
    pub(super) fn subscribe_to(
        &self,
        source: Arc<dyn Source>,
        owner: &Owner,
        after: Position,
    ) -> OwnerSubscription {
        self.of_owners.follow(source, owner.clone(), after)
    }

    pub(super) fn subscribe(&self, source: Arc<dyn Source>, after: Position) -> Subscription {
        Subscription {
            source,
            live: self.sender.subscribe(),
            last: after,
            read: VecDeque::new(),
            reading: None,
            is_live: false,
        }
    }
}

/// A reader of the log that sees every event once, in order.
#[derive(Debug)]
pub struct Subscription {
    source: Arc<dyn Source>,
    // Attached before the first read, so that nothing falls between reading and listening.
    live: broadcast::Receiver<Told>,
    last: Position,
    read: VecDeque<Arc<Recorded<Event>>>,
    reading: Option<Reading>,
    is_live: bool,
}

/// A look at the store that is under way. It outlives the call that began it, so that a caller who
/// is called away again and again gets forward, and no connection is left in the middle of it.
struct Reading {
    after: Position,
    found: BoxFuture<'static, Result<Found, Error>>,
}

impl fmt::Debug for Reading {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reading").field("after", &self.after).finish_non_exhaustive()
    }
}

/// What stands behind a position.
enum Found {
    Page(Vec<Recorded<Event>>),
    /// Nothing, and where the log ended just afterwards.
    End(Position),
}

impl Reading {
    fn begin(source: Arc<dyn Source>, after: Position) -> Self {
        let found = async move {
            let page = source.page(after, PAGE_EVENTS).await?;
            if page.is_empty() {
                return source.end().await.map(Found::End);
            }
            Ok(Found::Page(page))
        };
        Self { after, found: Box::pin(found) }
    }
}

impl Subscription {
    /// The same, but catching up from another source of the same log.
    pub(crate) fn reading_from(mut self, source: Arc<dyn Source>) -> Self {
        self.source = source;
        self
    }

    /// The position of the last event that was handed out.
    #[must_use]
    pub fn position(&self) -> Position {
        self.last
    }

    /// Waits for the next event. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::Closed`] when the store is gone, [`Error::AheadOfHead`] when the reader started
    /// behind the log's end, [`Error::Gap`] when the log lacks a position, or the read's error.
    pub async fn next(&mut self) -> Result<Arc<Recorded<Event>>, Error> {
        loop {
            if let Some(event) = self.read.pop_front() {
                return self.hand_out(event);
            }
            if !self.is_live {
                self.catch_up().await?;
                continue;
            }
            match self.live.recv().await {
                Ok(Told::Event(event)) if event.position <= self.last => {}
                Ok(Told::Event(event)) if event.position == self.last.next() => {
                    return self.hand_out(event);
                }
                Ok(_) | Err(RecvError::Lagged(_)) => self.is_live = false,
                Err(RecvError::Closed) => return Err(Error::Closed),
            }
        }
    }

    /// Waits for the next event and takes what is ready behind it, at most `limit` in all.
    ///
    /// # Errors
    /// As [`Subscription::next`]; events taken before an error are handed out first.
    pub async fn next_batch(&mut self, limit: usize) -> Result<Vec<Arc<Recorded<Event>>>, Error> {
        let mut events = vec![self.next().await?];
        while events.len() < limit {
            let event = match self.read.pop_front() {
                Some(event) => event,
                None if !self.is_live => break,
                None => match self.live.try_recv() {
                    Ok(Told::Event(event)) if event.position <= self.last => continue,
                    Ok(Told::Event(event)) if event.position == self.last.next() => event,
                    Ok(_) | Err(broadcast::error::TryRecvError::Lagged(_)) => {
                        self.is_live = false;
                        break;
                    }
                    // A closed store is told by the next call.
                    Err(_) => break,
                },
            };
            self.last = event.position;
            events.push(event);
        }
        Ok(events)
    }

    fn hand_out(&mut self, event: Arc<Recorded<Event>>) -> Result<Arc<Recorded<Event>>, Error> {
        if event.position != self.last.next() {
            return Err(Error::Gap(self.last.next()));
        }
        self.last = event.position;
        Ok(event)
    }

    /// Passes over what the reader knows from elsewhere, up to a committed position.
    pub fn skip_to(&mut self, position: Position) {
        self.last = self.last.max(position);
        while self.read.front().is_some_and(|event| event.position <= self.last) {
            self.read.pop_front();
        }
    }

    async fn catch_up(&mut self) -> Result<(), Error> {
        let (source, last) = (&self.source, self.last);
        let reading = self.reading.get_or_insert_with(|| Reading::begin(Arc::clone(source), last));
        let found = reading.found.as_mut().await;
        let after = reading.after;
        self.reading = None;
        match found? {
            Found::End(head) if head < after => Err(Error::AheadOfHead { after, head }),
            // An event committed between the two reads is in the ring, or is found missing there.
            Found::End(head) => {
                self.is_live = head <= self.last;
                Ok(())
            }
            Found::Page(page) => {
                let mut expected = after.next();
                for event in &page {
                    if event.position != expected {
                        return Err(Error::Gap(expected));
                    }
                    expected = expected.next();
                }
                let is_new = |event: &Recorded<Event>| event.position > self.last;
                self.read = page.into_iter().filter(is_new).map(Arc::new).collect();
                Ok(())
            }
        }
    }
}
