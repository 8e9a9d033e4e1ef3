-- What has changed in the configuration, for processes that hold copies of it.

-- name: since
-- What has become visible since a snapshot that this query has told before ($1; null: none), each with
-- its transaction in front, whether there is a telling (`follows`), and the snapshot of now.
-- Across teams: it serves the process, not a caller.
-- $1 seen text
-- $2 most bigint
SELECT pg_current_snapshot()::text AS seen,
    COALESCE(
        pg_snapshot_xmin(pg_current_snapshot()) >= pg_snapshot_xmin($1::text::pg_snapshot), false
    ) AS follows,
    ARRAY(
        SELECT DISTINCT c.transaction || ' ' || c.announcement AS told
        FROM configuration_change AS c
        WHERE c.transaction >= pg_snapshot_xmin($1::text::pg_snapshot)
            AND NOT pg_visible_in_snapshot(c.transaction, $1::text::pg_snapshot)
        ORDER BY told
        LIMIT $2
    ) AS announcements;

-- name: forget
-- Remove what everybody who polls has been told long ago.
-- Across teams: it serves the process, not a caller.
DELETE FROM configuration_change
WHERE changed_at < now() - interval '1 hour';

-- name: ping
-- Say something on the channel, to hear whether it is still heard.
-- $1 text text
SELECT pg_notify('plugin_service_gateway', $1);
