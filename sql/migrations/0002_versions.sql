-- What a publish was about: told by who published, and what had changed since the version before.
-- Versions that were frozen before this have neither.

ALTER TABLE connector_version
    ADD COLUMN note text NOT NULL DEFAULT '',
    ADD COLUMN summary text NOT NULL DEFAULT '',
    ADD COLUMN restored integer;            -- the version that this one brought back; null: none
