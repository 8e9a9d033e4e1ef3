-- Connectors as the admin API reads and writes them: the working copy, and what a publish froze.

-- name: newest
-- List a team's connectors, the newest first; archived ones only when they are asked for.
-- $1 team_id text
-- $2 filters jsonb
-- $3 before uuid
-- $4 most bigint
SELECT id, slug, status, display_name, tags, definition - 'schemas' AS definition, version,
    published_version, created_by, created_at, updated_at, published_at, endpoint_count, health
FROM listed_connector
WHERE team_id = $1
    AND id < $3
    AND COALESCE(status = $2::jsonb ->> 'status', status <> 'archived')
    AND ($2::jsonb ->> 'tag' IS NULL OR $2::jsonb ->> 'tag' = ANY (tags))
    AND ($2::jsonb ->> 'health' IS NULL OR health = $2::jsonb ->> 'health')
    AND COALESCE(position(
        lower($2::jsonb ->> 'q')
        IN lower(concat_ws(' ', slug, display_name, definition ->> 'upstream_base_url'))
    ) > 0, true)
ORDER BY id DESC
LIMIT $4;

-- name: by_name
-- List a team's connectors in the order of their names.
-- $1 team_id text
-- $2 filters jsonb
-- $3 after_name text
-- $4 after uuid
-- $5 most bigint
SELECT id, slug, status, display_name, tags, definition - 'schemas' AS definition, version,
    published_version, created_by, created_at, updated_at, published_at, endpoint_count, health,
    lower(display_name) AS sort_name
FROM listed_connector
WHERE team_id = $1
    AND (lower(display_name), id) > ($3, $4)
    AND COALESCE(status = $2::jsonb ->> 'status', status <> 'archived')
    AND ($2::jsonb ->> 'tag' IS NULL OR $2::jsonb ->> 'tag' = ANY (tags))
    AND ($2::jsonb ->> 'health' IS NULL OR health = $2::jsonb ->> 'health')
    AND COALESCE(position(
        lower($2::jsonb ->> 'q')
        IN lower(concat_ws(' ', slug, display_name, definition ->> 'upstream_base_url'))
    ) > 0, true)
ORDER BY lower(display_name), id
LIMIT $5;

-- name: one
-- A connector by its id or its slug; among archived ones of one slug the newest, last of all.
-- $1 team_id text
-- $2 id uuid
-- $3 slug text
SELECT *
FROM listed_connector
WHERE team_id = $1 AND (id = $2 OR slug = $3)
ORDER BY status = 'archived', id DESC
LIMIT 1;

-- name: lock
-- The id of the connector that `one` finds, held until the end of the transaction.
-- $1 team_id text
-- $2 id uuid
-- $3 slug text
SELECT c.id
FROM service_connector AS c
WHERE c.team_id = $1 AND (c.id = $2 OR c.slug = $3)
ORDER BY c.status = 'archived', c.id DESC
LIMIT 1
FOR UPDATE;

-- name: named
-- Which of these ids and slugs are the team's; an archived connector has no slug.
-- $1 team_id text
-- $2 ids uuid[]
-- $3 slugs text[]
SELECT id, slug, status
FROM service_connector
WHERE team_id = $1 AND (id = ANY ($2) OR (slug = ANY ($3) AND status <> 'archived'))
ORDER BY status = 'archived', id
LIMIT 10000;

-- name: insert
-- A new draft.
-- $1 team_id text
-- $2 connector jsonb
INSERT INTO service_connector (id, team_id, slug, display_name, tags, definition, created_by)
SELECT n.id, $1, n.slug, n.display_name, n.tags, n.definition, n.created_by
FROM jsonb_populate_record(NULL::service_connector, $2) AS n;

-- name: update
-- New values for a connector, if it still has the version that they were made from.
-- $1 team_id text
-- $2 connector jsonb
UPDATE service_connector AS c
SET slug = n.slug,
    display_name = n.display_name,
    tags = n.tags,
    definition = n.definition,
    version = c.version + 1,
    updated_at = now()
FROM jsonb_populate_record(NULL::service_connector, $2) AS n
WHERE c.team_id = $1 AND c.id = n.id AND c.version = n.version
RETURNING c.version;

-- name: touch
-- A new version of a connector, one of whose endpoints has changed.
-- $1 team_id text
-- $2 id uuid
UPDATE service_connector
SET version = version + 1, updated_at = now()
WHERE team_id = $1 AND id = $2;

-- name: withdraw
-- Make a connector a draft or archive it: callers no longer get it.
-- $1 team_id text
-- $2 id uuid
-- $3 version integer
-- $4 status text
UPDATE service_connector
SET status = $4,
    published_version = NULL,
    published_at = NULL,
    version = version + 1,
    updated_at = now()
WHERE team_id = $1 AND id = $2 AND version = $3
RETURNING version;

-- name: publish
-- From now on callers get the snapshot of the next version.
-- $1 team_id text
-- $2 id uuid
-- $3 version integer
UPDATE service_connector
SET status = 'published',
    version = version + 1,
    published_version = version + 1,
    published_at = now(),
    updated_at = now()
WHERE team_id = $1 AND id = $2 AND version = $3
RETURNING version;

-- name: freeze
-- Keep what a publish froze.
-- $1 team_id text
-- $2 connector_id uuid
-- $3 version integer
-- $4 snapshot jsonb
-- $5 published_by text
-- $6 note text
-- $7 summary text
-- $8 restored integer
INSERT INTO connector_version (
    team_id, connector_id, version, snapshot, published_by, note, summary, restored
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: published
-- What callers get of a connector.
-- $1 team_id text
-- $2 id uuid
SELECT v.snapshot
FROM service_connector AS c
JOIN connector_version AS v ON v.connector_id = c.id AND v.version = c.published_version
WHERE c.team_id = $1 AND c.id = $2;

-- name: purge
-- Remove an archived connector for good, with its endpoints, versions and secrets.
-- $1 team_id text
-- $2 id uuid
-- $3 version integer
DELETE FROM service_connector
WHERE team_id = $1 AND id = $2 AND version = $3 AND status = 'archived'
RETURNING id;
