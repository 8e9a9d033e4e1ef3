-- The declared state of a team: what a document can hold, read whole, and which document was last.

-- name: lock
-- Wait until no other document is applied to the team; held until the end of the transaction.
-- $1 team_id text
SELECT pg_advisory_xact_lock(hashtextextended('apply to team ' || $1, 0));

-- name: connectors
-- List the connectors that have a tag or one of these slugs; all of them when the tag is empty.
-- $1 team_id text
-- $2 tag text
-- $3 slugs text[]
SELECT id, slug, status, display_name, tags, definition, version, published_version
FROM service_connector
WHERE team_id = $1
    AND status <> 'archived'
    AND ($2 = '' OR $2 = ANY (tags) OR slug = ANY ($3))
ORDER BY slug
LIMIT 1000000;

-- name: endpoints
-- List the endpoints of these connectors.
-- $1 team_id text
-- $2 connector_ids uuid[]
SELECT connector_id, id, name, method, path, enabled, definition
FROM connector_endpoint
WHERE team_id = $1 AND connector_id = ANY ($2)
ORDER BY connector_id, name
LIMIT 1000000;

-- name: secrets
-- List what the drafts of these connectors use; of a sealed value not even that is read.
-- $1 team_id text
-- $2 connector_ids uuid[]
SELECT connector_id, name, reference
FROM drafted_secret
WHERE team_id = $1 AND connector_id = ANY ($2)
ORDER BY connector_id, name
LIMIT 1000000;

-- name: slugs
-- List what the team's connectors are called.
-- $1 team_id text
SELECT id, slug
FROM service_connector
WHERE team_id = $1 AND status <> 'archived'
ORDER BY slug
LIMIT 1000000;

-- name: plans
-- List the team's plans.
-- $1 team_id text
SELECT id, name, display_name, rate_limit, rate_window_s, burst_limit, daily_quota,
    monthly_quota, max_concurrent, max_request_size, max_response_size, allowed_connectors,
    time_zone, version
FROM gateway_plan
WHERE team_id = $1
ORDER BY name
LIMIT 1000000;

-- name: keys
-- List the team's keys that are not revoked.
-- $1 team_id text
SELECT id, public_id, name, plan_id, connector_ids, allowed_endpoints, allowed_ips, expires_at,
    version,
    CASE
        WHEN expires_at <= now() THEN 'expired'
        WHEN previous_until > now() THEN 'rotating'
        ELSE 'active'
    END AS status
FROM gateway_api_key
WHERE team_id = $1 AND revoked_at IS NULL
ORDER BY name, id
LIMIT 1000000;

-- name: applied
-- The document that was applied last to a team, or to what has a tag.
-- $1 team_id text
-- $2 tag text
SELECT revision, digest
FROM applied_document
WHERE team_id = $1 AND tag = $2;

-- name: remember
-- This document is the last one now.
-- $1 team_id text
-- $2 tag text
-- $3 revision bigint
-- $4 digest text
-- $5 applied_by text
INSERT INTO applied_document (team_id, tag, revision, digest, applied_by)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (team_id, tag) DO UPDATE
SET revision = EXCLUDED.revision,
    digest = EXCLUDED.digest,
    applied_by = EXCLUDED.applied_by,
    applied_at = now();
