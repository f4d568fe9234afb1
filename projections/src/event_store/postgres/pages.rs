//! Whole pages of the log by `COPY`, in its binary form: a replay reads every event there is, and
//! the driver's rows take longer than all the rest. Columns are read where they lie.

use domain::log::Position;
use futures_util::TryStreamExt as _;
use sqlx::{PgConnection, Postgres, pool::PoolConnection};
use tokio::time::timeout;

use super::{
    super::{
        Error,
        columns::{NAMES, column, select_events},
        stored::{Stored, malformed},
    },
    database::{Database, READ_MAX, READERS_MAX},
    failure::is_lost,
};

/// What every copy begins with; flags and the length of an extension follow.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// The rows behind a position, each as `decode` makes it. Connections that the server has dropped
/// are passed over.
pub(super) async fn behind<T: Send>(
    database: &Database,
    operation: &'static str,
    after: Position,
    limit: i64,
    mut decode: impl FnMut(&Stored<'_>) -> Result<T, Error> + Send,
) -> Result<Vec<T>, Error> {
    // COPY takes no parameters; these are numbers.
    let statement = format!(
        concat!(
            "COPY (",
            select_events!("WHERE position > {} ORDER BY position LIMIT {}"),
            ") TO STDOUT (FORMAT binary)"
        ),
        column(after.0),
        limit
    );
    let mut stale = 0;
    loop {
        let mut reader = Reader(Some(database.reader(operation).await?));
        let copied = timeout(READ_MAX, copy(reader.connection(), &statement, &mut decode));
        let source = match copied.await {
            Ok(Ok(page)) => {
                reader.give_back();
                return Ok(page);
            }
            Ok(Err(Failure::Log(failure))) => return Err(failure),
            Ok(Err(Failure::Database(source))) => source,
            Err(_) => {
                let source = sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
                return Err(database.failed(operation, source));
            }
        };
        if !is_lost(&source) || stale == READERS_MAX {
            return Err(database.failed(operation, source));
        }
        stale += 1;
    }
}

/// A connection that is closed, not given back, unless its copy came to its end.
struct Reader(Option<PoolConnection<Postgres>>);

impl Reader {
    fn connection(&mut self) -> Option<&mut PgConnection> {
        self.0.as_deref_mut()
    }

    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

enum Failure {
    /// What the log holds.
    Log(Error),
    /// What the driver said.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(source: sqlx::Error) -> Self {
        Self::Database(source)
    }
}

async fn copy<T>(
    connection: Option<&mut PgConnection>,
    statement: &str,
    mut decode: impl FnMut(&Stored<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Failure> {
    let connection = connection.ok_or(sqlx::Error::WorkerCrashed)?;
    let mut messages = connection.copy_out_raw(statement).await?;
    let mut page = Vec::new();
    // A message holds one row today; the protocol promises nothing.
    let mut rest: Vec<u8> = Vec::new();
    let mut is_begun = false;
    while let Some(message) = messages.try_next().await? {
        let mut bytes = if rest.is_empty() {
            &*message
        } else {
            rest.extend_from_slice(&message);
            &*rest
        };
        if !is_begun {
            is_begun = begin(&mut bytes)?;
        }
        while is_begun && let Some(stored) = row(&mut bytes)? {
            page.push(decode(&stored).map_err(Failure::Log)?);
        }
        rest = bytes.to_vec();
    }
    Ok(page)
}

fn garbled(what: &str) -> Failure {
    Failure::Database(sqlx::Error::Protocol(format!("a copy of events {what}")))
}

/// Takes the copy's head off, once it is whole.
fn begin(bytes: &mut &[u8]) -> Result<bool, Failure> {
    let head = |bytes: &mut &[u8]| -> Option<bool> {
        let is_ours = take(bytes, SIGNATURE.len())? == SIGNATURE;
        let flags = i32::from_be_bytes(array(bytes)?);
        let extension = i32::from_be_bytes(array(bytes)?);
        Some(is_ours && flags == 0 && extension == 0)
    };
    let mut ahead = *bytes;
    match head(&mut ahead) {
        None => Ok(false),
        Some(true) => {
            *bytes = ahead;
            Ok(true)
        }
        Some(false) => Err(garbled("begins as none does")),
    }
}

/// Takes the next row off; `None` when it is not whole yet, and at the end.
fn row<'a>(bytes: &mut &'a [u8]) -> Result<Option<Stored<'a>>, Failure> {
    let mut ahead = *bytes;
    let Some(count) = array(&mut ahead).map(i16::from_be_bytes) else { return Ok(None) };
    if count == -1 {
        *bytes = ahead;
        return Ok(None);
    }
    if usize::try_from(count) != Ok(NAMES.len()) {
        return Err(garbled("has another number of columns"));
    }
    let mut fields: [Option<&[u8]>; NAMES.len()] = [None; NAMES.len()];
    for field in &mut fields {
        let Some(length) = array(&mut ahead).map(i32::from_be_bytes) else { return Ok(None) };
        // A negative one is NULL's.
        if let Ok(length) = usize::try_from(length) {
            let Some(value) = take(&mut ahead, length) else { return Ok(None) };
            *field = Some(value);
        }
    }
    *bytes = ahead;
    stored(&fields).map(Some)
}

fn stored<'a>(fields: &[Option<&'a [u8]>; NAMES.len()]) -> Result<Stored<'a>, Failure> {
    let number =
        |index| field(fields, index, |bytes| bytes.try_into().ok().map(i64::from_be_bytes));
    let short = |index| field(fields, index, |bytes| bytes.try_into().ok().map(i32::from_be_bytes));
    let text = |index| field(fields, index, |bytes| std::str::from_utf8(bytes).ok());
    let bytes = |index| field(fields, index, Some);
    let [_, _, _, causation, .., correlation, _, _] = fields;
    Ok(Stored {
        position: number(0)?,
        version: number(1)?,
        recorded_at: number(2)?,
        causation: causation.map(|_| number(3)).transpose()?,
        hashes: Some((number(4)?, number(5)?)),
        schema_version: short(6)?.into(),
        stream: text(7)?,
        type_name: text(8)?,
        actor_kind: text(9)?,
        actor_name: text(10)?,
        actor_via: text(11)?,
        command_id: bytes(12)?,
        correlation: *correlation,
        leaf: bytes(14)?,
        payload: bytes(15)?,
    })
}

/// One column; of another form than written it is refused.
fn field<'a, T>(
    fields: &[Option<&'a [u8]>; NAMES.len()],
    index: usize,
    read: impl FnOnce(&'a [u8]) -> Option<T>,
) -> Result<T, Failure> {
    let value = fields.get(index).copied().flatten().and_then(read);
    value.ok_or_else(|| {
        let position = fields.first().copied().flatten().and_then(|bytes| bytes.try_into().ok());
        Failure::Log(malformed(position.map_or(0, i64::from_be_bytes), index))
    })
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    take(bytes, N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied() -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0; 8]);
        for position in [7_i64, 8] {
            bytes.extend(16_i16.to_be_bytes());
            for (index, name) in NAMES.iter().enumerate() {
                let value: &[u8] = match index {
                    0 => &position.to_be_bytes(),
                    3 | 13 => {
                        bytes.extend((-1_i32).to_be_bytes());
                        continue;
                    }
                    1..=5 => &42_i64.to_be_bytes(),
                    6 => &3_i32.to_be_bytes(),
                    _ => name.as_bytes(),
                };
                bytes.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
                bytes.extend(value);
            }
        }
        bytes.extend((-1_i16).to_be_bytes());
        bytes
    }

    #[test]
    fn a_copy_is_read_however_it_is_cut_into_messages() {
        let whole = copied();
        for size in 1..whole.len() {
            let (mut rest, mut is_begun, mut seen) = (Vec::new(), false, Vec::new());
            for message in whole.chunks(size) {
                rest.extend_from_slice(message);
                let mut bytes = &*rest;
                is_begun = is_begun || begin(&mut bytes).ok().unwrap();
                while is_begun && let Some(stored) = row(&mut bytes).ok().unwrap() {
                    assert_eq!((stored.version, stored.schema_version), (42, 3));
                    assert_eq!((stored.causation, stored.correlation), (None, None));
                    assert_eq!((stored.stream, stored.payload), ("stream", &b"payload"[..]));
                    seen.push(stored.position);
                }
                rest = bytes.to_vec();
            }
            assert_eq!((seen, rest), (vec![7, 8], Vec::new()), "in messages of {size} bytes");
        }
    }

    #[test]
    fn what_is_no_copy_of_events_is_refused() {
        let mut other = copied();
        other[0] = b'X';
        assert!(begin(&mut &*other).is_err());
        let mut columns = copied();
        columns[SIGNATURE.len() + 9] = 15;
        let mut bytes = &columns[SIGNATURE.len() + 8..];
        assert!(row(&mut bytes).is_err());
        let mut fields: [Option<&[u8]>; NAMES.len()] = [None; NAMES.len()];
        fields[0] = Some(&[0; 7]);
        assert!(matches!(
            stored(&fields),
            Err(Failure::Log(Error::Malformed { column: "position", .. }))
        ));
    }
}
