-- Sealing every secret anew with another master key, in batches, while the gateway serves.

-- name: batch
-- Lock a batch of secrets that another master key sealed, past the last batch's last one.
-- Across teams: master keys are the operator's.
-- $1 key_id text
-- $2 connector_id uuid
-- $3 name text
-- $4 most bigint
SELECT connector_id, team_id, name, key_id, sealed
FROM connector_secret
WHERE key_id <> $1 AND (connector_id, name) > ($2, $3)
ORDER BY connector_id, name
LIMIT $4
FOR UPDATE SKIP LOCKED;

-- name: left
-- How many secrets another master key sealed.
-- Across teams: master keys are the operator's.
-- $1 key_id text
SELECT count(*) AS left_over
FROM connector_secret
WHERE key_id <> $1;

-- name: reseal
-- Put another sealing of the same value into locked rows; nothing else of a secret changes.
-- Across teams: master keys are the operator's.
-- $1 connector_ids uuid[]
-- $2 names text[]
-- $3 key_ids text[]
-- $4 sealings bytea[]
UPDATE connector_secret AS s
SET key_id = n.key_id, sealed = n.sealed
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[])
    AS n(connector_id, name, key_id, sealed)
WHERE s.connector_id = n.connector_id AND s.name = n.name;
