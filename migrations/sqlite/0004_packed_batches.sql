-- A batch becomes one row with all its events in it: one page is written where sixteen columns and
-- six B-trees were. What events are found by is written behind, many at a time.

-- What was committed together. `events` holds the events, one record after another: the JSON bytes
-- that are hashed, their other columns, and the hash of each whole event, which lets `verify` name
-- the one that is wrong. `link` is the hash chain over the batches. Positions are dense and times
-- never go back, so the position of a time is found by halving.
CREATE TABLE packed_batches (
    first_position INTEGER PRIMARY KEY,
    event_count    INTEGER NOT NULL,
    recorded_at    INTEGER NOT NULL,
    batch_id       BLOB    NOT NULL,
    link           BLOB    NOT NULL,
    events         BLOB    NOT NULL
) STRICT;

-- Where events are, by the hash of their owner (kind 0), command (1), type (2) or batch id (3):
-- sorted runs over stretches of the log, each named by the last position of its stretch. A row
-- holds the hashes from `first_hash` on, each with its positions. Computed from the log: a run
-- counts once `lookup_runs` names it, and what is behind the last one is kept in memory.
CREATE TABLE lookups (
    run        INTEGER NOT NULL,
    kind       INTEGER NOT NULL,
    first_hash INTEGER NOT NULL,
    entries    BLOB    NOT NULL,
    PRIMARY KEY (run, kind, first_hash)
) STRICT, WITHOUT ROWID;

-- The finished runs. `filter` is a Bloom filter of a run's commands: a new command is known to be
-- new without a look into each run.
CREATE TABLE lookup_runs (
    last_position INTEGER PRIMARY KEY,
    filter        BLOB    NOT NULL
) STRICT;

-- The newest event of each type up to the last run.
CREATE TABLE newest_types (
    type           TEXT    PRIMARY KEY,
    schema_version INTEGER NOT NULL,
    position       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
