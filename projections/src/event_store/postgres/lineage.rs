//! Which log this process works on, and whether the database still holds it.
//!
//! A server may be restored from a backup under running nodes, or a standby that lacks the newest
//! events may take over. What nodes hold in memory is then of a log that is no more, and what they
//! would decide and show a mixture of two. So every new connection is asked for the newest head
//! that is known to be committed, and once that is gone nothing is read or written any more.

use std::sync::{Mutex, OnceLock, PoisonError};

use domain::log::Position;
use sqlx::{PgConnection, Row as _};

use super::{
    super::{Error, Head},
    failure, rows,
};

/// The head, the link of the batch that ended at a position, and where the log begins.
const SELECT_PLACE: &str = "SELECT position, recorded_at, incarnation, link, \
     (SELECT link FROM batches WHERE first_position = \
         (SELECT max(first_position) FROM batches WHERE first_position <= $1) \
         AND first_position + event_count - 1 = $1), \
     coalesce((SELECT position FROM log_floor WHERE id = 1), 0) \
     FROM log_head WHERE id = 1";

/// The newest head that is known, and that the log behind it was lost.
#[derive(Debug)]
pub(super) struct Lineage {
    database: String,
    known: Mutex<Head>,
    /// How it was seen that the log is another one now.
    replaced: OnceLock<String>,
}

/// What a database says of a position.
struct Place {
    head: Head,
    /// Of the batch that ended there.
    link: Option<Vec<u8>>,
    floor: Position,
}

impl Lineage {
    pub(super) fn new(database: String, known: Head) -> Self {
        Self { database, known: Mutex::new(known), replaced: OnceLock::new() }
    }

    /// The newest head that is known to be committed; another may be newer.
    pub(super) fn known(&self) -> Head {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a committed head that the database said it had, perhaps a while ago.
    pub(super) fn saw(&self, head: Head) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = other_life(&known, &head) {
            self.note_replaced(reason);
        } else if head.position == known.position && head.link != known.link {
            self.note_replaced(other_events(known.position));
        } else if head.position > known.position {
            *known = head;
        }
    }

    /// Notes the head that the database was asked for when this position was committed already.
    pub(super) fn saw_behind(&self, committed: Position, head: Head) {
        if head.position < committed {
            self.note_replaced(cut_off(committed, head.position));
        }
        self.saw(head);
    }

    /// [`Error::Replaced`] once the log was lost.
    pub(super) fn intact(&self) -> Result<(), Error> {
        let Some(reason) = self.replaced.get() else { return Ok(()) };
        Err(Error::Replaced { database: self.database.clone(), reason: reason.clone() })
    }

    /// Asks a connection for the newest head that is known. What it answers is told by
    /// [`Lineage::intact`]; a failure says nothing.
    pub(super) async fn ask(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let known = self.known();
        if let Some(reason) = lost(&known, place(connection, known.position).await?) {
            self.note_replaced(reason);
        }
        Ok(())
    }

    fn note_replaced(&self, reason: String) {
        if self.replaced.set(reason.clone()).is_ok() {
            tracing::error!(database = self.database, reason, "The log was replaced by another.");
        }
    }
}

async fn place(
    connection: &mut PgConnection,
    position: Position,
) -> Result<Option<Place>, sqlx::Error> {
    let asked = sqlx::query(SELECT_PLACE).persistent(false).bind(rows::column(position.0));
    let row = match asked.fetch_optional(connection).await {
        Ok(row) => row,
        Err(failure) if failure::is_missing_table(&failure) => None,
        Err(failure) => return Err(failure),
    };
    let Some(row) = row else { return Ok(None) };
    let floor = Position(rows::number(row.try_get(5)?));
    Ok(Some(Place { head: rows::head(&row, 0)?, link: row.try_get(4)?, floor }))
}

/// How a database shows that it does not hold the log any more whose head is known.
fn lost(known: &Head, found: Option<Place>) -> Option<String> {
    let Some(Place { head, link, floor }) = found else {
        return Some("it holds no log now".to_owned());
    };
    if let Some(reason) = other_life(known, &head) {
        return Some(reason);
    }
    if head.position < known.position {
        return Some(cut_off(known.position, head.position));
    }
    // The rows of what was archived are gone.
    let is_kept = known.position > floor;
    (is_kept && link.as_deref() != Some(known.link.as_slice()))
        .then(|| other_events(known.position))
}

fn other_events(position: Position) -> String {
    format!("other events stand now up to position {position}")
}

fn other_life(known: &Head, found: &Head) -> Option<String> {
    let (known, found) = (known.incarnation.0, found.incarnation.0);
    (known != found).then(|| format!("its incarnation is {found} now and was {known}"))
}

fn cut_off(committed: Position, end: Position) -> String {
    format!("it ends at position {end} now and held position {committed}")
}
