//! What stands beside the chain and must agree with it: the head row, the streams' versions, the
//! computed columns, the checkpoints' life of the log.

use std::collections::BTreeSet;

use domain::log::Position;

use super::{Check, Live, Streams, stream_hash};
use crate::{
    checkpoint::{Checkpoint, Previous},
    event_store::{
        Error, Head, LogIdentity, StreamRow,
        chain::{Fault, FaultKind, fault},
    },
};

const PAGE: usize = 5_000;

/// The head row, when the log was checked up to it.
pub(super) fn head(check: &Check, head: &Head, end: Position) -> Option<Fault> {
    check.verifier.finish(head, end).err()
}

/// The life of the log that its newest checkpoint was signed in must be the head row's.
pub(super) fn incarnation(check: &Check, log: LogIdentity) -> Option<Fault> {
    life(check.trust.checkpoints.last()?, log)
}

/// The newest checkpoint must be of the present life of a log.
pub(super) fn life(newest: &Checkpoint, log: LogIdentity) -> Option<Fault> {
    (newest.incarnation != log.incarnation).then(|| fault(newest.position, FaultKind::HeadAltered))
}

/// Every checkpoint that another one names, or that was remembered outside of the database, must be
/// there. `last` is of this log.
pub(super) fn missing(
    all: &[Checkpoint],
    last: Option<&Checkpoint>,
    log: LogIdentity,
) -> Option<Fault> {
    let there: BTreeSet<_> = all.iter().map(|it| key(it.as_previous(log))).collect();
    let named = all.iter().filter_map(|it| it.previous).filter(|it| *it != Previous::NONE);
    // What was signed in a life before this one need not have been in the backup.
    let remembered = last.filter(|last| last.incarnation == log.incarnation || all.is_empty());
    let first = named
        .chain(remembered.map(|last| last.as_previous(log)))
        .filter(|it| !there.contains(&key(*it)))
        .map(|it| it.position)
        .min();
    first.map(|position| fault(position, FaultKind::CheckpointMissing))
}

fn key(named: Previous) -> (Position, [u8; 32]) {
    (named.position, named.digest)
}

/// The streams' last versions, as far as the check has seen them. `is_whole`: it has seen every
/// event, so a stream that it has not seen is a surplus.
pub(super) async fn streams(
    live: &Live,
    seen: &mut Streams,
    is_whole: bool,
    until: Position,
) -> Result<Option<Fault>, Error> {
    let mut first: Option<Position> = None;
    let mut note = |position: Position| first = Some(first.map_or(position, |it| it.min(position)));
    let mut after = String::new();
    loop {
        let page = live.tables.streams(&after, PAGE).await?;
        let now = live.store.head().await?.position;
        // Written by a node behind what was checked.
        let is_new = |row: &StreamRow| row.last_position > until && row.last_position <= now;
        for row in &page {
            match seen.remove(&stream_hash(&row.stream)) {
                Some((version, _)) if is_new(row) && row.version > version => {}
                Some((version, last)) if (version, last) == (row.version, row.last_position) => {}
                Some((_, last)) => note(last),
                None if is_new(row) || !is_whole => {}
                None => note(row.last_position),
            }
        }
        match page.last() {
            Some(row) if row.stream > after => after.clone_from(&row.stream),
            // In a damaged table reading would never end.
            Some(row) => {
                note(row.last_position);
                break;
            }
            None => break,
        }
    }
    // A stream that has events must have a version.
    seen.values().for_each(|(_, last)| note(*last));
    Ok(first.map(|position| fault(position, FaultKind::StreamAltered)))
}
