"""Answers and results that are kept: what may be kept (RFC 9111), where, within which bounds. Used by `cache` and `idempotency`."""
