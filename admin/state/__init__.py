"""A team's state as one document: exported, compared and applied."""
