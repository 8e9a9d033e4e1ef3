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

-- name: timeseries
-- A team's requests from one time (in) to another (not in), by buckets that begin at whole
-- intervals of UTC, the empty ones too. A filter that is null or absent lets everything pass.
-- $1 team_id text
-- $2 since timestamptz
-- $3 until timestamptz
-- $4 length interval
-- $5 filters jsonb
WITH counted AS (
    SELECT date_bin($4, r.at, '1970-01-01 00:00:00+00') AS start,
        count(*) AS requests,
        count(*) FILTER (WHERE r.status >= 400) AS errors,
        ARRAY[
            count(*) FILTER (WHERE r.status < 200),
            count(*) FILTER (WHERE r.status BETWEEN 200 AND 299),
            count(*) FILTER (WHERE r.status BETWEEN 300 AND 399),
            count(*) FILTER (WHERE r.status BETWEEN 400 AND 499),
            count(*) FILTER (WHERE r.status >= 500)
        ] AS statuses,
        percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY r.total_ms)
            AS percentiles_ms,
        sum(r.bytes_in)::bigint AS request_bytes,
        sum(r.bytes_out)::bigint AS response_bytes
    FROM gateway_usage_record AS r
    WHERE r.team_id = $1
        AND r.at >= $2
        AND r.at < $3
        AND (
            $5::jsonb ->> 'connector_id' IS NULL
            OR r.connector_id = ($5::jsonb ->> 'connector_id')::uuid
        )
        AND ($5::jsonb ->> 'connector' IS NULL OR r.connector = $5::jsonb ->> 'connector')
        AND ($5::jsonb ->> 'endpoint' IS NULL OR r.endpoint = $5::jsonb ->> 'endpoint')
        AND (
            $5::jsonb ->> 'key_id' IS NULL
            OR (r.caller_type = 'key' AND r.caller_id = $5::jsonb ->> 'key_id')
        )
        AND ($5::jsonb ->> 'status' IS NULL OR r.status = ($5::jsonb ->> 'status')::smallint)
        AND (
            $5::jsonb ->> 'least_status' IS NULL
            OR (
                r.status >= ($5::jsonb ->> 'least_status')::smallint
                AND r.status < ($5::jsonb ->> 'least_status')::smallint + 100
            )
        )
        AND ($5::jsonb ->> 'source' IS NULL OR r.source = $5::jsonb ->> 'source')
        AND ($5::jsonb ->> 'error_code' IS NULL OR r.error_code = $5::jsonb ->> 'error_code')
    GROUP BY 1
)
SELECT b.start, COALESCE(c.requests, 0) AS requests, COALESCE(c.errors, 0) AS errors,
    COALESCE(c.statuses, '{0,0,0,0,0}') AS statuses, c.percentiles_ms,
    COALESCE(c.request_bytes, 0) AS request_bytes,
    COALESCE(c.response_bytes, 0) AS response_bytes
FROM generate_series(
    date_bin($4, $2, '1970-01-01 00:00:00+00'), $3 - interval '1 microsecond', $4
) AS b (start)
LEFT JOIN counted AS c ON c.start = b.start
ORDER BY b.start;

-- name: records
-- List a team's records from one time (in) to another (not in), the newest first.
-- $1 team_id text
-- $2 since timestamptz
-- $3 until timestamptz
-- $4 filters jsonb
-- $5 before_at timestamptz
-- $6 before text
-- $7 most bigint
SELECT r.at, r.request_id, r.trace_id, r.connector_id, r.connector, r.endpoint, r.method,
    r.caller_type, r.caller_id, r.status, r.source, r.error_code, r.total_ms, r.upstream_ms,
    r.first_byte_ms, r.own_ms, r.bytes_in, r.bytes_out, r.attempts, r.cached, r.client_gone,
    r.target, r.client_address, r.replayed
FROM gateway_usage_record AS r
WHERE r.team_id = $1
    AND r.at >= $2
    AND r.at < $3
    AND r.at <= $5
    AND (r.at, r.request_id) < ($5, $6)
    AND (
        $4::jsonb ->> 'connector_id' IS NULL
        OR r.connector_id = ($4::jsonb ->> 'connector_id')::uuid
    )
    AND ($4::jsonb ->> 'connector' IS NULL OR r.connector = $4::jsonb ->> 'connector')
    AND ($4::jsonb ->> 'endpoint' IS NULL OR r.endpoint = $4::jsonb ->> 'endpoint')
    AND ($4::jsonb ->> 'method' IS NULL OR r.method = $4::jsonb ->> 'method')
    AND (
        $4::jsonb ->> 'key_id' IS NULL
        OR (r.caller_type = 'key' AND r.caller_id = $4::jsonb ->> 'key_id')
    )
    AND ($4::jsonb ->> 'status' IS NULL OR r.status = ($4::jsonb ->> 'status')::smallint)
    AND (
        $4::jsonb ->> 'least_status' IS NULL
        OR (
            r.status >= ($4::jsonb ->> 'least_status')::smallint
            AND r.status < ($4::jsonb ->> 'least_status')::smallint + 100
        )
    )
    AND ($4::jsonb ->> 'source' IS NULL OR r.source = $4::jsonb ->> 'source')
    AND ($4::jsonb ->> 'error_code' IS NULL OR r.error_code = $4::jsonb ->> 'error_code')
    AND ($4::jsonb ->> 'min_ms' IS NULL OR r.total_ms >= ($4::jsonb ->> 'min_ms')::real)
    AND (
        $4::jsonb ->> 'request_id' IS NULL
        OR r.request_id LIKE replace($4::jsonb ->> 'request_id', '_', '\_') || '%'
    )
ORDER BY r.at DESC, r.request_id DESC
LIMIT $7;

-- name: record
-- The last record of a request id.
-- $1 team_id text
-- $2 request_id text
SELECT r.at, r.request_id, r.trace_id, r.connector_id, r.connector, r.endpoint, r.method,
    r.caller_type, r.caller_id, r.status, r.source, r.error_code, r.total_ms, r.upstream_ms,
    r.first_byte_ms, r.own_ms, r.bytes_in, r.bytes_out, r.attempts, r.cached, r.client_gone,
    r.target, r.client_address, r.replayed
FROM gateway_usage_record AS r
WHERE r.team_id = $1 AND r.request_id = $2
ORDER BY r.at DESC
LIMIT 1;
