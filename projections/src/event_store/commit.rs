//! What a batch becomes when it is written: rows, leaves, a link and a new head. Pure, and the
//! same for every store, so that equal input gives equal hashes everywhere.

use std::collections::BTreeMap;

use domain::{
    event::Event,
    log::{Recorded, StreamId, StreamVersion},
};

use super::{
    AppendError, BATCH_BYTES_MAX, Batch, BatchRow, EVENTS_PER_BATCH_MAX, Head, Leaf,
    PAYLOAD_BYTES_MAX, Refusal, Row, chain,
};

/// A batch with its place in the log, not yet written.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) events: Vec<Recorded<Event>>,
    pub(super) rows: Vec<(Row, Leaf)>,
    pub(super) versions: BTreeMap<StreamId, StreamVersion>,
    pub(super) batch: BatchRow,
    pub(super) head: Head,
}

/// Places a batch behind a head. `versions` holds the last version of each of its streams; a
/// stream that is not in it is new.
pub(super) fn place(
    head: &Head,
    mut versions: BTreeMap<StreamId, StreamVersion>,
    batch: Batch,
) -> Result<Commit, AppendError> {
    check(head, &batch)?;
    let (id, recorded_at) = (batch.id, batch.recorded_at);
    let mut events = Vec::with_capacity(batch.events.len());
    let mut rows = Rows::default();
    let mut position = head.position;
    for new in batch.events {
        position = position.next();
        let version = versions.entry(new.stream.clone()).or_default();
        version.0 += 1;
        let (event, payload) = new.event.into_parts();
        let recorded = Recorded {
            position,
            stream: new.stream,
            version: *version,
            recorded_at,
            actor: new.actor,
            command_id: new.command_id,
            causation: new.causation,
            correlation: new.correlation,
            event,
        };
        rows.add(&recorded, payload.into_bytes())?;
        events.push(recorded);
    }
    let Rows { rows, .. } = rows;
    let leaves: Vec<Leaf> = rows.iter().map(|(_, leaf)| *leaf).collect();
    let count = position.0.saturating_sub(head.position.0);
    let mut batch =
        BatchRow { first: head.position.next(), count, recorded_at, id, link: head.link };
    batch.link = chain::link(&head.link, &chain::root(&leaves), &batch);
    let head = Head { position, recorded_at, incarnation: head.incarnation, link: batch.link };
    Ok(Commit { events, rows, versions, batch, head })
}

/// Everything that can be refused before the streams are looked at.
pub(super) fn check(head: &Head, batch: &Batch) -> Result<(), AppendError> {
    let refusal = if batch.events.is_empty() {
        Refusal::Empty
    } else if batch.events.len() > EVENTS_PER_BATCH_MAX {
        Refusal::TooManyEvents(batch.events.len())
    } else if batch.decided_on != head.position {
        return Err(AppendError::HeadMoved { head: *head });
    } else if batch.recorded_at < head.recorded_at {
        Refusal::TimeWentBack { given: batch.recorded_at, head: head.recorded_at }
    } else {
        return Ok(());
    };
    Err(AppendError::Refused(refusal))
}

/// The rows of a batch, within its limits.
#[derive(Default)]
struct Rows {
    rows: Vec<(Row, Leaf)>,
    bytes: usize,
}

impl Rows {
    fn add(
        &mut self,
        recorded: &Recorded<Event>,
        payload: Option<Vec<u8>>,
    ) -> Result<(), AppendError> {
        let row = match payload {
            Some(payload) => Row::with_payload(recorded, payload),
            // It has none, or was never asked for it: this says why.
            None => Row::encode(recorded).map_err(AppendError::Failed)?,
        };
        let bytes = row.payload.len();
        if bytes > PAYLOAD_BYTES_MAX {
            let stream = recorded.stream.clone();
            return Err(AppendError::Refused(Refusal::PayloadTooLarge { stream, bytes }));
        }
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > BATCH_BYTES_MAX {
            return Err(AppendError::Refused(Refusal::TooManyBytes(self.bytes)));
        }
        let leaf = chain::leaf(&row);
        self.rows.push((row, leaf));
        Ok(())
    }
}
