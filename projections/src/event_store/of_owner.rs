//! Following one owner's events: a ring for each owner that somebody follows, so that an event
//! wakes only those who wait for it, however many others there are.
//!
//! The rings are only a shortcut, as the log's own ring is. Positions of one owner are not dense,
//! so a reader cannot see by itself that something was passed over: whoever publishes sees it, and
//! ends the rings; their readers go back to the store.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use domain::{
    event::Event,
    log::{Owner, Position, Recorded},
};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Error, SubscriptionSource};

/// How many events an owner's ring holds; a reader further behind goes back to the store.
const RING_EVENTS: usize = 32;
/// How many events one catch-up read asks for.
const PAGE_EVENTS: usize = 500;
/// From how many rings on those without readers are looked for.
const SWEPT_FROM: usize = 64;

type Ring = broadcast::Sender<Arc<Recorded<Event>>>;

/// The rings of all owners that are followed: a handle.
#[derive(Debug, Clone, Default)]
pub(super) struct Rings(Arc<Mutex<ByOwner>>);

#[derive(Debug)]
struct ByOwner {
    rings: HashMap<Owner, Ring>,
    /// At how many rings those without readers are taken out next.
    sweep_at: usize,
}

impl Default for ByOwner {
    fn default() -> Self {
        Self { rings: HashMap::new(), sweep_at: SWEPT_FROM }
    }
}

fn locked(rings: &Mutex<ByOwner>) -> MutexGuard<'_, ByOwner> {
    // Every ring stands by itself, also after a holder panicked.
    rings.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rings {
    /// Whether nobody follows an owner.
    pub(super) fn are_none(&self) -> bool {
        locked(&self.0).rings.is_empty()
    }

    /// Gives an event to those who follow its owner.
    pub(super) fn send(&self, event: &Arc<Recorded<Event>>) {
        let mut all = locked(&self.0);
        if all.rings.is_empty() {
            return;
        }
        let owner = event.stream.owner();
        if let Some(ring) = all.rings.get(&owner)
            && ring.send(Arc::clone(event)).is_err()
        {
            // Its last reader has gone.
            all.rings.remove(&owner);
        }
    }

    /// Something was passed over: all readers go back to the store.
    pub(super) fn end(&self) {
        locked(&self.0).rings.clear();
    }

    /// Follows an owner from behind a position.
    pub(super) fn follow(
        &self,
        source: Arc<dyn SubscriptionSource>,
        owner: Owner,
        after: Position,
    ) -> OwnerSubscription {
        let live = locked(&self.0).attach(&owner);
        OwnerSubscription {
            source,
            rings: Arc::downgrade(&self.0),
            owner,
            live,
            last: after,
            read: VecDeque::new(),
            is_live: false,
        }
    }
}

impl ByOwner {
    fn attach(&mut self, owner: &Owner) -> broadcast::Receiver<Arc<Recorded<Event>>> {
        if self.rings.len() >= self.sweep_at {
            self.rings.retain(|_, ring| ring.receiver_count() > 0);
            self.sweep_at = self.rings.len().saturating_mul(2).max(SWEPT_FROM);
        }
        let ring = self.rings.entry(owner.clone());
        ring.or_insert_with(|| broadcast::Sender::new(RING_EVENTS)).subscribe()
    }
}

/// A reader of one owner's events that sees each once, in order.
#[derive(Debug)]
pub struct OwnerSubscription {
    source: Arc<dyn SubscriptionSource>,
    rings: Weak<Mutex<ByOwner>>,
    owner: Owner,
    // Attached before the first read, so that nothing falls between reading and listening.
    live: broadcast::Receiver<Arc<Recorded<Event>>>,
    last: Position,
    read: VecDeque<Arc<Recorded<Event>>>,
    is_live: bool,
}

impl OwnerSubscription {
    /// The same, but catching up from another source of the same log.
    pub(crate) fn reading_from(mut self, source: Arc<dyn SubscriptionSource>) -> Self {
        self.source = source;
        self
    }

    /// Waits for the owner's next event. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::Closed`] when the store is gone, [`Error::AheadOfHead`] when the reader started
    /// behind the log's end, or the read's error.
    pub async fn next(&mut self) -> Result<Arc<Recorded<Event>>, Error> {
        loop {
            if let Some(event) = self.read.pop_front() {
                self.last = event.position;
                return Ok(event);
            }
            if !self.is_live {
                self.catch_up().await?;
                continue;
            }
            match self.live.recv().await {
                Ok(event) if event.position <= self.last => {}
                Ok(event) => {
                    self.last = event.position;
                    return Ok(event);
                }
                Err(RecvError::Lagged(_)) => self.is_live = false,
                Err(RecvError::Closed) => self.attach_anew()?,
            }
        }
    }

    fn attach_anew(&mut self) -> Result<(), Error> {
        let rings = self.rings.upgrade().ok_or(Error::Closed)?;
        self.live = locked(&rings).attach(&self.owner);
        self.is_live = false;
        Ok(())
    }

    async fn catch_up(&mut self) -> Result<(), Error> {
        let head = self.source.end().await?;
        if head < self.last {
            return Err(Error::AheadOfHead { after: self.last, head });
        }
        let page = self.source.page_of(&self.owner, self.last, PAGE_EVENTS).await?;
        // What is committed from here on is in the ring: it was attached before the read.
        self.is_live = page.len() < PAGE_EVENTS;
        self.read = page.into_iter().map(Arc::new).collect();
        Ok(())
    }
}
