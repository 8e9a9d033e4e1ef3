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
-- Requests that reached an upstream in the last two months, by caller, for quotas that are counted in
-- memory: by quarters of an hour where a period of some time zone may begin in between, that is in the
-- last 50 hours and within 15 hours of the beginning of a month, else by months. What is recorded for
-- later was so before the clock was set back.
-- Across teams: it serves the process, not a caller.
-- $1 before timestamptz
SELECT team_id, caller_type, caller_id, min(quarter) AS since, count(*) AS used
FROM (
    SELECT team_id, caller_type, caller_id, at,
        date_bin('15 minutes', at, 'epoch') AS quarter,
        date_trunc('month', at - interval '15 hours', 'UTC') AS earliest,
        date_trunc('month', at + interval '15 hours', 'UTC') AS latest
    FROM gateway_usage_record
    WHERE attempts > 0
        AND at >= $1::timestamptz - interval '63 days'
        AND (at < $1 OR at > now() + interval '1 minute')
) AS recorded
GROUP BY team_id, caller_type, caller_id, earliest, latest,
    CASE WHEN earliest <> latest OR at >= $1::timestamptz - interval '50 hours' THEN quarter END
ORDER BY since;
