//! Every value that a database holds, as bytes: for tests that look for what must not be there.
//! Values as the database packs them in its files may lie in pieces, or compressed.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, types::ValueRef};

use super::postgres::Cluster;

/// Every value of every row of a SQLite file, with its table's name.
///
/// # Panics
/// When the file cannot be read.
#[must_use]
pub fn of_sqlite(file: &Path) -> Vec<(String, Vec<u8>)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(file, flags).expect("a database");
    let tables = rows(&connection, "SELECT name FROM sqlite_master WHERE type = 'table'");
    let mut values = Vec::new();
    for table in tables {
        let table = String::from_utf8(table).expect("a name");
        let found = rows(&connection, &format!("SELECT * FROM \"{table}\""));
        values.extend(found.into_iter().map(|value| (table.clone(), value)));
    }
    values
}

/// All values of a statement's rows, one after another.
fn rows(connection: &Connection, statement: &str) -> Vec<Vec<u8>> {
    let mut statement = connection.prepare(statement).expect("a statement");
    let columns = statement.column_count();
    let mut rows = statement.query([]).expect("rows");
    let mut values = Vec::new();
    while let Some(row) = rows.next().expect("a row") {
        for column in 0..columns {
            values.push(match row.get_ref(column).expect("a column") {
                ValueRef::Null => Vec::new(),
                ValueRef::Integer(number) => number.to_string().into_bytes(),
                ValueRef::Real(number) => number.to_string().into_bytes(),
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
            });
        }
    }
    values
}

/// Every row of a Postgres database as its text, and every binary value in it as bytes, with its
/// table's name.
///
/// # Panics
/// When the database cannot be read.
#[must_use]
pub fn of_postgres(cluster: &Cluster, database: &str) -> Vec<(String, Vec<u8>)> {
    let tables = cluster.psql(
        database,
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'",
    );
    let mut values = Vec::new();
    for table in tables.lines() {
        let text = cluster.psql(database, &format!("SELECT t::text FROM \"{table}\" AS t"));
        for part in text.split("\\x").skip(1) {
            let digits = part.find(|it: char| !it.is_ascii_hexdigit()).unwrap_or(part.len());
            let bytes = part.get(..digits).and_then(|digits| hex::decode(digits).ok());
            values.extend(bytes.map(|bytes| (table.to_owned(), bytes)));
        }
        values.push((table.to_owned(), text.into_bytes()));
    }
    values
}
