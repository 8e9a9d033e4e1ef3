-- The schema itself: creating it, and the record of its migrations.

-- name: applied_migrations
-- Every migration that this database has.
SELECT number, name, checksum
FROM schema_migration
ORDER BY number;

-- name: create
-- The schema, when it isn't there.
CREATE SCHEMA IF NOT EXISTS plugin_service_gateway;

-- name: create_record
-- The record of migrations, when it isn't there.
CREATE TABLE IF NOT EXISTS plugin_service_gateway.schema_migration (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: lock
-- Wait until no other process migrates.
-- $1 number bigint
SELECT pg_advisory_lock($1);

-- name: record_migration
-- A migration has been applied.
-- $1 number integer
-- $2 name text
-- $3 checksum text
INSERT INTO schema_migration (number, name, checksum)
VALUES ($1, $2, $3);

-- name: unlock
-- Let the next process migrate.
-- $1 number bigint
SELECT pg_advisory_unlock($1);
