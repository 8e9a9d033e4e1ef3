-- Usage records tell the answers that were given again for an `Idempotency-Key`.

ALTER TABLE gateway_usage_record ADD COLUMN replayed boolean NOT NULL DEFAULT false;
