-- Which document was applied last to a team, or to what has a tag: an older one is refused.

CREATE TABLE applied_document (
    team_id text NOT NULL,
    tag text NOT NULL,                              -- empty: the whole team
    revision bigint NOT NULL CHECK (revision > 0),  -- the highest that was applied
    digest text NOT NULL,                           -- and SHA-256 of what it said
    applied_by text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (team_id, tag)
);
