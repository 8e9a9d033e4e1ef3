-- Active health checks: when each published connector is to be checked, how it and its targets are,
-- and what every check found.

-- One row for each published connector that has a health check path. Whoever moves due_at on does the
-- check: so each is done by one process, and when that dies another does the next.
CREATE TABLE gateway_health (
    connector_id uuid PRIMARY KEY REFERENCES service_connector ON DELETE CASCADE,
    team_id text NOT NULL,
    due_at timestamptz NOT NULL,
    status text NOT NULL DEFAULT 'unknown'
        CONSTRAINT gateway_health_status_check CHECK (status IN (
            'unknown',   -- not checked yet
            'healthy',   -- every target answers well
            'degraded',  -- some do, or slowly
            'unhealthy'  -- none does
        )),
    since timestamptz NOT NULL DEFAULT now(),
    checked_at timestamptz,
    latency_ms real,
    valid_until timestamptz NOT NULL DEFAULT now(), -- afterwards nothing is known any more
    changed_at timestamptz NOT NULL DEFAULT now()   -- when processes have to read it anew
);
-- serves health.claim
CREATE INDEX gateway_health_due_idx ON gateway_health (due_at);
-- serves health.standings
CREATE INDEX gateway_health_changed_idx ON gateway_health (changed_at);

CREATE TABLE gateway_health_target (
    connector_id uuid NOT NULL REFERENCES gateway_health ON DELETE CASCADE,
    team_id text NOT NULL,
    target text NOT NULL,           -- host:port
    status text NOT NULL,
    contrary integer NOT NULL,      -- checks in a row that were worse; below zero: better
    since timestamptz NOT NULL,
    checked_at timestamptz NOT NULL,
    status_code smallint,           -- null: no answer
    latency_ms real,
    error text NOT NULL,
    PRIMARY KEY (connector_id, target)
);

-- One row for each check of a target. The id is a UUIDv7 of the time `at`: they have one order.
CREATE TABLE gateway_health_check (
    connector_id uuid NOT NULL,
    at timestamptz NOT NULL,
    id uuid NOT NULL,
    team_id text NOT NULL,
    target text NOT NULL,
    status text NOT NULL,
    status_code smallint,
    latency_ms real,
    error text NOT NULL,
    PRIMARY KEY (connector_id, at, id)
) PARTITION BY RANGE (at);
-- Rows whose day has no partition yet, such as those of a machine with a wrong clock.
CREATE TABLE gateway_health_check_other PARTITION OF gateway_health_check DEFAULT;

-- What the checks of a quarter of an hour came to: a list need not read a day of checks.
CREATE TABLE gateway_health_quarter (
    connector_id uuid NOT NULL REFERENCES service_connector ON DELETE CASCADE,
    at timestamptz NOT NULL,
    team_id text NOT NULL,
    checks integer NOT NULL,
    passed integer NOT NULL,
    worst integer NOT NULL,         -- 1 healthy, 2 degraded, 3 unhealthy
    PRIMARY KEY (connector_id, at)
) WITH (fillfactor = 80);
-- serves drop_health_partitions
CREATE INDEX gateway_health_quarter_at_idx ON gateway_health_quarter (at);

-- A publish has the connector checked at once; one that callers no longer get is checked no more.
CREATE FUNCTION schedule_health() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    is_checked boolean := EXISTS (
        SELECT
        FROM service_connector AS c
        JOIN connector_version AS v ON v.connector_id = c.id AND v.version = c.published_version
        WHERE c.id = NEW.id
            AND c.status = 'published'
            AND v.snapshot -> 'definition' ->> 'health_check_path' IS NOT NULL
    );
BEGIN
    IF is_checked THEN
        INSERT INTO gateway_health (connector_id, team_id, due_at)
        VALUES (NEW.id, NEW.team_id, now())
        ON CONFLICT (connector_id) DO UPDATE SET due_at = now();
    ELSE
        DELETE FROM gateway_health WHERE connector_id = NEW.id;
    END IF;
    RETURN NULL;
END
$$;

-- At the end of the transaction: the version that is published is frozen within it.
CREATE CONSTRAINT TRIGGER schedule_health AFTER INSERT OR UPDATE OF status, published_version
    ON service_connector DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION schedule_health();

INSERT INTO gateway_health (connector_id, team_id, due_at)
SELECT c.id, c.team_id, now() + random() * interval '1 minute'
FROM service_connector AS c
JOIN connector_version AS v ON v.connector_id = c.id AND v.version = c.published_version
WHERE c.status = 'published' AND v.snapshot -> 'definition' ->> 'health_check_path' IS NOT NULL;

-- A connector's last day of quarters: how many checks there were, how many found a target well enough,
-- and the worst of each quarter, the oldest first, null where there was none.
CREATE FUNCTION health_of_day(
    team text, connector uuid, OUT checks bigint, OUT passed bigint, OUT strip text[]
) LANGUAGE sql STABLE AS $$
    WITH q AS MATERIALIZED (
        SELECT k.at, k.checks, k.passed, k.worst
        FROM gateway_health_quarter AS k
        WHERE k.connector_id = connector
            AND k.team_id = team
            AND k.at > now() - interval '1 day'
    )
    SELECT COALESCE(sum(q.checks), 0)::bigint, COALESCE(sum(q.passed), 0)::bigint,
        array_agg((ARRAY['healthy', 'degraded', 'unhealthy'])[q.worst] ORDER BY slot.at)
    FROM generate_series(
        date_bin('15 minutes', now(), 'epoch') - interval '23 hours 45 minutes',
        date_bin('15 minutes', now(), 'epoch'),
        interval '15 minutes'
    ) AS slot (at)
    LEFT JOIN q ON q.at = slot.at
$$;

-- Partitions of gateway_health_check, as those of gateway_usage_record.
CREATE FUNCTION make_health_partition(day date) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('make_health_partition'));
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS gateway_health_check_%s PARTITION OF gateway_health_check '
        'FOR VALUES FROM (%L) TO (%L)',
        to_char(day, 'YYYYMMDD'),
        to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00',
        to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00'
    );
EXCEPTION WHEN check_violation THEN
    -- The day's first rows came before its partition and are in gateway_health_check_other.
    NULL;
END
$$;

CREATE FUNCTION drop_health_partitions(first_kept date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    partition text;
BEGIN
    FOR partition IN
        SELECT c.relname
        FROM pg_inherits AS i
        JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'gateway_health_check'::regclass
            AND c.relname ~ '^gateway_health_check_\d{8}$'
            AND c.relname < 'gateway_health_check_' || to_char(first_kept, 'YYYYMMDD')
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE %I', partition);
    END LOOP;
    DELETE FROM gateway_health_check_other WHERE at < first_kept;
    DELETE FROM gateway_health_quarter WHERE at < now() - interval '25 hours';
END
$$;
