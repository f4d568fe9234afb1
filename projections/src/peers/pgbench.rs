//! The peer of durable commands on Postgres: pgbench with the same promise, by hand. One event a
//! transaction, its position from a head row, its stream's version checked; one prepared call.

use std::{fs, path::Path};

use super::{Error, PostgresServer};

const SCHEMA: &str = "
    CREATE TABLE peer_head (id integer PRIMARY KEY, position bigint NOT NULL)
        WITH (fillfactor = 10);
    INSERT INTO peer_head VALUES (1, 0);
    CREATE TABLE peer_streams (stream text COLLATE \"C\" PRIMARY KEY, version bigint NOT NULL);
    CREATE TABLE peer_events (
        position bigint PRIMARY KEY, stream text COLLATE \"C\" NOT NULL, version bigint NOT NULL,
        type text NOT NULL, recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        payload bytea NOT NULL
    );
    CREATE FUNCTION peer_append(p_stream text, p_before bigint, p_type text, p_payload text)
    RETURNS bigint LANGUAGE plpgsql AS $$
    DECLARE given bigint;
    BEGIN
        UPDATE peer_head SET position = position + 1 WHERE id = 1 RETURNING position INTO given;
        INSERT INTO peer_streams AS s VALUES (p_stream, p_before + 1)
            ON CONFLICT (stream) DO UPDATE SET version = excluded.version
            WHERE s.version = p_before;
        IF NOT FOUND THEN RAISE EXCEPTION 'stream % has another version', p_stream; END IF;
        INSERT INTO peer_events (position, stream, version, type, payload)
            VALUES (given, p_stream, p_before + 1, p_type, p_payload::bytea);
        RETURN given;
    END $$;";

const SCRIPT: &str = "\\set number :number + 1\n\
    SELECT peer_append('lrp/' || :run || '-' || :client_id || '-' || :number, 0, \
    'DesiredLrpDesired', :payload);\n";

/// The naive table that the bytes of an event are compared with.
const NAIVE: &str = "
    CREATE TABLE naive_events (
        position bigint PRIMARY KEY, stream text NOT NULL, version bigint NOT NULL,
        type text NOT NULL, recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        payload jsonb NOT NULL
    );";

const DATABASE: &str = "peer";

/// What one run of pgbench came to: the latency of every transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// How many transactions were done in a second.
    pub per_second: f64,
    /// How long each took, in microseconds, in no order.
    pub latencies_us: Vec<u32>,
}

/// The peer's database, made once for a server.
#[derive(Debug)]
pub struct Pgbench<'s> {
    server: &'s PostgresServer,
    payload: String,
    runs: u32,
}

impl<'s> Pgbench<'s> {
    /// Makes the peer's tables. Each event carries this payload.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn new(server: &'s PostgresServer, payload: String) -> Result<Self, Error> {
        server.new_database(DATABASE)?;
        server.query(DATABASE, SCHEMA)?;
        write(&server.folder().join("peer.sql"), SCRIPT)?;
        Ok(Self { server, payload, runs: 0 })
    }

    /// Runs so many clients for so many seconds. Blocks.
    ///
    /// # Errors
    /// When pgbench is not installed or fails.
    pub fn run(&mut self, clients: usize, seconds: u64) -> Result<Run, Error> {
        self.runs += 1;
        let logs = format!("latency-{}", self.runs);
        let (clients, seconds) = (clients.to_string(), seconds.to_string());
        let (run, payload) = (format!("run={}", self.runs), format!("payload={}", self.payload));
        let mut arguments = vec!["-n", "-M", "prepared", "-j", "2", "-f", "peer.sql"];
        arguments.extend(["-c", &clients, "-T", &seconds, "-l", "--log-prefix", &logs]);
        arguments.extend(["-D", &run, "-D", "number=0", "-D", &payload]);
        let connection = self.server.connection(DATABASE);
        arguments.extend(connection.iter().map(String::as_str));
        let output = self.server.run("pgbench", &arguments)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // It says none when no transaction was done, as when the clients took all the time to
        // connect.
        let per_second = said
            .lines()
            .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok())
            .unwrap_or_default();
        Ok(Run { per_second, latencies_us: self.latencies(&logs)? })
    }

    /// pgbench writes a line per transaction, one file per thread; the third word is its latency.
    fn latencies(&self, prefix: &str) -> Result<Vec<u32>, Error> {
        let folder = self.server.folder();
        let unusable = |source| Error::Folder { path: folder.to_owned(), source };
        let mut latencies = Vec::new();
        for entry in fs::read_dir(folder).map_err(unusable)? {
            let entry = entry.map_err(unusable)?;
            if !entry.file_name().to_string_lossy().starts_with(&format!("{prefix}.")) {
                continue;
            }
            let text = fs::read_to_string(entry.path()).map_err(unusable)?;
            let words = text.lines().filter_map(|line| line.split(' ').nth(2));
            latencies.extend(words.filter_map(|word| word.parse::<u32>().ok()));
            fs::remove_file(entry.path()).map_err(unusable)?;
        }
        Ok(latencies)
    }
}

/// The bytes that each event of a log takes in a naive table of JSONB without actor, command id and
/// cause, index included. Blocks.
///
/// # Errors
/// When the server refuses.
pub fn naive_bytes_per_event(
    server: &PostgresServer,
    database: &str,
    events: u32,
) -> Result<f64, Error> {
    server.query(database, NAIVE)?;
    server.query(
        database,
        "INSERT INTO naive_events (position, stream, version, type, payload) \
         SELECT position, stream, version, type, convert_from(payload, 'UTF8')::jsonb \
         FROM events ORDER BY position",
    )?;
    let bytes = server.table_bytes(database, &["naive_events"])?;
    #[expect(clippy::cast_precision_loss, reason = "a figure of a bench")]
    let bytes = bytes as f64;
    Ok(bytes / f64::from(events.max(1)))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|source| Error::Folder { path: path.to_owned(), source })
}
