-- Each change that is announced is also written down for an hour: for processes that poll, whose
-- connection for announcements is lost or silent.

CREATE TABLE configuration_change (
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    announcement text NOT NULL
);
-- serves changes.since
CREATE INDEX configuration_change_transaction_idx ON configuration_change (transaction);
-- serves changes.forget
CREATE INDEX configuration_change_changed_at_idx ON configuration_change (changed_at);

-- What is announced is told with its transaction, so that nobody takes what is polled for another change.
CREATE FUNCTION announce(text) RETURNS void LANGUAGE sql AS $$
    SELECT pg_notify('plugin_service_gateway', $1);
    SELECT pg_notify('plugin_service_gateway', 'transaction ' || pg_current_xact_id());
    INSERT INTO configuration_change (announcement) VALUES ($1);
$$;

CREATE OR REPLACE FUNCTION announce_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- The row that callers knew: what it was called before is what they hold.
    was record := CASE WHEN TG_OP = 'INSERT' THEN NEW ELSE OLD END;
BEGIN
    IF TG_TABLE_NAME = 'gateway_api_key' THEN
        PERFORM announce('key ' || was.public_id);
    ELSIF TG_TABLE_NAME = 'gateway_plan' THEN
        PERFORM announce('plan ' || was.id || ' ' || was.team_id);
    ELSIF TG_TABLE_NAME = 'service_connector' THEN
        PERFORM announce('connector ' || was.slug || ' ' || was.team_id);
        IF TG_OP = 'UPDATE' THEN
            -- Callers may hold that there was none of its new name.
            IF NEW.slug <> was.slug THEN
                PERFORM announce('connector ' || NEW.slug || ' ' || NEW.team_id);
            END IF;
        END IF;
    ELSE
        PERFORM announce('connector ' || c.slug || ' ' || c.team_id)
        FROM service_connector AS c WHERE c.id = was.connector_id;
    END IF;
    RETURN NULL;
END
$$;
