-- Times never go back along the log, so the position of a time is found by halving: no commit
-- writes an index for it.
DROP INDEX batches_by_time;

-- The last event of the last batch that was recorded at a time or before; 0 when there is none.
CREATE FUNCTION diario_position_at(asked bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    low bigint := 0;
    high bigint;
    middle bigint;
    found bigint := 0;
    batch batches;
BEGIN
    SELECT position INTO high FROM log_head WHERE id = 1;
    WHILE low < high LOOP
        middle := high - (high - low) / 2;
        SELECT * INTO batch FROM batches WHERE first_position <= middle
            ORDER BY first_position DESC LIMIT 1;
        IF batch.first_position IS NULL THEN
            -- Before the first one here.
            low := middle;
        ELSIF batch.recorded_at > asked THEN
            high := batch.first_position - 1;
        ELSE
            found := batch.first_position + batch.event_count - 1;
            low := greatest(middle, found);
        END IF;
    END LOOP;
    RETURN found;
END
$$;
