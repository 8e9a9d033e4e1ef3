-- Plans: the rates and quotas that keys are put on. A team's first is named default.

-- name: newest
-- List a team's plans, the newest first.
-- $1 team_id text
-- $2 filters jsonb
-- $3 before uuid
-- $4 most bigint
SELECT *
FROM listed_plan
WHERE team_id = $1
    AND id < $3
    AND COALESCE(position(
        lower($2::jsonb ->> 'q') IN lower(concat_ws(' ', name, display_name))
    ) > 0, true)
ORDER BY id DESC
LIMIT $4;

-- name: by_name
-- List a team's plans in the order of their names.
-- $1 team_id text
-- $2 filters jsonb
-- $3 after_name text
-- $4 after uuid
-- $5 most bigint
SELECT *, lower(name) AS sort_name
FROM listed_plan
WHERE team_id = $1
    AND (lower(name), id) > ($3, $4)
    AND COALESCE(position(
        lower($2::jsonb ->> 'q') IN lower(concat_ws(' ', name, display_name))
    ) > 0, true)
ORDER BY lower(name), id
LIMIT $5;

-- name: one
-- A plan by its id.
-- $1 team_id text
-- $2 id uuid
SELECT *
FROM listed_plan
WHERE team_id = $1 AND id = $2;

-- name: first
-- A team's plan named default.
-- $1 team_id text
SELECT id
FROM gateway_plan
WHERE team_id = $1 AND name = 'default';

-- name: lock
-- Hold a plan until the end of the transaction: nobody else changes it or puts a key on it.
-- $1 team_id text
-- $2 id uuid
SELECT id
FROM gateway_plan
WHERE team_id = $1 AND id = $2
FOR UPDATE;

-- name: keep
-- See to it that a plan which a key is put on is still there at the end of the transaction.
-- $1 team_id text
-- $2 id uuid
SELECT id
FROM gateway_plan
WHERE team_id = $1 AND id = $2
FOR KEY SHARE;

-- name: insert
-- A new plan.
-- $1 team_id text
-- $2 plan jsonb
INSERT INTO gateway_plan (
    id, team_id, name, display_name, rate_limit, rate_window_s, burst_limit, daily_quota,
    monthly_quota, max_concurrent, max_request_size, max_response_size, allowed_connectors,
    time_zone
)
SELECT n.id, $1, n.name, n.display_name, n.rate_limit, n.rate_window_s, n.burst_limit,
    n.daily_quota, n.monthly_quota, n.max_concurrent, n.max_request_size, n.max_response_size,
    n.allowed_connectors, n.time_zone
FROM jsonb_populate_record(NULL::gateway_plan, $2) AS n;

-- name: insert_first
-- A team's plan named default, unless it has one.
-- $1 team_id text
-- $2 plan jsonb
INSERT INTO gateway_plan (
    id, team_id, name, display_name, rate_limit, rate_window_s, burst_limit, daily_quota,
    monthly_quota, max_concurrent, max_request_size, max_response_size, time_zone
)
SELECT n.id, $1, 'default', n.display_name, n.rate_limit, n.rate_window_s, n.burst_limit,
    n.daily_quota, n.monthly_quota, n.max_concurrent, n.max_request_size, n.max_response_size,
    n.time_zone
FROM jsonb_populate_record(NULL::gateway_plan, $2) AS n
ON CONFLICT (team_id, name) DO NOTHING
RETURNING id;

-- name: update
-- New values for a plan, if it still has the version that they were made from.
-- $1 team_id text
-- $2 plan jsonb
UPDATE gateway_plan AS p
SET name = n.name,
    display_name = n.display_name,
    rate_limit = n.rate_limit,
    rate_window_s = n.rate_window_s,
    burst_limit = n.burst_limit,
    daily_quota = n.daily_quota,
    monthly_quota = n.monthly_quota,
    max_concurrent = n.max_concurrent,
    max_request_size = n.max_request_size,
    max_response_size = n.max_response_size,
    allowed_connectors = n.allowed_connectors,
    time_zone = n.time_zone,
    version = p.version + 1,
    updated_at = now()
FROM jsonb_populate_record(NULL::gateway_plan, $2) AS n
WHERE p.team_id = $1 AND p.id = n.id AND p.version = n.version
RETURNING p.version;

-- name: delete
-- Remove a plan, if it still has this version; keys that are on it forbid that.
-- $1 team_id text
-- $2 id uuid
-- $3 version integer
DELETE FROM gateway_plan
WHERE team_id = $1 AND id = $2 AND version = $3
RETURNING id;
