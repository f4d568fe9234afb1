//! Reading the log page by page, the next page on its way while the last one is used.

use std::{fmt, future::Future, ops::Deref, pin::Pin};

use domain::{
    event::Event,
    log::{Position, Recorded},
};
use futures_util::FutureExt as _;

use super::{Error, EventStore};

type Page = Result<Vec<Recorded<Event>>, Error>;
type Reading<'s> = Pin<Box<dyn Future<Output = Page> + Send + 's>>;

/// A reader of the log from a position on.
pub struct ReadAhead<'s> {
    read: Box<dyn Fn(Position, usize) -> Reading<'s> + Send + Sync + 's>,
    page_events: usize,
    after: Position,
    until: Position,
    next: Option<Reading<'s>>,
}

impl fmt::Debug for ReadAhead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadAhead").field("after", &self.after).finish_non_exhaustive()
    }
}

impl<'s> ReadAhead<'s> {
    /// Reads behind one position up to another, so many events at a time.
    pub fn new<S>(store: S, after: Position, until: Position, page_events: usize) -> Self
    where
        S: Deref<Target = dyn EventStore + 's> + Clone + Send + Sync + 's,
    {
        let read = move |after, limit| -> Reading<'s> {
            let store = store.clone();
            Box::pin(async move { store.read_all(after, limit).await })
        };
        Self { read: Box::new(read), page_events, after, until, next: None }
    }

    /// The next events; none at the end, where a later call may find more. Dropping the future
    /// loses nothing.
    ///
    /// # Errors
    /// As [`EventStore::read_all`].
    pub async fn page(&mut self) -> Page {
        let page = match self.next.take() {
            Some(reading) => reading.await?,
            None => Vec::new(),
        };
        // What was read ahead at the end may be there by now.
        let page = if page.is_empty() { self.begin().await? } else { page };
        if let Some(last) = page.last() {
            self.after = last.position;
            let mut reading = self.begin();
            // It begins with being asked once; the answer comes while the caller is busy.
            self.next = Some(match reading.as_mut().now_or_never() {
                Some(page) => Box::pin(std::future::ready(page)),
                None => reading,
            });
        }
        Ok(page)
    }

    fn begin(&self) -> Reading<'s> {
        let rest = usize::try_from(self.until.0.saturating_sub(self.after.0));
        let limit = rest.unwrap_or(usize::MAX).min(self.page_events);
        if limit == 0 {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        }
        (self.read)(self.after, limit)
    }
}
