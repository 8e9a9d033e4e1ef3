-- Objects as the admin API lists and shows them, with what is counted and found out beside them. Its
-- queries are filters on these views.

CREATE VIEW listed_connector AS
SELECT c.team_id, c.id, c.slug, c.status, c.display_name, c.tags, c.definition, c.version,
    c.published_version, c.created_by, c.created_at, c.updated_at, c.published_at,
    (
        SELECT count(*)
        FROM connector_endpoint AS e
        WHERE e.connector_id = c.id AND e.team_id = c.team_id
    ) AS endpoint_count,
    COALESCE((
        SELECT h.status
        FROM gateway_health AS h
        WHERE h.connector_id = c.id AND h.valid_until > now()
    ), 'unknown') AS health
FROM service_connector AS c;

-- Without digests.
CREATE VIEW listed_key AS
SELECT k.team_id, k.id, k.public_id, k.name,
    CASE
        WHEN k.revoked_at IS NOT NULL THEN 'revoked'
        WHEN k.expires_at <= now() THEN 'expired'
        WHEN k.previous_until > now() THEN 'rotating'
        ELSE 'active'
    END AS status,
    k.previous_until, k.plan_id, k.connector_ids, k.allowed_endpoints, k.allowed_ips,
    k.expires_at, k.revoked_at, k.last_used_at, k.version, k.created_by, k.created_at, k.updated_at
FROM gateway_api_key AS k;

-- A key without a plan uses the one named default.
CREATE VIEW listed_plan AS
SELECT p.team_id, p.id, p.name, p.display_name, p.rate_limit, p.rate_window_s, p.burst_limit,
    p.daily_quota, p.monthly_quota, p.max_concurrent, p.max_request_size, p.max_response_size,
    p.allowed_connectors, p.time_zone, p.version, p.created_at, p.updated_at,
    (
        SELECT count(*)
        FROM gateway_api_key AS k
        WHERE k.plan_id = p.id AND k.team_id = p.team_id AND k.revoked_at IS NULL
    ) + CASE WHEN p.name = 'default' THEN (
        SELECT count(*)
        FROM gateway_api_key AS k
        WHERE k.plan_id IS NULL AND k.team_id = p.team_id AND k.revoked_at IS NULL
    ) ELSE 0 END AS key_count
FROM gateway_plan AS p;
