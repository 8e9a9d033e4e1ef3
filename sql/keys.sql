-- Keys as the admin API reads and writes them: never with their digest.

-- name: newest
-- List a team's keys, the newest first.
-- $1 team_id text
-- $2 filters jsonb
-- $3 before uuid
-- $4 most bigint
SELECT *
FROM listed_key
WHERE team_id = $1
    AND id < $3
    AND COALESCE(status = $2::jsonb ->> 'status', true)
    AND COALESCE(plan_id = ($2::jsonb ->> 'plan_id')::uuid, $2::jsonb ->> 'plan_id' IS NULL)
    AND (
        $2::jsonb ->> 'connector_id' IS NULL
        OR ($2::jsonb ->> 'connector_id')::uuid = ANY (connector_ids)
    )
    AND (
        $2::jsonb ->> 'q' IS NULL
        OR position(lower($2::jsonb ->> 'q') IN lower(name)) > 0
        OR public_id = $2::jsonb ->> 'public_id'
    )
ORDER BY id DESC
LIMIT $4;

-- name: by_name
-- List a team's keys in the order of their names.
-- $1 team_id text
-- $2 filters jsonb
-- $3 after_name text
-- $4 after uuid
-- $5 most bigint
SELECT *, lower(name) AS sort_name
FROM listed_key
WHERE team_id = $1
    AND (lower(name), id) > ($3, $4)
    AND COALESCE(status = $2::jsonb ->> 'status', true)
    AND COALESCE(plan_id = ($2::jsonb ->> 'plan_id')::uuid, $2::jsonb ->> 'plan_id' IS NULL)
    AND (
        $2::jsonb ->> 'connector_id' IS NULL
        OR ($2::jsonb ->> 'connector_id')::uuid = ANY (connector_ids)
    )
    AND (
        $2::jsonb ->> 'q' IS NULL
        OR position(lower($2::jsonb ->> 'q') IN lower(name)) > 0
        OR public_id = $2::jsonb ->> 'public_id'
    )
ORDER BY lower(name), id
LIMIT $5;

-- name: one
-- A key by its id.
-- $1 team_id text
-- $2 id uuid
SELECT *
FROM listed_key
WHERE team_id = $1 AND id = $2;

-- name: lock
-- Hold a key until the end of the transaction.
-- $1 team_id text
-- $2 id uuid
SELECT id
FROM gateway_api_key
WHERE team_id = $1 AND id = $2
FOR UPDATE;

-- name: insert
-- A new key, of whose value only the digest is kept.
-- $1 team_id text
-- $2 key jsonb
-- $3 digest bytea
INSERT INTO gateway_api_key (
    id, team_id, public_id, name, digest, plan_id, connector_ids, allowed_endpoints, allowed_ips,
    expires_at, created_by
)
SELECT n.id, $1, n.public_id, n.name, $3, n.plan_id, n.connector_ids, n.allowed_endpoints,
    n.allowed_ips, n.expires_at, n.created_by
FROM jsonb_populate_record(NULL::gateway_api_key, $2) AS n;

-- name: update
-- New values for a key, if it still has the version that they were made from.
-- $1 team_id text
-- $2 key jsonb
UPDATE gateway_api_key AS k
SET name = n.name,
    plan_id = n.plan_id,
    connector_ids = n.connector_ids,
    allowed_endpoints = n.allowed_endpoints,
    allowed_ips = n.allowed_ips,
    expires_at = n.expires_at,
    version = k.version + 1,
    updated_at = now()
FROM jsonb_populate_record(NULL::gateway_api_key, $2) AS n
WHERE k.team_id = $1 AND k.id = n.id AND k.version = n.version
RETURNING k.version;

-- name: rotate
-- A new value for a key; the old one works for some seconds more, or not at all.
-- $1 team_id text
-- $2 id uuid
-- $3 version integer
-- $4 digest bytea
-- $5 grace_s integer
UPDATE gateway_api_key
SET previous_digest = CASE WHEN $5 > 0 THEN digest END,
    previous_until = CASE WHEN $5 > 0 THEN now() + make_interval(secs => $5) END,
    digest = $4,
    version = version + 1,
    updated_at = now()
WHERE team_id = $1 AND id = $2 AND version = $3
RETURNING version;

-- name: end_grace
-- Put an end to the value before the last rotation.
-- $1 team_id text
-- $2 id uuid
-- $3 version integer
UPDATE gateway_api_key
SET previous_digest = NULL,
    previous_until = NULL,
    version = version + 1,
    updated_at = now()
WHERE team_id = $1 AND id = $2 AND version = $3
RETURNING version;

-- name: revoke
-- Put an end to a key, its old value included.
-- $1 team_id text
-- $2 id uuid
-- $3 version integer
UPDATE gateway_api_key
SET revoked_at = now(),
    previous_digest = NULL,
    previous_until = NULL,
    version = version + 1,
    updated_at = now()
WHERE team_id = $1 AND id = $2 AND version = $3
RETURNING version;

-- name: leave_plan
-- Take revoked keys off a plan, which they no longer need.
-- $1 team_id text
-- $2 plan_id uuid
UPDATE gateway_api_key
SET plan_id = NULL
WHERE team_id = $1 AND plan_id = $2 AND revoked_at IS NOT NULL;

-- name: move_plan
-- Put the keys of a plan on another one.
-- $1 team_id text
-- $2 plan_id uuid
-- $3 replacement_id uuid
UPDATE gateway_api_key
SET plan_id = $3, version = version + 1, updated_at = now()
WHERE team_id = $1 AND plan_id = $2 AND revoked_at IS NULL;
