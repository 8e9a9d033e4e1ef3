-- Writing usage records: batches come by COPY into a staging table, so that a batch that is
-- written twice changes nothing.

-- name: make_staging
-- A table for one batch, seen by this connection alone.
-- Across teams: it serves the process, not a caller.
CREATE TEMPORARY TABLE IF NOT EXISTS usage_staging (LIKE gateway_usage_record)
ON COMMIT DELETE ROWS;

-- name: mark_keys_used
-- When keys were last used, in one statement for many.
-- Across teams: it serves the process, not a caller.
-- $1 ids uuid[]
-- $2 times timestamptz[]
UPDATE gateway_api_key AS k
SET last_used_at = u.at
FROM unnest($1::uuid[], $2::timestamptz[]) AS u (id, at)
WHERE k.id = u.id AND (k.last_used_at IS NULL OR k.last_used_at < u.at);

-- name: merge_staging
-- Take the staged batch, but for the rows that are there already.
-- Across teams: it serves the process, not a caller.
INSERT INTO gateway_usage_record
SELECT *
FROM usage_staging
ON CONFLICT (at, request_id) DO NOTHING;

-- name: used
-- Requests that reached an upstream today and this month, by caller, in their plan's time zone,
-- for quotas that are counted in memory.
-- Across teams: it serves the process, not a caller.
-- $1 before timestamptz
SELECT r.team_id, r.caller_type, r.caller_id, COALESCE(p.time_zone, 'UTC') AS time_zone,
    count(*) FILTER (
        WHERE r.at >= date_trunc('day', $1::timestamptz, COALESCE(p.time_zone, 'UTC'))
    ) AS today,
    count(*) AS this_month
FROM gateway_usage_record AS r
LEFT JOIN gateway_api_key AS k ON r.caller_type = 'key' AND k.id::text = r.caller_id
LEFT JOIN gateway_plan AS p
    ON p.team_id = r.team_id
    AND (p.id = k.plan_id OR (k.plan_id IS NULL AND p.name = 'default'))
WHERE r.at < $1
    AND r.at >= $1 - interval '32 days'
    AND r.at >= date_trunc('month', $1::timestamptz, COALESCE(p.time_zone, 'UTC'))
    AND r.attempts > 0
GROUP BY r.team_id, r.caller_type, r.caller_id, COALESCE(p.time_zone, 'UTC');
