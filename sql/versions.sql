-- What publishes froze: the versions of a connector. Who publishes holds the connector's lock.

-- name: newest
-- List the versions of a connector, the newest first.
-- $1 team_id text
-- $2 connector_id uuid
-- $3 before integer
-- $4 most bigint
SELECT version, published_at, published_by, note, summary, restored
FROM connector_version
WHERE team_id = $1 AND connector_id = $2 AND version < $3
ORDER BY version DESC
LIMIT $4;

-- name: one
-- A version, whole.
-- $1 team_id text
-- $2 connector_id uuid
-- $3 version integer
SELECT version, snapshot, published_at, published_by, note, summary, restored
FROM connector_version
WHERE team_id = $1 AND connector_id = $2 AND version = $3;

-- name: latest
-- What the last publish froze.
-- $1 team_id text
-- $2 connector_id uuid
SELECT snapshot
FROM connector_version
WHERE team_id = $1 AND connector_id = $2
ORDER BY version DESC
LIMIT 1;

-- name: forget
-- Keep so many of the newest versions of a connector, and what callers get, whichever that is.
-- $1 team_id text
-- $2 connector_id uuid
-- $3 kept bigint
DELETE FROM connector_version AS v
USING service_connector AS c
WHERE v.team_id = $1
    AND v.connector_id = $2
    AND c.id = v.connector_id
    AND v.version IS DISTINCT FROM c.published_version
    AND v.version <= (
        SELECT n.version
        FROM connector_version AS n
        WHERE n.team_id = $1 AND n.connector_id = $2
        ORDER BY n.version DESC
        LIMIT 1
        OFFSET $3
    );
