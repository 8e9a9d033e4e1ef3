-- What the data plane looks up when it isn't in memory. Keys are looked up by their public id
-- before the team is known: these queries are across teams.

-- name: connector
-- A connector by what callers call it: its published snapshot (null for a draft) and its secrets.
-- $1 team_id text
-- $2 slug text
SELECT c.id, c.status, c.display_name, v.snapshot,
    COALESCE((
        SELECT jsonb_agg(jsonb_build_object(
            'name', s.name, 'key_id', s.key_id, 'sealed', encode(s.sealed, 'base64'),
            'reference', s.reference
        ))
        FROM connector_secret AS s
        WHERE s.connector_id = c.id AND s.team_id = c.team_id
    ), '[]') AS secrets
FROM service_connector AS c
LEFT JOIN connector_version AS v
    ON v.connector_id = c.id AND v.version = c.published_version AND c.status = 'published'
WHERE c.team_id = $1 AND c.slug = $2 AND c.status <> 'archived';

-- name: default_plan
-- A team's plan named default.
-- $1 team_id text
SELECT id, name, rate_limit, rate_window_s, burst_limit, daily_quota, monthly_quota,
    max_concurrent, max_request_size, max_response_size, allowed_connectors, time_zone
FROM gateway_plan
WHERE team_id = $1 AND name = 'default';

-- name: key
-- A key by its public id, with its plan or its team's default plan.
-- Across teams: it serves the process, not a caller.
-- $1 public_id text
SELECT k.id, k.team_id, k.public_id, k.digest, k.previous_digest, k.previous_until,
    k.connector_ids, k.allowed_endpoints, k.allowed_ips, k.expires_at, k.revoked_at,
    p.id AS plan_id, p.name AS plan_name, p.rate_limit, p.rate_window_s, p.burst_limit,
    p.daily_quota, p.monthly_quota, p.max_concurrent, p.max_request_size, p.max_response_size,
    p.allowed_connectors, p.time_zone
FROM gateway_api_key AS k
LEFT JOIN gateway_plan AS p
    ON p.team_id = k.team_id
    AND (p.id = k.plan_id OR (k.plan_id IS NULL AND p.name = 'default'))
WHERE k.public_id = $1;
