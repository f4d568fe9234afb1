//! Where others write the log too: what they wrote is folded, while there is nothing to do and
//! within a turn.

use std::{pin::pin, sync::Arc};

use domain::log::Position;
use futures_util::FutureExt as _;
use projections::event_store::{self, AppendError, Subscription, Turn};

use super::{super::Decider, Writer};

const READ_PAGE: usize = 1000;
/// A longer tail is not read within a turn: the others would wait.
const TURN_TAIL_MAX: u64 = 2000;

impl Writer {
    /// Waits for this node's turn and folds what others wrote: what is published while it waits,
    /// then what is still missing.
    pub(super) async fn begin_turn(&mut self) -> Result<Box<dyn Turn>, event_store::Error> {
        let before = self.decider.head().position;
        loop {
            let mut turn = self.wait_for_turn().await?;
            let end = turn.head().position;
            not_behind(self.decider.head().position, end)?;
            if end.0.saturating_sub(self.decider.head().position.0) > TURN_TAIL_MAX {
                drop(turn);
                self.catch_up().await?;
                continue;
            }
            while self.decider.head().position < end {
                let page = turn.read_all(self.decider.head().position, READ_PAGE).await?;
                if page.is_empty() {
                    return Err(event_store::Error::Gap(self.decider.head().position.next()));
                }
                page.iter().for_each(|recorded| self.decider.fold(recorded));
            }
            let of_others = end.0.saturating_sub(before.0);
            self.contention.note_turn(usize::try_from(of_others).unwrap_or(usize::MAX));
            return Ok(turn);
        }
    }

    async fn wait_for_turn(&mut self) -> Result<Box<dyn Turn>, event_store::Error> {
        let store = Arc::clone(&self.store);
        let mut turn = pin!(store.turn());
        let turn = loop {
            tokio::select! {
                biased;
                turn = &mut turn => break turn.map_err(not_begun)?,
                followed = follow(&mut self.feed, &mut self.decider) => followed?,
            }
        };
        // What was published meanwhile need not be read again.
        follow(&mut self.feed, &mut self.decider).now_or_never().transpose()?;
        Ok(turn)
    }

    pub(super) async fn catch_up(&mut self) -> Result<(), event_store::Error> {
        loop {
            let after: Position = self.decider.head().position;
            let page = self.store.read_all(after, READ_PAGE).await?;
            let is_last = page.len() < READ_PAGE;
            page.iter().for_each(|recorded| self.decider.fold(recorded));
            if is_last {
                return Ok(());
            }
        }
    }
}

fn not_begun(failure: AppendError) -> event_store::Error {
    match failure {
        AppendError::Failed(failure) => failure,
        // A turn writes nothing before its append.
        AppendError::HeadMoved { .. }
        | AppendError::LeasePassed { .. }
        | AppendError::OutcomeUnknown { .. }
        | AppendError::Refused(_) => event_store::Error::Closed,
    }
}

/// A log that ends before what was folded from it is another one, or has lost events.
pub(super) fn not_behind(folded: Position, end: Position) -> Result<(), event_store::Error> {
    if end < folded {
        return Err(event_store::Error::AheadOfHead { after: folded, head: end });
    }
    Ok(())
}

/// Folds what others wrote while this node has nothing to write.
pub(super) async fn follow(
    feed: &mut Option<Subscription>,
    decider: &mut Decider,
) -> Result<(), event_store::Error> {
    let Some(feed) = feed else { return std::future::pending().await };
    let mut events = feed.next_batch(READ_PAGE).await?;
    loop {
        for recorded in &events {
            let next = decider.head().position.next();
            if recorded.position > next {
                return Err(event_store::Error::Gap(next));
            }
            if recorded.position == next {
                decider.fold(recorded);
            }
        }
        match feed.next_batch(READ_PAGE).now_or_never() {
            Some(more) => events = more?,
            None => return Ok(()),
        }
    }
}
