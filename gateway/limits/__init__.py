"""How much a caller may do: rates, quotas and concurrency, decided and remembered. Used by the filters that limit."""
