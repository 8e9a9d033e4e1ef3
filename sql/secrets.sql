-- Secrets of connectors, sealed before they come here. Who changes one holds the connector's lock.

-- name: all
-- List what is set for a connector.
-- $1 team_id text
-- $2 connector_id uuid
SELECT name, key_id, sealed, reference, updated_by, updated_at
FROM connector_secret
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

-- name: delete
-- Forget a secret of a connector.
-- $1 team_id text
-- $2 connector_id uuid
-- $3 name text
DELETE FROM connector_secret
WHERE team_id = $1 AND connector_id = $2 AND name = $3
RETURNING name;
