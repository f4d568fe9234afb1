//! What this file keeps beside the log: its identity, checkpoints, streams, and the search for
//! rows that no reader of the log would see.

use std::path::Path;

use domain::{
    log::{Incarnation, Position},
    units::Timestamp,
};
use sqlx::{Row as _, SqliteConnection, SqlitePool, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    super::{
        Error, LogIdentity,
        chain::{Fault, FaultKind, fault},
    },
    Database,
    read::{self, failed, limited},
    rows, trim,
};
use crate::checkpoint::{Checkpoint, Previous, PublicKey};

pub(super) async fn identity(readers: &SqlitePool) -> Result<LogIdentity, Error> {
    let incarnation = read::head(readers).await?.incarnation;
    Ok(LogIdentity { log_id: read::log_id(readers).await?, incarnation })
}

pub(super) async fn checkpoints(
    readers: &SqlitePool,
    after: Position,
    limit: usize,
) -> Result<Vec<Checkpoint>, Error> {
    sqlx::query(
        "SELECT position, incarnation, link, signed_at, key, signature, previous FROM checkpoints \
         WHERE position > ? ORDER BY position, signed_at LIMIT ?",
    )
    .bind(rows::column(after.0))
    .bind(limited(limit))
    .fetch_all(readers)
    .await
    .and_then(|found| found.iter().map(checkpoint).collect())
    .map_err(failed("read the checkpoints"))
}

fn checkpoint(row: &SqliteRow) -> Result<Checkpoint, sqlx::Error> {
    Ok(Checkpoint {
        position: Position(rows::number(row.try_get(0)?)),
        incarnation: Incarnation(Uuid::from_bytes(rows::bytes(row.try_get(1)?))),
        link: rows::bytes(row.try_get(2)?),
        signed_at: Timestamp(row.try_get(3)?),
        key: PublicKey(rows::bytes(row.try_get(4)?)),
        signature: rows::bytes(row.try_get(5)?),
        previous: row.try_get::<Option<&[u8]>, _>(6)?.map(Previous::from_bytes),
    })
}

pub(super) async fn save_checkpoint(
    database: &Database,
    checkpoint: Checkpoint,
) -> Result<(), Error> {
    database
        .write("keep a checkpoint", move |connection| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO checkpoints \
                     (position, incarnation, link, signed_at, key, signature, previous) \
                     VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                )
                .bind(rows::column(checkpoint.position.0))
                .bind(checkpoint.incarnation.0.as_bytes().to_vec())
                .bind(checkpoint.link.to_vec())
                .bind(checkpoint.signed_at.0)
                .bind(checkpoint.key.0.to_vec())
                .bind(checkpoint.signature.to_vec())
                .bind(checkpoint.previous.map(Previous::to_bytes))
                .execute(connection)
                .await
                .map(drop)
            })
        })
        .await
}

/// Rows are proven by their hashes; that every index of SQLite's leads to its rows, and that no page
/// is torn, only SQLite itself can tell.
async fn check_pages(path: &Path, readers: &SqlitePool) -> Result<(), Error> {
    let found: String = sqlx::query_scalar("PRAGMA integrity_check(1)")
        .fetch_one(readers)
        .await
        .map_err(failed("check the file's pages and indexes"))?;
    if found == "ok" {
        return Ok(());
    }
    // A page is named in a line of its own, below the table that it is of.
    Err(Error::Damaged { path: path.to_owned(), reason: found.replace('\n', "; ") })
}

pub(super) async fn misfit(path: &Path, readers: &SqlitePool) -> Result<Option<Fault>, Error> {
    check_pages(path, readers).await?;
    // One transaction: head, floor and rows are of one instant.
    let found = async {
        let mut look = readers.begin().await?;
        let found = surplus(&mut look).await?;
        look.rollback().await?;
        Ok(found)
    };
    found.await.map_err(failed("look for rows that the log never wrote"))
}

/// A row at a position where the log has none: before its floor or behind its head.
async fn surplus(connection: &mut SqliteConnection) -> Result<Option<Fault>, sqlx::Error> {
    let head = sqlx::query(rows::SELECT_HEAD).fetch_one(&mut *connection).await?;
    let head = rows::head(&head)?.position;
    let floor = trim::floor_of(&mut *connection).await?.position;
    let mut first: Option<i64> = None;
    for (statement, bound) in [
        ("SELECT min(first_position) FROM batches WHERE first_position <= ?", floor),
        ("SELECT min(first_position) FROM batches WHERE first_position > ?", head),
        ("SELECT min(position) FROM checkpoints WHERE position <= ?", Position(0)),
    ] {
        let found: Option<i64> = sqlx::query_scalar(statement)
            .bind(rows::column(bound.0))
            .fetch_one(&mut *connection)
            .await?;
        first = [first, found].into_iter().flatten().min();
    }
    Ok(first.map(|position| fault(Position(rows::number(position)), FaultKind::Surplus)))
}
