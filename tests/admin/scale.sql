-- A team with 50,000 keys, 10,000 connectors, a million acts and a million requests, beside another
-- team; its connectors are published and healthy. Written without triggers and with the indexes made at the end.

SET session_replication_role = replica;
SET maintenance_work_mem = '256MB';
ALTER TABLE audit_log SET UNLOGGED;

INSERT INTO gateway_plan (
    id, team_id, name, display_name, rate_limit, rate_window_s, max_request_size, max_response_size
)
SELECT uuidv7(), 'red', 'plan-' || n, 'Plan ' || n, 100, 60, 1000, 1000
FROM generate_series(1, 200) AS s (n);

INSERT INTO service_connector (id, team_id, slug, display_name, tags, definition, created_by)
SELECT uuidv7(), CASE WHEN n % 6 = 0 THEN 'red' ELSE 'blue' END, 'c-' || n, md5(n::text),
    CASE WHEN n = 6000 THEN '{rare}' ELSE '{common}'::text[] END,
    jsonb_build_object('upstream_base_url', 'https://' || n || '.example.com'), 'ana'
FROM generate_series(1, 60000) AS s (n);

UPDATE service_connector
SET status = 'published', published_version = 1, published_at = now()
WHERE team_id = 'red';
INSERT INTO gateway_health (connector_id, team_id, due_at, status, checked_at, valid_until)
SELECT c.id, c.team_id, now() + interval '1 day', 'healthy', now(), now() + interval '1 day'
FROM service_connector AS c
WHERE c.team_id = 'red';
INSERT INTO gateway_health_quarter (connector_id, at, team_id, checks, passed, worst)
SELECT c.id, date_bin('15 minutes', now(), timestamptz '2000-01-01 00:00:00+00') - n * interval '6 hours',
    c.team_id, 30, 30, 1
FROM service_connector AS c
CROSS JOIN generate_series(0, 3) AS s (n)
WHERE c.team_id = 'red';

INSERT INTO connector_endpoint (id, team_id, connector_id, name, method, path, definition)
SELECT uuidv7(), c.team_id, c.id, 'e-' || n, 'GET', '/e-' || n, '{}'
FROM service_connector AS c
CROSS JOIN generate_series(1, 2) AS s (n)
WHERE c.team_id = 'red';

INSERT INTO gateway_api_key (
    id, team_id, public_id, name, digest, plan_id, connector_ids, created_by
)
SELECT uuidv7(), CASE WHEN n % 2 = 0 THEN 'red' ELSE 'blue' END, lpad(n::text, 8, '0'),
    md5(n::text), '\x00',
    (SELECT p.id FROM gateway_plan AS p WHERE p.name = 'plan-' || CASE WHEN n % 4 = 0 THEN 1 ELSE n % 200 + 1 END),
    ARRAY[(SELECT c.id FROM service_connector AS c WHERE c.slug = 'c-' || 6 * (1 + n % 50) AND c.team_id = 'red')],
    'ana'
FROM generate_series(1, 100000) AS s (n);

CREATE TEMPORARY TABLE kept AS
SELECT indexname, indexdef FROM pg_indexes
WHERE schemaname = 'plugin_service_gateway' AND tablename = 'audit_log'
    AND indexname <> 'audit_log_pkey';
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT indexname FROM kept LOOP
        EXECUTE format('DROP INDEX %I', name);
    END LOOP;
END
$$;
INSERT INTO audit_log (
    id, team_id, at, actor, action, object_type, object_id, request_id, client_address, difference
)
SELECT uuidv7(), CASE WHEN n % 10 = 0 THEN 'blue' ELSE 'red' END,
    timestamptz '2026-01-01 00:00:00+00' + n * interval '10 seconds',
    CASE WHEN n % 100000 = 7 THEN 'rare' ELSE 'user-' || n % 20 END,
    CASE WHEN n % 100000 = 8 THEN 'plan.delete' ELSE 'key.update' END,
    CASE WHEN n % 100000 = 8 THEN 'plan' ELSE 'key' END,
    'object-' || n % 50000, 'request-' || n, '192.0.2.1', '{"name": ["a", "b"]}'
FROM generate_series(1, 1000000) AS s (n);
DO $$
DECLARE definition text;
BEGIN
    FOR definition IN SELECT indexdef FROM kept LOOP
        EXECUTE definition;
    END LOOP;
END
$$;

SELECT make_partition('gateway_usage_record', date '2026-11-01' + n) FROM generate_series(0, 3) AS s (n);
ALTER TABLE gateway_usage_record_20261101 SET UNLOGGED;
ALTER TABLE gateway_usage_record_20261102 SET UNLOGGED;
ALTER TABLE gateway_usage_record_20261103 SET UNLOGGED;
ALTER TABLE gateway_usage_record_20261104 SET UNLOGGED;
INSERT INTO gateway_usage_record
SELECT timestamptz '2026-11-01 00:00:00+00' + n * interval '0.3456 seconds', 'q-' || n, '',
    CASE WHEN n % 10 = 0 THEN 'blue' ELSE 'red' END, NULL, 'c-' || n % 100, 'e-1', 'GET', 'key',
    'k', CASE WHEN n % 50 = 7 THEN 500 ELSE 200 END, 'upstream', '', n % 1000, 1, 1, 1, 10, 100, 1,
    false, false, '', '192.0.2.1'
FROM generate_series(1, 999999) AS s (n);

SET session_replication_role = DEFAULT;
