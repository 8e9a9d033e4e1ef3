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
