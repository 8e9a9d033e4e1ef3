-- Active health checks: which are due, what they found, and what is told of it.

-- name: claim
-- Published connectors whose check is due, for whoever is first: of the teams that which has the fewest
-- checks under way is next, and none gets more of them than its share. Each is due again after an
-- interval; one that stays unhealthy as long after as it has been so, at most $3 intervals, but for one
-- whose last check found it better.
-- Across teams: it serves the process, not a caller.
-- $1 most bigint
-- $2 interval_s double precision
-- $3 most_intervals double precision
-- $4 share bigint
-- $5 team_ids text[]
-- $6 under_way bigint[]
WITH ready AS (
    SELECT connector_id, team_id, due_at,
        row_number() OVER (PARTITION BY team_id ORDER BY due_at) AS turn
    FROM gateway_health
    WHERE due_at <= now()
), fair AS (
    SELECT r.connector_id, r.due_at, r.turn + COALESCE(t.under_way, 0) AS turn
    FROM ready AS r
    LEFT JOIN unnest($5::text[], $6::bigint[]) AS t (team_id, under_way) ON t.team_id = r.team_id
    WHERE r.turn <= $4 AND r.turn + COALESCE(t.under_way, 0) <= $4
), due AS (
    SELECT h.connector_id
    FROM fair AS f
    JOIN gateway_health AS h ON h.connector_id = f.connector_id
    WHERE h.due_at <= now()
    ORDER BY f.turn, f.due_at
    LIMIT $1
    FOR UPDATE OF h SKIP LOCKED
), claimed AS (
    UPDATE gateway_health AS h
    SET due_at = now() + (0.9 + 0.2 * random()) * CASE
        WHEN h.status = 'unhealthy' AND NOT EXISTS (
            SELECT
            FROM gateway_health_target AS t
            WHERE t.connector_id = h.connector_id AND t.contrary < 0
        ) THEN least(
            greatest(now() - h.since, $2 * interval '1 second'),
            $2 * $3 * interval '1 second'
        )
        ELSE $2 * interval '1 second'
    END
    FROM due
    WHERE h.connector_id = due.connector_id
    RETURNING h.connector_id
)
SELECT c.id, c.team_id, c.slug, v.snapshot -> 'definition' AS definition,
    COALESCE((
        SELECT jsonb_agg(jsonb_build_object(
            'name', s.name, 'key_id', s.key_id, 'sealed', encode(s.sealed, 'base64'),
            'reference', s.reference
        ))
        FROM connector_secret AS s
        WHERE s.connector_id = c.id AND s.team_id = c.team_id
    ), '[]') AS secrets
FROM claimed
JOIN service_connector AS c ON c.id = claimed.connector_id
JOIN connector_version AS v ON v.connector_id = c.id AND v.version = c.published_version;

-- name: checkable
-- List a team's connectors that are checked, those checked longest ago first: all, or those of these
-- ids.
-- $1 team_id text
-- $2 ids uuid[]
-- $3 most bigint
SELECT c.id, c.team_id, c.slug, v.snapshot -> 'definition' AS definition,
    COALESCE((
        SELECT jsonb_agg(jsonb_build_object(
            'name', s.name, 'key_id', s.key_id, 'sealed', encode(s.sealed, 'base64'),
            'reference', s.reference
        ))
        FROM connector_secret AS s
        WHERE s.connector_id = c.id AND s.team_id = c.team_id
    ), '[]') AS secrets
FROM gateway_health AS h
JOIN service_connector AS c ON c.id = h.connector_id
JOIN connector_version AS v ON v.connector_id = c.id AND v.version = c.published_version
WHERE h.team_id = $1 AND (cardinality($2::uuid[]) = 0 OR h.connector_id = ANY ($2))
ORDER BY h.checked_at NULLS FIRST, h.connector_id
LIMIT $3;

-- name: lock
-- How connectors and their targets are by now; nobody else changes it until the transaction is over.
-- Across teams: it serves the process, not a caller.
-- $1 connector_ids uuid[]
SELECT h.connector_id, h.status, h.valid_until > now() AS is_valid,
    COALESCE((
        SELECT jsonb_object_agg(t.target, jsonb_build_array(t.status, t.contrary))
        FROM gateway_health_target AS t
        WHERE t.connector_id = h.connector_id
    ), '{}') AS targets
FROM gateway_health AS h
WHERE h.connector_id = ANY ($1)
ORDER BY h.connector_id
FOR UPDATE;

-- name: save
-- How connectors are from now on, and until so many seconds after their next check is due.
-- Across teams: it serves the process, not a caller.
-- $1 connectors jsonb
-- $2 valid_s double precision
UPDATE gateway_health AS h
SET status = n.status,
    since = CASE WHEN h.status = n.status THEN h.since ELSE n.checked_at END,
    checked_at = n.checked_at,
    latency_ms = n.latency_ms,
    valid_until = greatest(h.due_at, now()) + $2 * interval '1 second',
    changed_at = CASE WHEN n.is_changed THEN clock_timestamp() ELSE h.changed_at END
FROM jsonb_to_recordset($1::jsonb) AS n (
    connector_id uuid, status text, checked_at timestamptz, latency_ms real, is_changed boolean
)
WHERE h.connector_id = n.connector_id;

-- name: save_targets
-- How targets are from now on.
-- Across teams: it serves the process, not a caller.
-- $1 targets jsonb
INSERT INTO gateway_health_target AS t (
    connector_id, team_id, target, status, contrary, since, checked_at, status_code, latency_ms, error
)
SELECT n.connector_id, n.team_id, n.target, n.status, n.contrary, n.checked_at, n.checked_at,
    n.status_code, n.latency_ms, n.error
FROM jsonb_populate_recordset(NULL::gateway_health_target, $1) AS n
ON CONFLICT (connector_id, target) DO UPDATE
SET status = EXCLUDED.status,
    contrary = EXCLUDED.contrary,
    since = CASE WHEN t.status = EXCLUDED.status THEN t.since ELSE EXCLUDED.since END,
    checked_at = EXCLUDED.checked_at,
    status_code = EXCLUDED.status_code,
    latency_ms = EXCLUDED.latency_ms,
    error = EXCLUDED.error;

-- name: forget_targets
-- Drop the targets of these connectors that are not among those that were checked.
-- Across teams: it serves the process, not a caller.
-- $1 targets jsonb
DELETE FROM gateway_health_target AS t
WHERE t.connector_id IN (
        SELECT n.connector_id FROM jsonb_to_recordset($1::jsonb) AS n (connector_id uuid)
    )
    AND (t.connector_id, t.target) NOT IN (
        SELECT n.connector_id, n.target
        FROM jsonb_to_recordset($1::jsonb) AS n (connector_id uuid, target text)
    );

-- name: record
-- Keep what checks found, but for what is there already, and add it to its quarter of an hour.
-- Across teams: it serves the process, not a caller.
-- $1 checks jsonb
WITH kept AS (
    INSERT INTO gateway_health_check (
        connector_id, at, id, team_id, target, status, status_code, latency_ms, error
    )
    SELECT n.connector_id, n.at, n.id, n.team_id, n.target, n.status, n.status_code, n.latency_ms,
        n.error
    FROM jsonb_populate_recordset(NULL::gateway_health_check, $1) AS n
    ON CONFLICT (connector_id, at, id) DO NOTHING
    RETURNING connector_id, at, team_id, status
)
INSERT INTO gateway_health_quarter AS q (connector_id, at, team_id, checks, passed, worst)
SELECT k.connector_id, date_bin('15 minutes', k.at, 'epoch') AS quarter, k.team_id, count(*),
    count(*) FILTER (WHERE k.status <> 'unhealthy'),
    max(array_position(ARRAY['healthy', 'degraded', 'unhealthy'], k.status))
FROM kept AS k
GROUP BY k.connector_id, quarter, k.team_id
ORDER BY k.connector_id, quarter
ON CONFLICT (connector_id, at) DO UPDATE
SET checks = q.checks + EXCLUDED.checks,
    passed = q.passed + EXCLUDED.passed,
    worst = greatest(q.worst, EXCLUDED.worst);

-- name: standings
-- List how connectors are: those with changes since a time, by id.
-- Across teams: it serves the process, not a caller.
-- $1 since timestamptz
-- $2 after uuid
-- $3 most bigint
SELECT h.connector_id, h.team_id, c.slug, count(*) AS targets,
    COALESCE(array_agg(t.target) FILTER (WHERE t.status = 'unhealthy'), '{}') AS unhealthy
FROM gateway_health AS h
JOIN service_connector AS c ON c.id = h.connector_id
JOIN gateway_health_target AS t ON t.connector_id = h.connector_id
WHERE h.changed_at >= $1 AND h.valid_until > now() AND h.connector_id > $2
GROUP BY h.connector_id, c.slug
ORDER BY h.connector_id
LIMIT $3;

-- name: clock
-- The database's time, which all processes share.
SELECT clock_timestamp() AS now;

-- name: forget_quarters
-- Drop the quarters of an hour that are no longer of the last day.
-- Across teams: it serves the process, not a caller.
DELETE FROM gateway_health_quarter
WHERE at < now() - interval '25 hours';

-- name: newest
-- List how a team's published connectors are, the newest connector first.
-- $1 team_id text
-- $2 filters jsonb
-- $3 before uuid
-- $4 most bigint
WITH page AS (
    SELECT c.id, c.slug, c.display_name, h.connector_id IS NOT NULL AS checked,
        s.status, h.since, h.checked_at, h.latency_ms
    FROM service_connector AS c
    LEFT JOIN LATERAL (
        SELECT g.connector_id, g.status, g.since, g.checked_at, g.latency_ms, g.valid_until
        FROM gateway_health AS g
        WHERE g.connector_id = c.id
        LIMIT 1
    ) AS h ON true
    CROSS JOIN LATERAL (
        SELECT CASE WHEN h.valid_until > now() THEN h.status ELSE 'unknown' END
    ) AS s (status)
    WHERE c.team_id = $1
        AND c.id < $3
        AND c.status = 'published'
        AND COALESCE(s.status = $2::jsonb ->> 'status', true)
        AND COALESCE(position(
            lower($2::jsonb ->> 'q') IN lower(concat_ws(' ', c.slug, c.display_name))
        ) > 0, true)
    ORDER BY c.id DESC
    LIMIT $4
)
SELECT page.*, d.checks, d.passed, d.strip
FROM page
CROSS JOIN LATERAL health_of_day($1, page.id) AS d
ORDER BY page.id DESC;

-- name: by_name
-- List how a team's published connectors are, in the order of their names.
-- $1 team_id text
-- $2 filters jsonb
-- $3 after_name text
-- $4 after uuid
-- $5 most bigint
WITH page AS (
    SELECT c.id, c.slug, c.display_name, h.connector_id IS NOT NULL AS checked,
        s.status, h.since, h.checked_at, h.latency_ms, lower(c.display_name) AS sort_name
    FROM service_connector AS c
    LEFT JOIN LATERAL (
        SELECT g.connector_id, g.status, g.since, g.checked_at, g.latency_ms, g.valid_until
        FROM gateway_health AS g
        WHERE g.connector_id = c.id
        LIMIT 1
    ) AS h ON true
    CROSS JOIN LATERAL (
        SELECT CASE WHEN h.valid_until > now() THEN h.status ELSE 'unknown' END
    ) AS s (status)
    WHERE c.team_id = $1
        AND (lower(c.display_name), c.id) > ($3, $4)
        AND c.status = 'published'
        AND COALESCE(s.status = $2::jsonb ->> 'status', true)
        AND COALESCE(position(
            lower($2::jsonb ->> 'q') IN lower(concat_ws(' ', c.slug, c.display_name))
        ) > 0, true)
    ORDER BY lower(c.display_name), c.id
    LIMIT $5
)
SELECT page.*, d.checks, d.passed, d.strip
FROM page
CROSS JOIN LATERAL health_of_day($1, page.id) AS d
ORDER BY page.sort_name, page.id;

-- name: one
-- How a connector is, published or not.
-- $1 team_id text
-- $2 id uuid
SELECT c.id, c.slug, c.display_name, h.connector_id IS NOT NULL AS checked,
    CASE WHEN h.valid_until > now() THEN h.status ELSE 'unknown' END AS status,
    h.since, h.checked_at, h.latency_ms, d.checks, d.passed, d.strip
FROM service_connector AS c
LEFT JOIN gateway_health AS h ON h.connector_id = c.id
CROSS JOIN LATERAL health_of_day($1, c.id) AS d
WHERE c.team_id = $1 AND c.id = $2;

-- name: targets
-- List the targets of a connector as their checks left them.
-- $1 team_id text
-- $2 connector_id uuid
SELECT t.target, t.status, t.since, t.checked_at, t.status_code, t.latency_ms, t.error
FROM gateway_health_target AS t
WHERE t.team_id = $1 AND t.connector_id = $2
ORDER BY t.target
LIMIT 1000;

-- name: history
-- List the checks of a connector, the newest first.
-- $1 team_id text
-- $2 connector_id uuid
-- $3 before_at timestamptz
-- $4 before uuid
-- $5 most bigint
SELECT at, id, target, status, status_code, latency_ms, error
FROM gateway_health_check
WHERE team_id = $1 AND connector_id = $2 AND (at, id) < ($3, $4)
ORDER BY at DESC, id DESC
LIMIT $5;
