-- `diario_append` as before, quicker for one event alone: to unfold fourteen arrays for one row
-- took an eighth of such an append's time.
CREATE OR REPLACE FUNCTION diario_append(
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
    known_version bigint;
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
    IF added = 1 THEN
        SELECT version INTO known_version FROM streams WHERE stream = s_stream[1];
        IF coalesce(known_version, 0) <> s_before[1] THEN
            true_streams := s_stream;
            true_versions := ARRAY[coalesce(known_version, 0)];
        END IF;
    ELSE
        SELECT array_agg(given.stream), array_agg(coalesce(known.version, 0))
            INTO true_streams, true_versions
            FROM unnest(s_stream, s_before) AS given (stream, before)
            LEFT JOIN streams AS known ON known.stream = given.stream
            WHERE coalesce(known.version, 0) <> given.before;
    END IF;
    IF true_streams IS NOT NULL THEN
        code := 3;
        RETURN;
    END IF;
    IF added = 1 THEN
        INSERT INTO events (position, version, recorded_at, causation, owner_hash, command_hash,
                schema_version, stream, type, actor_kind, actor_name, actor_via, command_id,
                correlation, leaf, payload)
            VALUES (h_position + 1, e_version[1], b_recorded_at, e_causation[1], e_owner_hash[1],
                e_command_hash[1], e_schema_version[1], e_stream[1], e_type[1], e_actor_kind[1],
                e_actor_name[1], e_actor_via[1], e_command_id[1], e_correlation[1], e_leaf[1],
                e_payload[1]);
        INSERT INTO streams (stream, version, last_position)
            VALUES (s_stream[1], s_version[1], h_position + 1)
            ON CONFLICT (stream) DO UPDATE
            SET version = excluded.version, last_position = excluded.last_position;
    ELSE
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
    END IF;
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
