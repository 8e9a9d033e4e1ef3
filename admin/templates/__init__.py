"""Connector templates as the admin API offers them: checked, filled in, and made from connectors."""
