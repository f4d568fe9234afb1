//! Writing one batch: head checked, events with their boundary and head row in one transaction.

use std::{collections::BTreeMap, sync::Arc};

use domain::{
    event::Event,
    log::{LeaseEpoch, Recorded, StreamId, StreamVersion},
};
use rusqlite::Connection;

use super::{
    super::{AppendError, Batch, Error, commit, commit::Commit, subscription::Feed},
    Database, Failure, failure, library,
    lookups::Written,
    rows, statements,
};
use crate::failpoint::{self, Step};

pub(super) async fn append(
    database: &Database,
    feed: Arc<Feed>,
    batch: Batch,
) -> Result<Vec<Recorded<Event>>, AppendError> {
    let id = batch.id;
    failpoint::reached(Step::AppendBegins);
    let (writing, noting) = (database.clone(), database.clone());
    let written = database
        .transaction_by_library(
            move |connection| {
                let commit = write(connection, &writing, batch)?;
                Ok((commit.events, (commit.batch, commit.rows)))
            },
            move |events: &Vec<Recorded<Event>>| {
                failpoint::reached(Step::Committed);
                feed.publish(events);
            },
            move |written: Written| noting.note(&[written]),
        )
        .await;
    database.keep_up().await;
    written.map_err(|failure| match failure {
        Failure::Refused(refused) => AppendError::Failed(refused),
        Failure::RolledBack(AppendError::Failed(failure)) => {
            AppendError::Failed(failure::told(database.path(), failure))
        }
        Failure::RolledBack(failure) => failure,
        Failure::Unknown => AppendError::OutcomeUnknown { batch: id },
    })
}

fn failed(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> AppendError {
    move |source| AppendError::Failed(Error::Database { operation, source: library::error(source) })
}

fn write(
    connection: &Connection,
    database: &Database,
    batch: Batch,
) -> Result<Commit, AppendError> {
    let head = statements::head(connection).map_err(failed("read the log's head"))?;
    failpoint::reached(Step::HeadLocked);
    commit::check(&head, &batch)?;
    if let Some(lease_epoch) = batch.lease {
        check_lease(connection, lease_epoch)?;
    }
    let streams = batch.events.iter().map(|event| &event.stream);
    let versions = versions_of(connection, database, streams).map_err(AppendError::Failed)?;
    let commit = commit::place(&head, versions, batch)?;
    statements::insert(connection, &commit).map_err(failed("write a batch"))?;
    Ok(commit)
}

fn check_lease(connection: &Connection, lease_epoch: LeaseEpoch) -> Result<(), AppendError> {
    let current = statements::lease(connection).map_err(failed("read the lease"))?;
    if current == Some(rows::column(lease_epoch.0)) {
        return Ok(());
    }
    Err(AppendError::LeasePassed { lease_epoch })
}

/// The versions of streams; one that is new is left out.
pub(super) fn versions_of<'a>(
    connection: &Connection,
    database: &Database,
    streams: impl Iterator<Item = &'a StreamId>,
) -> Result<BTreeMap<StreamId, StreamVersion>, Error> {
    let texts: BTreeMap<String, &StreamId> =
        streams.map(|stream| (stream.to_string(), stream)).collect();
    let versions = database.lookups().versions(connection, texts.keys().map(String::as_str));
    let versions =
        versions.map_err(|failure| failure.told(database.path(), "read the streams' versions"))?;
    let of = |(text, stream): (&String, &&StreamId)| {
        Some(((*stream).clone(), *versions.get(text.as_str())?))
    };
    Ok(texts.iter().filter_map(of).collect())
}
