-- Secrets of connectors, sealed before they come here: those in force, and those staged for the draft. Who
-- changes one holds the connector's lock.

-- name: all
-- List what is set for a connector.
-- $1 team_id text
-- $2 connector_id uuid
SELECT name, key_id, sealed, reference, updated_by, updated_at
FROM connector_secret
WHERE team_id = $1 AND connector_id = $2
ORDER BY name
LIMIT 1000;

-- name: staged
-- List what is kept for a connector's draft.
-- $1 team_id text
-- $2 connector_id uuid
SELECT name, updated_by, updated_at
FROM staged_secret
WHERE team_id = $1 AND connector_id = $2
ORDER BY name
LIMIT 1000;

-- name: drafted
-- List what a connector's draft uses: what is staged, and of other names what is in force.
-- $1 team_id text
-- $2 connector_id uuid
SELECT name, key_id, sealed, reference
FROM drafted_secret
WHERE team_id = $1 AND connector_id = $2
ORDER BY name
LIMIT 1000;

-- name: put
-- Set secrets of a connector: sealed values (as \x and hexadecimal digits) or references.
-- $1 team_id text
-- $2 connector_id uuid
-- $3 secrets jsonb
-- $4 updated_by text
INSERT INTO connector_secret (
    team_id, connector_id, name, key_id, sealed, reference, updated_by
)
SELECT $1, $2, n.name, n.key_id, n.sealed, n.reference, $4
FROM jsonb_populate_recordset(NULL::connector_secret, $3) AS n
ON CONFLICT (connector_id, name) DO UPDATE
SET key_id = EXCLUDED.key_id,
    sealed = EXCLUDED.sealed,
    reference = EXCLUDED.reference,
    updated_by = EXCLUDED.updated_by,
    updated_at = now();

-- name: stage
-- Keep secrets for a connector's draft: sealed values (as \x and hexadecimal digits) or references.
-- $1 team_id text
-- $2 connector_id uuid
-- $3 secrets jsonb
-- $4 updated_by text
INSERT INTO staged_secret (team_id, connector_id, name, key_id, sealed, reference, updated_by)
SELECT $1, $2, n.name, n.key_id, n.sealed, n.reference, $4
FROM jsonb_populate_recordset(NULL::staged_secret, $3) AS n
ON CONFLICT (connector_id, name) DO UPDATE
SET key_id = EXCLUDED.key_id,
    sealed = EXCLUDED.sealed,
    reference = EXCLUDED.reference,
    updated_by = EXCLUDED.updated_by,
    updated_at = now();

-- name: enforce
-- Put in force what is staged for a connector, and stage nothing more.
-- $1 team_id text
-- $2 connector_id uuid
WITH staged AS (
    DELETE FROM staged_secret
    WHERE team_id = $1 AND connector_id = $2
    RETURNING team_id, connector_id, name, key_id, sealed, reference, updated_by
)
INSERT INTO connector_secret (
    team_id, connector_id, name, key_id, sealed, reference, updated_by
)
SELECT n.team_id, n.connector_id, n.name, n.key_id, n.sealed, n.reference, n.updated_by
FROM staged AS n
ON CONFLICT (connector_id, name) DO UPDATE
SET key_id = EXCLUDED.key_id,
    sealed = EXCLUDED.sealed,
    reference = EXCLUDED.reference,
    updated_by = EXCLUDED.updated_by,
    updated_at = now()
RETURNING name;

-- name: discard
-- Forget what is staged for a connector under these names; null: whatever is.
-- $1 team_id text
-- $2 connector_id uuid
-- $3 names text[]
DELETE FROM staged_secret
WHERE team_id = $1 AND connector_id = $2 AND ($3::text[] IS NULL OR name = ANY ($3))
RETURNING name;

-- name: delete
-- Forget a secret of a connector.
-- $1 team_id text
-- $2 connector_id uuid
-- $3 name text
DELETE FROM connector_secret
WHERE team_id = $1 AND connector_id = $2 AND name = $3
RETURNING name;
