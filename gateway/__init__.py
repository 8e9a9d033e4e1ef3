"""The core server: listens, runs each request through the filters, and knows no single one of them."""

from __future__ import annotations

__version__ = "0.1.0"
