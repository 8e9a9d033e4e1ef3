-- Partitions by day (UTC) are made and dropped alike for every table that has them: its rows have a
-- time `at`, and those whose day has no partition are in <table>_other.

CREATE FUNCTION make_partition(parent text, day date) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('make_partition ' || parent));
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
        parent || to_char(day, '_YYYYMMDD'),
        parent,
        to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00',
        to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00'
    );
EXCEPTION WHEN check_violation THEN
    -- The day's first rows came before its partition and are in the one for all others.
    NULL;
END
$$;

CREATE FUNCTION drop_partitions(parent text, first_kept date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    partition text;
BEGIN
    FOR partition IN
        SELECT c.relname
        FROM pg_inherits AS i
        JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = parent::regclass
            AND c.relname ~ ('^' || parent || '_\d{8}$')
            AND c.relname < parent || to_char(first_kept, '_YYYYMMDD')
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE %I', partition);
    END LOOP;
    EXECUTE format('DELETE FROM %I WHERE at < $1', parent || '_other') USING first_kept;
END
$$;

DROP FUNCTION make_usage_partition(date);
DROP FUNCTION drop_usage_partitions(date);
DROP FUNCTION make_health_partition(date);
DROP FUNCTION drop_health_partitions(date);
