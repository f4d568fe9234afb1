//! Writing one batch: everything is computed here on the head that the batch was decided on, and
//! one call of `diario_append` checks that head, writes and commits.

use std::collections::BTreeMap;

use domain::log::{LeaseEpoch, Position, StreamId, StreamVersion};
use sqlx::{
    PgConnection, Postgres, Row as _,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use super::{
    super::{
        AppendError, Batch, Encoded, Head, Leaf, NewEvent, Row,
        commit::{self, Commit},
        packed::Packed,
    },
    rows,
    shared::Shared,
};
use crate::failpoint::{self, Step};

/// What came of a call that the server answered.
pub(super) enum Answer {
    /// Within a transaction it is not committed yet, and its head must not be known before.
    Written(Commit),
    Refused(AppendError),
}

/// Why there is no answer.
pub(super) enum NoAnswer {
    /// The head could not be read: no append was sent.
    NotSent(sqlx::Error),
    /// An append was sent.
    Sent(sqlx::Error),
}

const CALL: &str = "SELECT * FROM diario_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, \
     $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)";

const WRITTEN: i32 = 0;
const HEAD_MOVED: i32 = 1;
const LEASE_PASSED: i32 = 2;
const VERSIONS_DIFFER: i32 = 3;
const ABANDONED: i32 = 4;

/// Appends on a connection; outside a transaction the answer means that it is committed.
pub(super) async fn append(
    connection: &mut PgConnection,
    shared: &Shared,
    batch: Batch,
) -> Result<Answer, NoAnswer> {
    let mut head = shared.lineage.known();
    if head.position != batch.decided_on {
        let committed = head.position;
        head = read_head(connection).await.map_err(NoAnswer::NotSent)?;
        shared.lineage.saw_behind(committed, head);
    }
    if let Err(refused) = shared.intact().and_then(|()| commit::check(&head, &batch)) {
        return Ok(Answer::Refused(refused));
    }
    let lease = batch.lease;
    let streams = batch.events.iter().map(|event| &event.stream);
    let mut before = shared.versions().of(streams);
    let mut batch = batch;
    // Nobody else writes between the two tries without moving the head.
    for _ in 0..2 {
        let commit = match commit::place(&head, before.clone(), batch) {
            Ok(commit) => commit,
            Err(refused) => return Ok(Answer::Refused(refused)),
        };
        failpoint::reached(Step::AppendBegins);
        let calling = call(&head, &before, &commit, lease).fetch_one(&mut *connection);
        let row = failpoint::once_sent(Step::AppendSent, calling).await.map_err(NoAnswer::Sent)?;
        match answered(&row, &commit, lease).map_err(NoAnswer::Sent)? {
            Told::Written => return Ok(Answer::Written(commit)),
            Told::Refused(AppendError::HeadMoved { head: now }) => {
                shared.lineage.saw_behind(head.position, now);
                let moved = AppendError::HeadMoved { head: now };
                return Ok(Answer::Refused(shared.intact().err().unwrap_or(moved)));
            }
            Told::Refused(refused) => return Ok(Answer::Refused(refused)),
            Told::Versions(true_versions) => {
                let mut versions = shared.versions();
                for (stream, version) in true_versions {
                    versions.set(stream.clone(), version);
                    before.insert(stream, version);
                }
                batch = offered_again(commit, lease);
            }
        }
    }
    Ok(Answer::Refused(AppendError::HeadMoved { head }))
}

/// Writes a commit that is already checked, within a transaction.
pub(super) async fn write_as_it_is(
    connection: &mut PgConnection,
    head: &Head,
    before: &BTreeMap<StreamId, StreamVersion>,
    commit: &Commit,
) -> Result<(), sqlx::Error> {
    let row = call(head, before, commit, None).fetch_one(connection).await?;
    match row.try_get(0)? {
        WRITTEN => Ok(()),
        code => Err(sqlx::Error::Protocol(format!("diario_append answered with code {code}"))),
    }
}

pub(super) async fn read_head(connection: &mut PgConnection) -> Result<Head, sqlx::Error> {
    let row = sqlx::query(rows::SELECT_HEAD).fetch_one(connection).await?;
    rows::head(&row, 0)
}

enum Told {
    Written,
    Refused(AppendError),
    Versions(Vec<(StreamId, StreamVersion)>),
}

fn answered(row: &PgRow, commit: &Commit, lease: Option<LeaseEpoch>) -> Result<Told, sqlx::Error> {
    let refused = |refusal| Ok(Told::Refused(refusal));
    match row.try_get(0)? {
        WRITTEN => Ok(Told::Written),
        HEAD_MOVED | ABANDONED => refused(AppendError::HeadMoved { head: rows::head(row, 1)? }),
        LEASE_PASSED => {
            refused(AppendError::LeasePassed { lease_epoch: lease.unwrap_or_default() })
        }
        VERSIONS_DIFFER => {
            let streams: Vec<String> = row.try_get(5)?;
            let versions: Vec<i64> = row.try_get(6)?;
            let by_text: BTreeMap<String, &StreamId> =
                commit.versions.keys().map(|stream| (stream.to_string(), stream)).collect();
            let known = |(text, version): (String, i64)| {
                let stream = *by_text.get(&text)?;
                Some((stream.clone(), StreamVersion(rows::number(version))))
            };
            Ok(Told::Versions(streams.into_iter().zip(versions).filter_map(known).collect()))
        }
        code => Err(sqlx::Error::Protocol(format!("diario_append answered with code {code}"))),
    }
}

/// The batch of a commit that was not written.
fn offered_again(commit: Commit, lease: Option<LeaseEpoch>) -> Batch {
    let events = commit.events.into_iter().zip(commit.rows).map(|(event, (row, _))| NewEvent {
        stream: event.stream,
        event: Encoded::of_bytes(event.event, row.payload),
        actor: event.actor,
        command_id: event.command_id,
        causation: event.causation,
        correlation: event.correlation,
    });
    Batch {
        id: commit.batch.id,
        decided_on: Position(commit.batch.first.0.saturating_sub(1)),
        recorded_at: commit.batch.recorded_at,
        lease,
        events: events.collect(),
    }
}

fn call(
    head: &Head,
    before: &BTreeMap<StreamId, StreamVersion>,
    commit: &Commit,
    lease: Option<LeaseEpoch>,
) -> Query<'static, Postgres, PgArguments> {
    let query = sqlx::query(CALL)
        .bind(rows::column(head.position.0))
        .bind(head.incarnation.0.as_bytes().as_slice())
        .bind(head.link.as_slice())
        .bind(commit.batch.id.0.as_bytes().as_slice())
        .bind(commit.batch.recorded_at.0)
        .bind(commit.batch.link.as_slice())
        .bind(lease.map(|lease_epoch| rows::column(lease_epoch.0)));
    let versions = &commit.versions;
    let before = |stream| before.get(stream).map_or(0, |version| rows::column(version.0));
    let query = query
        .bind(versions.keys().map(ToString::to_string).collect::<Vec<_>>())
        .bind(versions.keys().map(before).collect::<Vec<_>>())
        .bind(versions.values().map(|version| rows::column(version.0)).collect::<Vec<_>>());
    bind_events(query, &commit.rows)
}

/// One array for each column, in the order of the function's parameters.
fn bind_events(
    query: Query<'static, Postgres, PgArguments>,
    rows: &[(Row, Leaf)],
) -> Query<'static, Postgres, PgArguments> {
    fn column<'a, T>(rows: &'a [(Row, Leaf)], of: impl Fn(&'a Row) -> T) -> Vec<T> {
        rows.iter().map(|(row, _)| of(row)).collect()
    }
    let packed: Vec<Packed> = column(rows, Packed::of);
    let packed = packed.as_slice();
    let leaves: Vec<&[u8]> = rows.iter().map(|(_, leaf)| leaf.as_slice()).collect();
    query
        .bind(column(rows, |row| row.stream.as_str()))
        .bind(column(rows, |row| rows::column(row.version.0)))
        .bind(column(rows, |row| row.causation.map(|position| rows::column(position.0))))
        .bind(packed.iter().map(|it| it.owner_hash).collect::<Vec<_>>())
        .bind(packed.iter().map(|it| it.command_hash).collect::<Vec<_>>())
        .bind(column(rows, |row| i32::from(row.schema_version)))
        .bind(column(rows, |row| row.type_name.as_str()))
        .bind(column(rows, |row| row.actor_kind.as_str()))
        .bind(column(rows, |row| row.actor_name.as_str()))
        .bind(column(rows, |row| row.actor_via.as_str()))
        .bind(packed.iter().map(|it| it.command_id.as_slice()).collect::<Vec<_>>())
        .bind(packed.iter().map(|it| it.correlation.as_deref()).collect::<Vec<_>>())
        .bind(leaves)
        .bind(column(rows, |row| row.payload.as_slice()))
}
