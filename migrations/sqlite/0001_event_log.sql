-- The event log, its keys and blobs, and the snapshots. Views are never stored here.
-- A released migration is never edited: a change is a file with the next number.

-- Every event that ever happened. `payload` holds the JSON bytes that are hashed; `leaf` is the
-- hash of the whole row, which lets `verify` name the one row that is wrong. Columns are packed:
-- the owner follows from the stream and is found by `owner_hash`, the first 8 bytes of the SHA-256
-- of its text; `command_id` and `correlation` are 'u' and a uuid's 16 bytes, or 't' and any other
-- text; a `correlation` that equals the command id is NULL.
CREATE TABLE events (
    position       INTEGER PRIMARY KEY,
    version        INTEGER NOT NULL,
    recorded_at    INTEGER NOT NULL,
    causation      INTEGER,
    owner_hash     INTEGER NOT NULL,
    command_hash   INTEGER NOT NULL,
    schema_version INTEGER NOT NULL,
    stream         TEXT    NOT NULL,
    type           TEXT    NOT NULL,
    actor_kind     TEXT    NOT NULL,
    actor_name     TEXT    NOT NULL,
    actor_via      TEXT    NOT NULL,
    command_id     BLOB    NOT NULL,
    correlation    BLOB,
    leaf           BLOB    NOT NULL,
    payload        BLOB    NOT NULL
) STRICT;

-- An index on a table with an INTEGER PRIMARY KEY ends with it: each of these is in log order.
CREATE INDEX events_by_owner ON events (owner_hash);
CREATE INDEX events_by_type ON events (type);
CREATE INDEX events_by_command ON events (command_hash);

-- The last version of every stream.
CREATE TABLE streams (
    stream        TEXT    PRIMARY KEY,
    version       INTEGER NOT NULL,
    last_position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What was committed together, and the hash chain over it.
CREATE TABLE batches (
    first_position INTEGER PRIMARY KEY,
    event_count    INTEGER NOT NULL,
    recorded_at    INTEGER NOT NULL,
    batch_id       BLOB    NOT NULL UNIQUE,
    link           BLOB    NOT NULL
) STRICT;

-- All events of a batch share its time, so the time of a position is looked up here.
CREATE INDEX batches_by_time ON batches (recorded_at, first_position);

-- Where the log ends: one row. `log_id` says which log this is and never changes; `incarnation` is
-- new after a restore.
CREATE TABLE log_head (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    log_id      BLOB    NOT NULL,
    position    INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    incarnation BLOB    NOT NULL,
    link        BLOB    NOT NULL
) STRICT;

-- One data key per owner, wrapped by the master key of a label; master keys are not in the
-- database.
CREATE TABLE data_keys (
    owner      TEXT    NOT NULL,
    key_id     BLOB    NOT NULL,
    label      TEXT    NOT NULL,
    wrapped    BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (owner, key_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX data_keys_by_label ON data_keys (label);

-- Data keys that were deleted for ever, so that a restore can delete them again. `forgotten_at` is
-- in nanoseconds, as all times of events.
CREATE TABLE forgotten_keys (
    key_id       BLOB    PRIMARY KEY,
    owner        TEXT    NOT NULL,
    forgotten_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Sealed evidence beside the log, named by events through its digest.
CREATE TABLE blobs (
    digest     BLOB    PRIMARY KEY,
    owner      TEXT    NOT NULL,
    bytes      BLOB    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Snapshots are disposable: dropping these three tables' rows loses only time.
CREATE TABLE snapshot_manifests (
    position       INTEGER PRIMARY KEY,
    ordinal        INTEGER NOT NULL,
    recorded_at    INTEGER NOT NULL,
    format_version INTEGER NOT NULL
) STRICT;

CREATE TABLE snapshot_shards (
    position INTEGER NOT NULL,
    shard    INTEGER NOT NULL,
    digest   BLOB    NOT NULL,
    PRIMARY KEY (position, shard)
) STRICT, WITHOUT ROWID;

CREATE INDEX snapshot_shards_by_digest ON snapshot_shards (digest);

CREATE TABLE snapshot_blobs (
    digest BLOB PRIMARY KEY,
    bytes  BLOB NOT NULL
) STRICT;

-- Under which epoch the loops act: one row. Each process that opens the file takes a higher one.
CREATE TABLE lease (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    holder TEXT    NOT NULL,
    epoch  INTEGER NOT NULL
) STRICT;

-- Where the log in this database begins: one row once events have moved to an archive. `position`
-- is the last event that has moved, `link` its batch's, `archive` where it is.
CREATE TABLE log_floor (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    position    INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    link        BLOB    NOT NULL,
    archive     TEXT    NOT NULL
) STRICT;

-- Signed statements of what the log was at a position: they show a log that was cut off or
-- written anew together with its hashes.
CREATE TABLE checkpoints (
    position    INTEGER NOT NULL,
    incarnation BLOB    NOT NULL,
    link        BLOB    NOT NULL,
    signed_at   INTEGER NOT NULL,
    key         BLOB    NOT NULL,
    signature   BLOB    NOT NULL,
    PRIMARY KEY (position, incarnation)
) STRICT;
