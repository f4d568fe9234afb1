//! Following one owner's records as they arrive.

use domain::log::Owner;
use tokio::sync::watch;

use super::{Error, Observations, Page, Query, RecordNumber};

/// A reader that waits for an owner's next records.
#[derive(Debug)]
pub struct Follow {
    observations: Observations,
    owner: Owner,
    query: Query,
    appended: watch::Receiver<RecordNumber>,
}

impl Follow {
    pub(super) fn new(
        observations: Observations,
        owner: Owner,
        query: Query,
        appended: watch::Receiver<RecordNumber>,
    ) -> Self {
        Self { observations, owner, query, appended }
    }

    /// Waits until there is at least one record that the query lets through. Dropping the
    /// future loses nothing.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the store is gone, or a file's error.
    pub async fn next(&mut self) -> Result<Page, Error> {
        loop {
            // Marked as seen before reading: what arrives while reading wakes the next round.
            self.appended.borrow_and_update();
            let page = self.observations.read(&self.owner, self.query.clone()).await?;
            self.query.after = page.next;
            self.query.last = None;
            if !page.records.is_empty() {
                return Ok(page);
            }
            self.appended.changed().await.map_err(|_| Error::Stopped)?;
        }
    }
}
