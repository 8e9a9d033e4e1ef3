"""What became of each request: its record, and the way of records into PostgreSQL. Used by the filter `usage`."""
