-- Sessions of the admin UI: the digest of a cookie, and the token behind it, sealed.

-- name: open
-- Keep a session until its token expires.
-- Across teams: a session is a user's, who may be in many.
-- $1 id uuid
-- $2 digest bytea
-- $3 key_id text
-- $4 sealed bytea
-- $5 expires_at timestamptz
INSERT INTO admin_session (id, digest, key_id, sealed, expires_at)
VALUES ($1, $2, $3, $4, $5);

-- name: by_digest
-- The session of a cookie.
-- Across teams: a session is a user's, who may be in many.
-- $1 digest bytea
SELECT id, key_id, sealed
FROM admin_session
WHERE digest = $1 AND expires_at > now();

-- name: close
-- End a session.
-- Across teams: a session is a user's, who may be in many.
-- $1 id uuid
DELETE FROM admin_session
WHERE id = $1;

-- name: sweep
-- Remove the sessions that have expired.
-- Across teams: a session is a user's, who may be in many.
DELETE FROM admin_session
WHERE expires_at <= now();
