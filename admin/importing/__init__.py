"""Connectors from OpenAPI documents that others write."""
