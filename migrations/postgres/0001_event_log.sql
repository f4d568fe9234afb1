-- The event log, its keys and blobs, the snapshots, the lease and the presence of cells. Views are
-- never stored here. The same layout as in sqlite/0001, where it is explained.
-- A released migration is never edited: a change is a file with the next number.

-- Every event that ever happened. Fixed-width columns stand first, so that none is padded.
CREATE TABLE events (
    position       bigint   NOT NULL PRIMARY KEY,
    version        bigint   NOT NULL,
    recorded_at    bigint   NOT NULL,
    causation      bigint,
    owner_hash     bigint   NOT NULL,
    command_hash   bigint   NOT NULL,
    schema_version integer  NOT NULL,
    stream         text     COLLATE "C" NOT NULL,
    type           text     COLLATE "C" NOT NULL,
    actor_kind     text     COLLATE "C" NOT NULL,
    actor_name     text     COLLATE "C" NOT NULL,
    actor_via      text     COLLATE "C" NOT NULL,
    command_id     bytea    NOT NULL,
    correlation    bytea,
    leaf           bytea    NOT NULL,
    payload        bytea    NOT NULL
);

CREATE INDEX events_by_owner ON events (owner_hash, position);
CREATE INDEX events_by_type ON events (type, position);
CREATE INDEX events_by_command ON events (command_hash);

-- The log only grows, so vacuum has nothing to remove; it is there for the visibility map.
ALTER TABLE events SET (autovacuum_vacuum_insert_scale_factor = 0.2);

-- The last version of every stream.
CREATE TABLE streams (
    stream        text COLLATE "C" NOT NULL PRIMARY KEY,
    version       bigint NOT NULL,
    last_position bigint NOT NULL
) WITH (fillfactor = 80);

-- What was committed together, and the hash chain over it.
CREATE TABLE batches (
    first_position bigint NOT NULL PRIMARY KEY,
    event_count    bigint NOT NULL,
    recorded_at    bigint NOT NULL,
    batch_id       bytea  NOT NULL UNIQUE,
    link           bytea  NOT NULL
);

CREATE INDEX batches_by_time ON batches (recorded_at, first_position);

-- Batches that somebody looked for in vain after an unknown outcome. One that is still on its way
-- is refused, so that "never written" stays true.
CREATE TABLE abandoned_batches (
    batch_id     bytea       NOT NULL PRIMARY KEY,
    abandoned_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Where the log ends: one row, and the lock that puts appends in order. Room is left so that its
-- many versions stay on one page.
CREATE TABLE log_head (
    id          integer NOT NULL PRIMARY KEY CHECK (id = 1),
    log_id      bytea   NOT NULL,
    position    bigint  NOT NULL,
    recorded_at bigint  NOT NULL,
    incarnation bytea   NOT NULL,
    link        bytea   NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- Whose loops are active: one row. Each holder has a higher epoch than the one before; an empty
-- holder gave the lease up.
CREATE TABLE lease (
    id         integer     NOT NULL PRIMARY KEY CHECK (id = 1),
    holder     text        COLLATE "C" NOT NULL,
    epoch      bigint      NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 10);

-- Where the log in this database begins: one row once events have moved to an archive.
CREATE TABLE log_floor (
    id          integer NOT NULL PRIMARY KEY CHECK (id = 1),
    position    bigint  NOT NULL,
    recorded_at bigint  NOT NULL,
    link        bytea   NOT NULL,
    archive     text    NOT NULL
);

-- Signed statements of what the log was at a position.
CREATE TABLE checkpoints (
    position    bigint NOT NULL,
    incarnation bytea  NOT NULL,
    link        bytea  NOT NULL,
    signed_at   bigint NOT NULL,
    key         bytea  NOT NULL,
    signature   bytea  NOT NULL,
    PRIMARY KEY (position, incarnation)
);

-- When any node last heard each cell, by the database's clock.
CREATE TABLE presence (
    cell_id  text        COLLATE "C" NOT NULL PRIMARY KEY,
    heard_at timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE data_keys (
    owner      text   COLLATE "C" NOT NULL,
    key_id     bytea  NOT NULL,
    label      text   COLLATE "C" NOT NULL,
    wrapped    bytea  NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (owner, key_id)
);
CREATE INDEX data_keys_by_label ON data_keys (label);

CREATE TABLE forgotten_keys (
    key_id       bytea  NOT NULL PRIMARY KEY,
    owner        text   COLLATE "C" NOT NULL,
    forgotten_at bigint NOT NULL
);

CREATE TABLE blobs (
    digest     bytea  NOT NULL PRIMARY KEY,
    owner      text   COLLATE "C" NOT NULL,
    bytes      bytea  NOT NULL,
    created_at bigint NOT NULL
);
ALTER TABLE blobs ALTER COLUMN bytes SET STORAGE EXTERNAL;

CREATE TABLE snapshot_manifests (
    position       bigint  NOT NULL PRIMARY KEY,
    ordinal        bigint  NOT NULL,
    recorded_at    bigint  NOT NULL,
    format_version bigint  NOT NULL
);

CREATE TABLE snapshot_shards (
    position bigint  NOT NULL,
    shard    bigint  NOT NULL,
    digest   bytea   NOT NULL,
    PRIMARY KEY (position, shard)
);

CREATE INDEX snapshot_shards_by_digest ON snapshot_shards (digest);

CREATE TABLE snapshot_blobs (
    digest bytea NOT NULL PRIMARY KEY,
    bytes  bytea NOT NULL
);
ALTER TABLE snapshot_blobs ALTER COLUMN bytes SET STORAGE EXTERNAL;

-- Writes one batch, or nothing. `code` says what came of it:
--   0  written
--   1  the head is another than the one given; what it is stands in the other columns
--   2  the lease epoch is not the present one
--   3  a stream has another version than the one given; the true ones stand in the arrays
--   4  somebody was told already that this batch was never written
-- The caller computed every row, version and hash on the head that it gives, so they hold exactly
-- if that is still the head. Arrays whose names begin with e_ have one element per event, those
-- with s_ one per stream.
CREATE FUNCTION diario_append(
    h_position bigint, h_incarnation bytea, h_link bytea,
    b_id bytea, b_recorded_at bigint, b_link bytea, b_lease_epoch bigint,
    s_stream text[], s_before bigint[], s_version bigint[],
    e_stream text[], e_version bigint[], e_causation bigint[],
    e_owner_hash bigint[], e_command_hash bigint[], e_schema_version integer[],
    e_type text[], e_actor_kind text[], e_actor_name text[], e_actor_via text[],
    e_command_id bytea[], e_correlation bytea[], e_leaf bytea[], e_payload bytea[],
    OUT code integer,
    OUT head_position bigint, OUT head_recorded_at bigint, OUT head_incarnation bytea,
    OUT head_link bytea, OUT true_streams text[], OUT true_versions bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    added bigint := cardinality(e_stream);
BEGIN
    -- First the lock: every statement after it sees all that was committed before.
    SELECT position, recorded_at, incarnation, link
        INTO head_position, head_recorded_at, head_incarnation, head_link
        FROM log_head WHERE id = 1 FOR UPDATE;
    IF head_position IS DISTINCT FROM h_position OR head_incarnation IS DISTINCT FROM h_incarnation
       OR head_link IS DISTINCT FROM h_link THEN
        code := 1;
        RETURN;
    END IF;
    IF EXISTS (SELECT 1 FROM abandoned_batches WHERE batch_id = b_id) THEN
        code := 4;
        RETURN;
    END IF;
    IF b_lease_epoch IS NOT NULL AND NOT EXISTS
        (SELECT 1 FROM lease WHERE id = 1 AND epoch = b_lease_epoch) THEN
        code := 2;
        RETURN;
    END IF;
    SELECT array_agg(given.stream), array_agg(coalesce(known.version, 0))
        INTO true_streams, true_versions
        FROM unnest(s_stream, s_before) AS given (stream, before)
        LEFT JOIN streams AS known ON known.stream = given.stream
        WHERE coalesce(known.version, 0) <> given.before;
    IF true_streams IS NOT NULL THEN
        code := 3;
        RETURN;
    END IF;
    INSERT INTO events (position, version, recorded_at, causation, owner_hash, command_hash,
            schema_version, stream, type, actor_kind, actor_name, actor_via, command_id,
            correlation, leaf, payload)
        SELECT h_position + e.number, e.version, b_recorded_at, e.causation, e.owner_hash,
            e.command_hash, e.schema_version, e.stream, e.type, e.actor_kind,
            e.actor_name, e.actor_via, e.command_id, e.correlation, e.leaf, e.payload
        FROM unnest(e_stream, e_version, e_causation, e_owner_hash, e_command_hash,
            e_schema_version, e_type, e_actor_kind, e_actor_name, e_actor_via, e_command_id,
            e_correlation, e_leaf, e_payload)
            WITH ORDINALITY AS e (stream, version, causation, owner_hash, command_hash,
            schema_version, type, actor_kind, actor_name, actor_via, command_id, correlation,
            leaf, payload, number);
    INSERT INTO streams (stream, version, last_position)
        SELECT given.stream, given.version, h_position + added
        FROM unnest(s_stream, s_version) AS given (stream, version)
        ON CONFLICT (stream) DO UPDATE
        SET version = excluded.version, last_position = excluded.last_position;
    INSERT INTO batches (first_position, event_count, recorded_at, batch_id, link)
        VALUES (h_position + 1, added, b_recorded_at, b_id, b_link);
    UPDATE log_head SET position = h_position + added, recorded_at = b_recorded_at, link = b_link
        WHERE id = 1;
    head_position := h_position + added;
    head_recorded_at := b_recorded_at;
    head_link := b_link;
    code := 0;
    -- One for each batch; the payload is the whole head, so that nobody need ask for it.
    PERFORM pg_notify('diario_log', concat_ws(' ', encode(h_incarnation, 'hex'), head_position,
        b_recorded_at, encode(b_link, 'hex')));
END
$$;

-- Looks a batch up after an unknown outcome. The head's lock comes first: an append that still
-- runs must end before the answer. When the batch is not there, it never will be.
CREATE FUNCTION diario_find_batch(b_id bytea) RETURNS SETOF batches LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM log_head WHERE id = 1 FOR UPDATE;
    RETURN QUERY SELECT * FROM batches WHERE batch_id = b_id;
    IF NOT FOUND THEN
        DELETE FROM abandoned_batches WHERE abandoned_at < clock_timestamp() - interval '1 day';
        INSERT INTO abandoned_batches (batch_id) VALUES (b_id) ON CONFLICT DO NOTHING;
    END IF;
END
$$;
