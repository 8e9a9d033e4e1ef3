-- Secrets that are kept for a connector's draft: the next publish puts them in force with the rest.
-- A table of their own, so that whoever serves callers, of whatever version, reads those in force alone.

CREATE TABLE staged_secret (
    connector_id uuid NOT NULL REFERENCES service_connector ON DELETE CASCADE,
    team_id text NOT NULL,
    name text NOT NULL,
    key_id text,
    sealed bytea,
    reference text,
    updated_by text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (connector_id, name),
    CONSTRAINT staged_secret_kind_check CHECK (
        (sealed IS NOT NULL AND key_id IS NOT NULL AND reference IS NULL)
        OR (sealed IS NULL AND key_id IS NULL AND reference IS NOT NULL)
    )
);

-- What a draft uses of each name: the staged value, else the one in force.
CREATE VIEW drafted_secret AS
SELECT n.team_id, n.connector_id, n.name, n.key_id, n.sealed, n.reference
FROM staged_secret AS n
UNION ALL
SELECT s.team_id, s.connector_id, s.name, s.key_id, s.sealed, s.reference
FROM connector_secret AS s
WHERE NOT EXISTS (
    SELECT FROM staged_secret AS n WHERE n.connector_id = s.connector_id AND n.name = s.name
);
