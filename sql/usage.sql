-- What the dashboards ask of usage.

-- name: summary
-- A team's totals, latencies and busiest connectors from one time (in) to another (not in).
-- $1 team_id text
-- $2 since timestamptz
-- $3 until timestamptz
SELECT count(*) AS total_requests,
    count(*) FILTER (WHERE r.status >= 400) AS error_count,
    COALESCE(sum(r.bytes_in), 0)::bigint AS total_request_bytes,
    COALESCE(sum(r.bytes_out), 0)::bigint AS total_response_bytes,
    avg(r.total_ms) AS avg_latency_ms,
    avg(r.upstream_ms) FILTER (WHERE r.attempts > 0) AS avg_upstream_latency_ms,
    percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY r.total_ms) AS percentiles_ms,
    (
        SELECT COALESCE(jsonb_agg(t ORDER BY t.requests DESC, t.id), '[]')
        FROM (
            SELECT c.connector_id AS id, max(c.connector) AS slug, count(*) AS requests,
                count(*) FILTER (WHERE c.status >= 400) AS errors,
                avg(c.total_ms) AS avg_latency_ms
            FROM gateway_usage_record AS c
            WHERE c.team_id = $1 AND c.at >= $2 AND c.at < $3 AND c.connector_id IS NOT NULL
            GROUP BY c.connector_id
            ORDER BY count(*) DESC, c.connector_id
            LIMIT 10
        ) AS t
    ) AS top_connectors
FROM gateway_usage_record AS r
WHERE r.team_id = $1 AND r.at >= $2 AND r.at < $3;
