-- The endpoints of a connector's working copy. Who changes one holds the connector's lock.

-- name: newest
-- List a connector's endpoints, the newest first.
-- $1 team_id text
-- $2 filters jsonb
-- $3 before uuid
-- $4 most bigint
SELECT id, name, method, path, enabled, definition, version, created_at, updated_at
FROM connector_endpoint
WHERE team_id = $1
    AND connector_id = ($2::jsonb ->> 'connector_id')::uuid
    AND id < $3
    AND COALESCE(position(
        lower($2::jsonb ->> 'q') IN lower(concat_ws(' ', name, method, path))
    ) > 0, true)
ORDER BY id DESC
LIMIT $4;

-- name: by_name
-- List a connector's endpoints in the order of their names.
-- $1 team_id text
-- $2 filters jsonb
-- $3 after_name text
-- $4 after uuid
-- $5 most bigint
SELECT id, name, method, path, enabled, definition, version, created_at, updated_at,
    lower(name) AS sort_name
FROM connector_endpoint
WHERE team_id = $1
    AND connector_id = ($2::jsonb ->> 'connector_id')::uuid
    AND (lower(name), id) > ($3, $4)
    AND COALESCE(position(
        lower($2::jsonb ->> 'q') IN lower(concat_ws(' ', name, method, path))
    ) > 0, true)
ORDER BY lower(name), id
LIMIT $5;

-- name: all
-- List every endpoint of a connector; the admin API lets it have fewer than this.
-- $1 team_id text
-- $2 connector_id uuid
SELECT id, name, method, path, enabled, definition
FROM connector_endpoint
WHERE team_id = $1 AND connector_id = $2
ORDER BY id
LIMIT 10000;

-- name: one
-- An endpoint by its id.
-- $1 team_id text
-- $2 connector_id uuid
-- $3 id uuid
SELECT id, name, method, path, enabled, definition, version, created_at, updated_at
FROM connector_endpoint
WHERE team_id = $1 AND connector_id = $2 AND id = $3;

-- name: insert
-- New endpoints of a connector.
-- $1 team_id text
-- $2 connector_id uuid
-- $3 endpoints jsonb
INSERT INTO connector_endpoint (
    id, team_id, connector_id, name, method, path, enabled, definition
)
SELECT n.id, $1, $2, n.name, n.method, n.path, n.enabled, n.definition
FROM jsonb_populate_recordset(NULL::connector_endpoint, $3) AS n;

-- name: update
-- New values for an endpoint, if it still has the version that they were made from.
-- $1 team_id text
-- $2 endpoint jsonb
UPDATE connector_endpoint AS e
SET name = n.name,
    method = n.method,
    path = n.path,
    enabled = n.enabled,
    definition = n.definition,
    version = e.version + 1,
    updated_at = now()
FROM jsonb_populate_record(NULL::connector_endpoint, $2) AS n
WHERE e.team_id = $1 AND e.id = n.id AND e.version = n.version
RETURNING e.version;

-- name: delete
-- Remove an endpoint from the working copy, if it still has this version.
-- $1 team_id text
-- $2 id uuid
-- $3 version integer
DELETE FROM connector_endpoint
WHERE team_id = $1 AND id = $2 AND version = $3
RETURNING id;

-- name: named
-- Which of these names and ids are endpoints of these connectors (of any, when none is given).
-- $1 team_id text
-- $2 connector_ids uuid[]
-- $3 names text[]
-- $4 ids uuid[]
WITH endpoint AS (
    SELECT e.id, e.name
    FROM service_connector AS c
    JOIN connector_endpoint AS e ON e.connector_id = c.id AND e.team_id = c.team_id
    WHERE c.team_id = $1
        AND (cardinality($2::uuid[]) = 0 OR c.id = ANY ($2))
        AND (e.name = ANY ($3) OR e.id = ANY ($4))
)
SELECT name
FROM endpoint
UNION
SELECT id::text
FROM endpoint
ORDER BY name
LIMIT 10000;

-- name: remove
-- Take endpoints out of a connector's working copy, whichever version they have.
-- $1 team_id text
-- $2 connector_id uuid
-- $3 ids uuid[]
DELETE FROM connector_endpoint
WHERE team_id = $1 AND connector_id = $2 AND id = ANY ($3)
RETURNING id, created_at;

-- name: put_back
-- Endpoints as they once were, with their ids, and a version that none of them has had.
-- $1 team_id text
-- $2 connector_id uuid
-- $3 endpoints jsonb
INSERT INTO connector_endpoint (
    id, team_id, connector_id, name, method, path, enabled, definition, version, created_at
)
SELECT n.id, $1, $2, n.name, n.method, n.path, n.enabled, n.definition, n.version,
    COALESCE(n.created_at, now())
FROM jsonb_populate_recordset(NULL::connector_endpoint, $3) AS n;
