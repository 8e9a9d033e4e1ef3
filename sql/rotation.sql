-- Sealing every value anew with another master key, in batches, while the gateway serves. Secrets of
-- connectors and tokens of sessions are told alike: an id, and the place that a value was sealed for.

-- name: secrets
-- Lock a batch of secrets that another master key sealed, past the last batch's last one.
-- Across teams: master keys are the operator's.
-- $1 key_id text
-- $2 id uuid
-- $3 name text
-- $4 most bigint
SELECT connector_id AS id, team_id, connector_id::text AS connector, name, key_id, sealed
FROM connector_secret
WHERE key_id <> $1 AND (connector_id, name) > ($2, $3)
ORDER BY connector_id, name
LIMIT $4
FOR UPDATE SKIP LOCKED;

-- name: staged
-- Lock a batch of staged secrets that another master key sealed, past the last batch's last one.
-- Across teams: master keys are the operator's.
-- $1 key_id text
-- $2 id uuid
-- $3 name text
-- $4 most bigint
SELECT connector_id AS id, team_id, connector_id::text AS connector, name, key_id, sealed
FROM staged_secret
WHERE key_id <> $1 AND (connector_id, name) > ($2, $3)
ORDER BY connector_id, name
LIMIT $4
FOR UPDATE SKIP LOCKED;

-- name: sessions
-- Lock a batch of sessions that another master key sealed, past the last batch's last one.
-- Across teams: master keys are the operator's.
-- $1 key_id text
-- $2 id uuid
-- $3 name text
-- $4 most bigint
SELECT id, '' AS team_id, 'session' AS connector, encode(digest, 'hex') AS name, key_id, sealed
FROM admin_session
WHERE key_id <> $1 AND expires_at > now() AND (id, encode(digest, 'hex')) > ($2, $3)
ORDER BY id
LIMIT $4
FOR UPDATE SKIP LOCKED;

-- name: left
-- How many secrets and sessions another master key sealed.
-- Across teams: master keys are the operator's.
-- $1 key_id text
SELECT (SELECT count(*) FROM connector_secret WHERE key_id <> $1)
    + (SELECT count(*) FROM staged_secret WHERE key_id <> $1)
    + (SELECT count(*) FROM admin_session WHERE key_id <> $1 AND expires_at > now()) AS left_over;

-- name: reseal_secrets
-- Put another sealing of the same value into locked rows; nothing else of a secret changes.
-- Across teams: master keys are the operator's.
-- $1 ids uuid[]
-- $2 names text[]
-- $3 key_ids text[]
-- $4 sealings bytea[]
UPDATE connector_secret AS s
SET key_id = n.key_id, sealed = n.sealed
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[]) AS n(id, name, key_id, sealed)
WHERE s.connector_id = n.id AND s.name = n.name;

-- name: reseal_staged
-- Put another sealing of the same value into locked rows of staged secrets.
-- Across teams: master keys are the operator's.
-- $1 ids uuid[]
-- $2 names text[]
-- $3 key_ids text[]
-- $4 sealings bytea[]
UPDATE staged_secret AS s
SET key_id = n.key_id, sealed = n.sealed
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[]) AS n(id, name, key_id, sealed)
WHERE s.connector_id = n.id AND s.name = n.name;

-- name: reseal_sessions
-- Put another sealing of the same token into locked rows.
-- Across teams: master keys are the operator's.
-- $1 ids uuid[]
-- $2 names text[]
-- $3 key_ids text[]
-- $4 sealings bytea[]
UPDATE admin_session AS s
SET key_id = n.key_id, sealed = n.sealed
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[]) AS n(id, name, key_id, sealed)
WHERE s.id = n.id AND encode(s.digest, 'hex') = n.name;
