-- The audit log. Rows are written in the transaction of the change that they tell of.

-- name: record
-- Keep what was done, one row for each act.
-- $1 team_id text
-- $2 acts jsonb
INSERT INTO audit_log (
    id, team_id, actor, action, object_type, object_id, request_id, client_address, difference
)
SELECT n.id, $1, n.actor, n.action, n.object_type, n.object_id, n.request_id, n.client_address,
    n.difference
FROM jsonb_populate_recordset(NULL::audit_log, $2) AS n;

-- name: page
-- List what a team did in a time, the newest first; what it is narrowed to is compared whole.
-- $1 team_id text
-- $2 since timestamptz
-- $3 until timestamptz
-- $4 filters jsonb
-- $5 before_at timestamptz
-- $6 before text
-- $7 most bigint
SELECT a.id, a.at, a.actor, a.action, a.object_type, a.object_id, a.request_id, a.client_address,
    a.difference
FROM audit_log AS a
WHERE a.team_id = $1
    AND a.at >= $2
    AND a.at < $3
    AND (a.at, a.id) < ($5, COALESCE(NULLIF($6, ''), 'ffffffff-ffff-ffff-ffff-ffffffffffff')::uuid)
    AND ($4::jsonb ->> 'actor' IS NULL OR a.actor = $4::jsonb ->> 'actor')
    AND ($4::jsonb ->> 'action' IS NULL OR a.action = $4::jsonb ->> 'action')
    AND ($4::jsonb ->> 'object_type' IS NULL OR a.object_type = $4::jsonb ->> 'object_type')
    AND ($4::jsonb ->> 'object_id' IS NULL OR a.object_id = $4::jsonb ->> 'object_id')
    AND (
        $4::jsonb ->> 'q' IS NULL
        OR a.actor = $4::jsonb ->> 'q'
        OR a.action = $4::jsonb ->> 'q'
        OR a.object_id = $4::jsonb ->> 'q'
        OR a.request_id = $4::jsonb ->> 'q'
    )
ORDER BY a.at DESC, a.id DESC
LIMIT $7;
