"""A connector made from a template, and what the gateway sends upstream for a call of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from multidict import CIMultiDict

import templates
from admin.templates.documents import filled
from gateway.exchange import Body, Exchange, Outgoing
from gateway.model import Connector, Endpoint
from gateway.transform.compiling import compile_connector
from tests.templates.mock import Call

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FREE = {"set_headers", "add_headers", "upstream_query_params", "default_query_params"}
FREE |= {"error_mapping", "body_schema", "examples", "field_map", "headers", "schemas"}
"""What holds somebody else's names, which are not ours to convert."""


def camel(name: str) -> str:
    """A definition's field as the wire names it."""
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), name)


def snake(value: Any) -> Any:
    """The wire's names as the definitions' fields."""
    if not isinstance(value, dict):
        return value
    named = {re.sub(r"[A-Z]", lambda match: f"_{match[0].lower()}", k): v for k, v in value.items()}
    return {name: v if name in FREE else snake(v) for name, v in named.items()}


def snapshot(
    template: Mapping[str, Any], base_url: str, variables: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What a publish would freeze."""
    made = filled(template, {"upstream_base_url": base_url, "variables": variables or {}})
    endpoints = [
        {"id": e["name"], "name": e["name"], "method": e["method"], "path": e["path"]}
        | {"definition": snake(e)}
        for e in made.pop("endpoints")
    ]
    return {"id": made["slug"], "slug": made["slug"], "definition": snake(made)} | {
        "endpoints": endpoints
    }


def connector(
    id_: str,
    secrets: Mapping[str, str],
    base_url: str = "https://upstream.example",
    variables: Mapping[str, str] | None = None,
) -> Connector:
    """The connector, compiled."""
    made = snapshot(templates.all()[id_], base_url, variables)
    return compile_connector(made, team="t1", secrets=secrets)


def outgoing(made: Connector, call: Call) -> tuple[Endpoint, Outgoing]:
    """The endpoint and the upstream request for a call with a key of ours. Raises Rejected."""
    path, _, query = call.path.partition("?")
    fields = [("Host", "gw.test"), ("Authorization", "Bearer gw_key"), *call.headers.items()]
    fields += [("X-API-Key", "gw_key"), ("Content-Length", str(len(call.body)))]
    exchange = Exchange(
        call.method,
        f"/{made.slug}{path}",
        query,
        CIMultiDict(fields),
        tuple((name.encode(), value.encode()) for name, value in fields),
        Body.of(call.body),
        client_address="127.0.0.1",
        request_id="r-1",
        traceparent=TRACE,
    )
    match = made.router.match(call.method, path)
    exchange.params = match.params
    endpoint = match.route
    endpoint.rules.check_headers(exchange.headers)
    if endpoint.rules.need_body:
        endpoint.rules.check_body(call.body)
    return endpoint, endpoint.mapped.outgoing(exchange)
