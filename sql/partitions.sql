-- Partitions by day of tables that grow with traffic.

-- name: make
-- Make the partition of a day, when it isn't there.
-- Across teams: it serves the process, not a caller.
-- $1 parent text
-- $2 day date
SELECT make_partition($1, $2);

-- name: drop
-- Drop the days before the first that is kept.
-- Across teams: it serves the process, not a caller.
-- $1 parent text
-- $2 first_kept date
SELECT drop_partitions($1, $2);
