-- The gateway's tables. Ids are UUIDv7 made by the gateway. Every object belongs to one team.
-- A trigger announces each change of configuration on the channel plugin_service_gateway, so that
-- whoever wrote it, every process drops what it holds of it.

CREATE TABLE gateway_plan (
    id uuid PRIMARY KEY,
    team_id text NOT NULL,
    name text NOT NULL,
    display_name text NOT NULL,
    rate_limit integer NOT NULL CHECK (rate_limit >= 0),            -- requests per window
    rate_window_s integer NOT NULL CHECK (rate_window_s > 0),
    burst_limit integer CHECK (burst_limit > 0),                    -- null: the rate limit
    daily_quota bigint CHECK (daily_quota >= 0),                    -- null: none
    monthly_quota bigint CHECK (monthly_quota >= 0),                -- null: none
    max_concurrent integer CHECK (max_concurrent >= 0),             -- null: none
    max_request_size bigint NOT NULL CHECK (max_request_size >= 0), -- bytes
    max_response_size bigint NOT NULL CHECK (max_response_size >= 0),
    allowed_connectors uuid[] NOT NULL DEFAULT '{}',                -- empty: all of the team
    time_zone text NOT NULL DEFAULT 'UTC',                          -- where a day begins
    version integer NOT NULL DEFAULT 1,                             -- makes the ETag
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT gateway_plan_name_key UNIQUE (team_id, name)
);

CREATE TABLE service_connector (
    id uuid PRIMARY KEY,
    team_id text NOT NULL,
    slug text NOT NULL CHECK (slug ~ '^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])$'),
    status text NOT NULL DEFAULT 'draft'
        CONSTRAINT service_connector_status_check CHECK (status IN (
            'draft',     -- never published, or taken back: callers get 404
            'published', -- callers get what published_version says
            'archived'   -- put away; its slug is free again
        )),
    display_name text NOT NULL,
    tags text[] NOT NULL DEFAULT '{}',
    definition jsonb NOT NULL,              -- everything else, as the admin schema checked it
    version integer NOT NULL DEFAULT 1,     -- grows with every change, makes the ETag
    published_version integer,              -- which row of connector_version callers get
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz
);
-- serves connectors.published, and lets an archived slug be used again
CREATE UNIQUE INDEX service_connector_slug_key
    ON service_connector (team_id, slug) WHERE status <> 'archived';
-- serves connectors.page
CREATE INDEX service_connector_team_idx ON service_connector (team_id, id DESC);

CREATE TABLE connector_endpoint (
    id uuid PRIMARY KEY,
    team_id text NOT NULL,
    connector_id uuid NOT NULL REFERENCES service_connector ON DELETE CASCADE,
    name text NOT NULL,
    method text NOT NULL,
    path text NOT NULL,
    enabled boolean NOT NULL DEFAULT true,
    definition jsonb NOT NULL,
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT connector_endpoint_name_key UNIQUE (connector_id, name),
    CONSTRAINT connector_endpoint_route_key UNIQUE (connector_id, method, path)
);

-- What a publish froze: the connector and its enabled endpoints as callers get them.
CREATE TABLE connector_version (
    connector_id uuid NOT NULL REFERENCES service_connector ON DELETE CASCADE,
    team_id text NOT NULL,
    version integer NOT NULL,
    snapshot jsonb NOT NULL,
    published_by text NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (connector_id, version)
);

-- A value sealed with AES-256-GCM, or a reference (env:NAME, file:/path) that is no secret itself.
CREATE TABLE connector_secret (
    connector_id uuid NOT NULL REFERENCES service_connector ON DELETE CASCADE,
    team_id text NOT NULL,
    name text NOT NULL,
    key_id text,
    sealed bytea,
    reference text,
    updated_by text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (connector_id, name),
    CONSTRAINT connector_secret_kind_check CHECK (
        (sealed IS NOT NULL AND key_id IS NOT NULL AND reference IS NULL)
        OR (sealed IS NULL AND key_id IS NULL AND reference IS NOT NULL)
    )
);

CREATE TABLE gateway_api_key (
    id uuid PRIMARY KEY,
    team_id text NOT NULL,
    public_id text NOT NULL,
    name text NOT NULL,
    digest bytea NOT NULL,                  -- SHA-256 of what follows the public id
    previous_digest bytea,                  -- the value before the last rotation
    previous_until timestamptz,             -- and until when it still works
    plan_id uuid,
    connector_ids uuid[] NOT NULL DEFAULT '{}',     -- empty: all of the team
    allowed_endpoints text[] NOT NULL DEFAULT '{}', -- names or ids; empty: all
    allowed_ips text[] NOT NULL DEFAULT '{}',       -- networks; empty: any
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    version integer NOT NULL DEFAULT 1,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT gateway_api_key_public_id_key UNIQUE (public_id),
    CONSTRAINT gateway_api_key_plan_fkey FOREIGN KEY (plan_id) REFERENCES gateway_plan
);
-- serves keys.page
CREATE INDEX gateway_api_key_team_idx ON gateway_api_key (team_id, id DESC);
-- serves the check that a plan is not in use
CREATE INDEX gateway_api_key_plan_idx ON gateway_api_key (plan_id);

-- One row per exchange. (at, request_id) is its identity: a batch written twice changes nothing.
CREATE TABLE gateway_usage_record (
    at timestamptz NOT NULL,
    request_id text NOT NULL,
    trace_id text NOT NULL,
    team_id text NOT NULL,
    connector_id uuid,
    connector text NOT NULL,    -- its slug, or what the caller asked for
    endpoint text NOT NULL,
    method text NOT NULL,
    caller_type text NOT NULL,  -- key, user, or none
    caller_id text NOT NULL,    -- the key's id or the user's name
    status smallint NOT NULL,
    source text NOT NULL,       -- gateway or upstream: who made the answer
    error_code text NOT NULL,
    total_ms real NOT NULL,
    upstream_ms real NOT NULL,
    first_byte_ms real NOT NULL,
    own_ms real NOT NULL,
    bytes_in bigint NOT NULL,
    bytes_out bigint NOT NULL,
    attempts smallint NOT NULL,
    cached boolean NOT NULL,
    client_gone boolean NOT NULL,
    target text NOT NULL,
    client_address text NOT NULL,
    PRIMARY KEY (at, request_id)
) PARTITION BY RANGE (at);
-- serves usage.summary and its kin
CREATE INDEX gateway_usage_record_team_idx ON gateway_usage_record (team_id, at);
-- Rows whose day has no partition yet, such as those of a machine with a wrong clock.
CREATE TABLE gateway_usage_record_other PARTITION OF gateway_usage_record DEFAULT;

CREATE TABLE audit_log (
    id uuid PRIMARY KEY,
    team_id text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    action text NOT NULL,       -- connector.create, key.rotate …
    object_type text NOT NULL,
    object_id text NOT NULL,
    request_id text NOT NULL,
    client_address text NOT NULL,
    difference jsonb NOT NULL   -- field → [before, after]; secrets as "changed"
);
-- serves audit.page
CREATE INDEX audit_log_team_idx ON audit_log (team_id, id DESC);

CREATE FUNCTION announce_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- The row that callers knew: what it was called before is what they hold.
    was record := CASE WHEN TG_OP = 'INSERT' THEN NEW ELSE OLD END;
BEGIN
    IF TG_TABLE_NAME = 'gateway_api_key' THEN
        PERFORM pg_notify('plugin_service_gateway', 'key ' || was.public_id);
    ELSIF TG_TABLE_NAME = 'gateway_plan' THEN
        PERFORM pg_notify('plugin_service_gateway', 'plan ' || was.id || ' ' || was.team_id);
    ELSIF TG_TABLE_NAME = 'service_connector' THEN
        PERFORM pg_notify('plugin_service_gateway', 'connector ' || was.slug || ' ' || was.team_id);
        IF TG_OP = 'UPDATE' THEN
            -- Callers may hold that there was none of its new name.
            IF NEW.slug <> was.slug THEN
                PERFORM pg_notify(
                    'plugin_service_gateway', 'connector ' || NEW.slug || ' ' || NEW.team_id
                );
            END IF;
        END IF;
    ELSE
        PERFORM pg_notify(
            'plugin_service_gateway', 'connector ' || c.slug || ' ' || c.team_id
        ) FROM service_connector AS c WHERE c.id = was.connector_id;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER announce_change AFTER INSERT OR DELETE OR UPDATE OF
    digest, previous_digest, previous_until, plan_id, connector_ids, allowed_endpoints,
    allowed_ips, expires_at, revoked_at
    ON gateway_api_key FOR EACH ROW EXECUTE FUNCTION announce_change();
CREATE TRIGGER announce_change AFTER INSERT OR UPDATE OR DELETE
    ON gateway_plan FOR EACH ROW EXECUTE FUNCTION announce_change();
CREATE TRIGGER announce_change AFTER INSERT OR UPDATE OR DELETE
    ON service_connector FOR EACH ROW EXECUTE FUNCTION announce_change();
CREATE TRIGGER announce_change AFTER INSERT OR UPDATE OR DELETE
    ON connector_secret FOR EACH ROW EXECUTE FUNCTION announce_change();

-- Partitions of gateway_usage_record: one for each day (UTC), made ahead, dropped by retention.
CREATE FUNCTION make_usage_partition(day date) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('make_usage_partition'));
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS gateway_usage_record_%s PARTITION OF gateway_usage_record '
        'FOR VALUES FROM (%L) TO (%L)',
        to_char(day, 'YYYYMMDD'),
        to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00',
        to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00'
    );
EXCEPTION WHEN check_violation THEN
    -- The day's first rows came before its partition and are in gateway_usage_record_other.
    NULL;
END
$$;

CREATE FUNCTION drop_usage_partitions(first_kept date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    partition text;
BEGIN
    FOR partition IN
        SELECT c.relname
        FROM pg_inherits AS i
        JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'gateway_usage_record'::regclass
            AND c.relname ~ '^gateway_usage_record_\d{8}$'
            AND c.relname < 'gateway_usage_record_' || to_char(first_kept, 'YYYYMMDD')
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE %I', partition);
    END LOOP;
    DELETE FROM gateway_usage_record_other WHERE at < first_kept;
END
$$;
