//! Writing one batch: head checked, events, streams, boundary and head row in one transaction.

use std::{collections::BTreeMap, sync::Arc};

use domain::{
    event::Event,
    log::{LeaseEpoch, Recorded, StreamId, StreamVersion},
};
use rusqlite::Connection;

use super::{
    super::{AppendError, Batch, Error, commit, subscription::Feed},
    Database, Failure, failure, library, rows, statements,
};
use crate::failpoint::{self, Step};

pub(super) async fn append(
    database: &Database,
    feed: Arc<Feed>,
    batch: Batch,
) -> Result<Vec<Recorded<Event>>, AppendError> {
    let id = batch.id;
    failpoint::reached(Step::AppendBegins);
    database
        .transaction_by_library(
            move |connection| write(connection, batch),
            move |events: &Vec<Recorded<Event>>| {
                failpoint::reached(Step::Committed);
                feed.publish(events);
            },
        )
        .await
        .map_err(|failure| match failure {
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

fn write(connection: &Connection, batch: Batch) -> Result<Vec<Recorded<Event>>, AppendError> {
    let head = statements::head(connection).map_err(failed("read the log's head"))?;
    failpoint::reached(Step::HeadLocked);
    commit::check(&head, &batch)?;
    if let Some(lease_epoch) = batch.lease {
        check_lease(connection, lease_epoch)?;
    }
    let streams = batch.events.iter().map(|event| &event.stream);
    let versions = versions_of(connection, streams);
    let versions = versions.map_err(failed("read the streams' versions"))?;
    let commit = commit::place(&head, versions, batch)?;
    statements::insert(connection, &commit).map_err(failed("write a batch"))?;
    Ok(commit.events)
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
    streams: impl Iterator<Item = &'a StreamId>,
) -> rusqlite::Result<BTreeMap<StreamId, StreamVersion>> {
    let mut versions = BTreeMap::new();
    for stream in streams {
        if !versions.contains_key(stream)
            && let Some(version) = statements::version(connection, &stream.to_string())?
        {
            versions.insert(stream.clone(), version);
        }
    }
    Ok(versions)
}
