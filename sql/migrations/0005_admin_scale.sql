-- Sessions of the admin UI, and indexes for teams that have very many objects.

-- One row per signed-in browser: its cookie's digest, and the token that it signed in with, sealed
-- as secrets are.
CREATE TABLE admin_session (
    id uuid PRIMARY KEY,
    digest bytea NOT NULL,              -- SHA-256 of the cookie
    key_id text NOT NULL,               -- the master key that sealed the token
    sealed bytea NOT NULL,
    expires_at timestamptz NOT NULL,    -- the token's
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT admin_session_digest_key UNIQUE (digest)
);
-- serves sessions.sweep
CREATE INDEX admin_session_expires_idx ON admin_session (expires_at);

-- serves keys.by_name
CREATE INDEX gateway_api_key_name_idx ON gateway_api_key (team_id, lower(name), id);
-- serves the key counts of plans
CREATE INDEX gateway_api_key_live_idx ON gateway_api_key (plan_id, team_id)
    WHERE revoked_at IS NULL;
-- serves connectors.by_name
CREATE INDEX service_connector_name_idx ON service_connector (team_id, lower(display_name), id);
-- serves connectors.one and connectors.lock, which also find archived ones
CREATE INDEX service_connector_any_slug_idx ON service_connector (team_id, slug);

-- serve audit.page: by time alone, and by each thing that it can be narrowed to
DROP INDEX audit_log_team_idx;
CREATE INDEX audit_log_at_idx ON audit_log (team_id, at DESC, id DESC);
CREATE INDEX audit_log_actor_idx ON audit_log (team_id, actor, at DESC, id DESC);
CREATE INDEX audit_log_action_idx ON audit_log (team_id, action, at DESC, id DESC);
CREATE INDEX audit_log_type_idx ON audit_log (team_id, object_type, at DESC, id DESC);
CREATE INDEX audit_log_object_idx ON audit_log (team_id, object_id, at DESC, id DESC);
CREATE INDEX audit_log_request_idx ON audit_log (team_id, request_id, at DESC, id DESC);

-- serves usage.record, and usage.records by the beginning of a request id
CREATE INDEX gateway_usage_record_request_idx
    ON gateway_usage_record (request_id text_pattern_ops);
