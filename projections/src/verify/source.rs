//! The batches of a store with the rows at their positions, in large pages.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use domain::log::Position;

use super::{Content, Piece, Source};
use crate::event_store::{
    BatchRow, EVENTS_PER_BATCH_MAX, Error, EventStore, Leaf, READ_EVENTS_MAX, Row,
    chain::{GENESIS, is_a_count, last_row},
};

const BATCHES_PER_READ: usize = 1_000;

/// A store's log behind a batch's end, up to a position.
#[derive(Debug)]
pub struct StoreSource {
    store: Arc<dyn EventStore>,
    /// The end of the last batch that was handed out.
    position: Position,
    until: Position,
    end: Position,
    /// Rows that were read and not yet handed out; the last of them is at `rows_read`.
    rows: VecDeque<(Row, Leaf)>,
    rows_read: Position,
}

impl StoreSource {
    /// Reads behind `after`, the end of a batch, up to the batch that holds `until`.
    ///
    /// # Errors
    /// When the log's end cannot be read.
    pub async fn open(
        store: Arc<dyn EventStore>,
        after: Position,
        until: Position,
    ) -> Result<Self, Error> {
        let end = last_row(store.as_ref(), until).await?;
        let rows = VecDeque::new();
        Ok(Self { store, position: after, until, end, rows, rows_read: after })
    }

    /// The end and link of the batch before the one that holds `from`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn before(
        store: &dyn EventStore,
        from: Position,
        floor: (Position, [u8; 32]),
    ) -> Result<(Position, [u8; 32]), Error> {
        if from.0 <= floor.0.0.saturating_add(1) {
            return Ok(floor);
        }
        let longest = u64::try_from(EVENTS_PER_BATCH_MAX).unwrap_or(u64::MAX);
        // The batch of `from` begins at most one batch's length before it, the one before it two.
        let after = from.0.saturating_sub(longest.saturating_mul(2)).max(floor.0.0);
        let mut before = None;
        let mut position = Position(after);
        loop {
            let batches = store.read_batches(position, BATCHES_PER_READ).await?;
            for batch in &batches {
                if batch.last() >= from {
                    return Ok(before.unwrap_or(floor));
                }
                before = Some((batch.last(), batch.link));
            }
            match batches.last() {
                Some(batch) => position = batch.first,
                None => return Ok(before.unwrap_or((Position(0), GENESIS))),
            }
        }
    }

    /// The rows that stand at a batch's positions.
    async fn rows_of(&mut self, batch: &BatchRow) -> Result<Vec<(Row, Leaf)>, Error> {
        let mut rows = Vec::new();
        if !is_a_count(batch.count) {
            return Ok(rows);
        }
        loop {
            while let Some((row, _)) = self.rows.front() {
                if row.position > batch.last() {
                    return Ok(rows);
                }
                if let Some(row) =
                    self.rows.pop_front().filter(|(row, _)| row.position >= batch.first)
                {
                    rows.push(row);
                }
            }
            if self.rows_read >= batch.last() {
                return Ok(rows);
            }
            // What is in no batch is passed over; what is beyond `until` may not be whole yet.
            let after = self.rows_read.max(Position(batch.first.0.saturating_sub(1)));
            let page = self.store.read_rows(after, READ_EVENTS_MAX).await?;
            let is_last = page.len() < READ_EVENTS_MAX;
            self.rows_read = match page.last() {
                Some((row, _)) if !is_last => row.position,
                Some((row, _)) => row.position.max(self.until),
                None => batch.last(),
            };
            self.rows = page.into();
        }
    }
}

#[async_trait]
impl Source for StoreSource {
    async fn next(&mut self) -> Result<Vec<Piece>, Error> {
        if self.position >= self.until {
            return Ok(Vec::new());
        }
        let batches = self.store.read_batches(self.position, BATCHES_PER_READ).await?;
        let mut pieces = Vec::with_capacity(batches.len());
        for batch in batches {
            if batch.first > self.until {
                self.position = self.until;
                break;
            }
            let rows = self.rows_of(&batch).await?;
            self.position = batch.last().max(self.position);
            pieces.push(Piece { batch, content: Content::Rows(rows) });
        }
        Ok(pieces)
    }

    fn end(&self) -> Position {
        self.end
    }
}
