"""A request for every route of the admin API, made of one object of each kind."""

from __future__ import annotations

import re
from typing import Any

from admin.routes import Route

Parts = dict[str, str]

ENDPOINT = {"name": "other", "method": "POST", "path": "/other"}
CONNECTOR = {"slug": "other", "upstreamBaseUrl": "https://other.example.com"}
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/connectors"): CONNECTOR,
    ("PUT", "/connectors/{connector}"): {
        "slug": "maps",
        "upstreamBaseUrl": "https://maps.example.com",
    },
    ("PATCH", "/connectors/{connector}"): {"description": "other"},
    ("POST", "/connectors/{connector}/rollback"): {"version": 1},
    ("POST", "/connectors/{connector}/test"): {"endpoint": "find"},
    ("POST", "/connectors/test"): {"upstreamBaseUrl": "https://YOUR_HOST.example.com"},
    ("POST", "/connectors/{connector}/endpoints"): ENDPOINT,
    ("PUT", "/connectors/{connector}/endpoints/{endpoint}"): ENDPOINT,
    ("PATCH", "/connectors/{connector}/endpoints/{endpoint}"): {"enabled": False},
    ("PUT", "/connectors/{connector}/secrets"): {"token": "s3cret"},
    ("POST", "/explain"): {"connector": "maps", "path": "/find/x", "caller": {"user": "ana"}},
    ("POST", "/keys"): {"name": "other"},
    ("PATCH", "/keys/{key}"): {"name": "other"},
    ("POST", "/keys/{key}/rotate"): {"graceSeconds": 60},
    ("POST", "/plans"): {"name": "other"},
    ("PUT", "/plans/{plan}"): {"name": "other"},
    ("PATCH", "/plans/{plan}"): {"rateLimit": 1},
    ("POST", "/config/apply"): {"plans": [{"name": "other"}]},
    ("POST", "/templates"): {"templateId": "daydream"},
    ("POST", "/session"): {"token": "not.a.token"},
    ("POST", "/health/check"): {},
    ("POST", "/import/openapi"): {
        "document": {
            "openapi": "3.1.0",
            "info": {"title": "Another", "version": "1"},
            "servers": [{"url": "https://another.example.com"}],
            "paths": {"/a": {"get": {}}},
        }
    },
}


def path_of(route: Route, parts: Parts) -> str:
    """The path of a route with its parameters put in."""
    return re.sub(r"\{(\w+)\}", lambda match: parts[match.group(1)], route.path)


def body_of(route: Route) -> Any:
    """A body that the route takes, if it takes one."""
    return BODIES.get((route.method, route.path))
