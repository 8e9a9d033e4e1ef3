"""How an explanation is told: the verdicts, whose the limits are, and the request for the upstream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from admin.masks import STAND_INS, readable
from admin.shapes import ANYTHING, COUNT, OBJECT, SWITCH, TEXT, perhaps, record, several
from gateway.exchange import Exchange
from gateway.explain.explanation import Explanation, Verdict
from gateway.limits.contract import Concurrency, Rate, Standing
from gateway.model import Caller
from gateway.problems import Rejected

MOST_SHOWN: Final = 4096
"""How much of a body that the endpoint makes is shown, in bytes."""

EXPLANATION: Final = record(
    "What the pipeline says of the request, filter by filter.",
    outcome=TEXT,
    status=perhaps(COUNT),
    problem=perhaps(record(code=TEXT, status=COUNT, detail=TEXT, errors=several(OBJECT))),
    filters=several(record(name=TEXT, verdict=TEXT, detail=ANYTHING, code=perhaps(TEXT))),
    caller=OBJECT,
    connector=perhaps(record(id=TEXT, slug=TEXT)),
    endpoint=perhaps(record(id=TEXT, name=TEXT, params=OBJECT)),
    endpoints=several(
        record(id=TEXT, name=TEXT, method=TEXT, path=TEXT, matched=SWITCH, why=TEXT),
        "Every endpoint, the nearest first, and why it is the one or is not.",
    ),
    limits=several(OBJECT, "Those in force, where each comes from, and how it stands."),
    bounds=several(record(name=TEXT, value=COUNT, source=TEXT)),
    upstream=perhaps(
        record(
            "The upstream's request, secrets masked.",
            method=TEXT,
            url=TEXT,
            origins=several(TEXT),
            headers=ANYTHING,
            body=perhaps(TEXT),
            bodyIsCallers=SWITCH,
        )
    ),
)


def document(
    told: Explanation, key: Mapping[str, Any] | None, routes: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The answer of the API; `key` is the row of the caller's key."""
    exchange = told.exchange
    refused = next((one.rejected for one in told.verdicts if one.rejected is not None), None)
    found, endpoint = exchange.known_connector, exchange.known_endpoint
    return {
        "outcome": told.outcome,
        "status": None if told.outcome in {"forwarded", "unknown"} else told.status,
        "problem": None if refused is None else _problem(refused),
        "filters": [_verdict(verdict) for verdict in told.verdicts],
        "caller": _told_caller(exchange.known_caller, key),
        "connector": None if found is None else {"id": found.id, "slug": found.slug},
        "endpoint": None
        if endpoint is None
        else {"id": endpoint.id, "name": endpoint.name, "params": dict(exchange.params)},
        "endpoints": routes,
        "limits": _limits(exchange),
        "bounds": _bounds(exchange),
        "upstream": _upstream(told),
    }


def _problem(rejected: Rejected) -> dict[str, Any]:
    errors = [{"pointer": fault.pointer, "detail": fault.detail} for fault in rejected.errors]
    return {
        "code": rejected.code,
        "status": rejected.status,
        "detail": rejected.detail,
        "errors": errors,
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    code = None if verdict.rejected is None else verdict.rejected.code
    return {
        "name": verdict.name,
        "verdict": verdict.verdict,
        "detail": verdict.detail,
        "code": code,
    }


def _told_caller(caller: Caller | None, key: Mapping[str, Any] | None) -> dict[str, Any]:
    """Who it is, also when the pipeline does not take the credential; `status` says why not."""
    document: dict[str, Any] = {"kind": "user" if key is None else "key"}
    if key is not None:
        document |= {"id": str(key["id"]), "name": key["name"], "status": key["status"]}
    elif caller is not None:
        document |= {"id": caller.id, "role": caller.role}
    if caller is not None:
        document["plan"] = {"id": caller.plan.id or None, "name": caller.plan.name}
    return document


def _limits(exchange: Exchange) -> list[dict[str, Any]]:
    """The limits that were asked, as they would stand with this request taken."""
    caller = exchange.known_caller
    if caller is None:
        return []
    of_plan = "plan" if caller.plan.id else "default"
    return [
        {"source": _source(standing, caller, of_plan), **_standing(standing)}
        for standing in exchange.limits
    ]


def _source(standing: Standing, caller: Caller, of_plan: str) -> str:
    """Where a limit comes from: what isn't the plan's is the endpoint's."""
    planned = {caller.rate, caller.concurrency, *caller.quotas}
    return of_plan if standing.limit in planned else "endpoint"


def _standing(standing: Standing) -> dict[str, Any]:
    """How a limit stands; one of concurrency has no window."""
    limit = standing.limit
    document = {
        "policy": limit.policy,
        "limit": limit.limit,
        "remaining": standing.remaining,
        "admitted": standing.admitted,
    }
    if isinstance(limit, Concurrency):
        return document
    document |= {
        "windowSeconds": limit.window_s,
        "resetSeconds": round(standing.reset_s, 3),
        "retryAfterSeconds": round(standing.retry_after_s, 3),
    }
    return {**document, "burst": limit.burst} if isinstance(limit, Rate) else document


def _bounds(exchange: Exchange) -> list[dict[str, Any]]:
    """Sizes and times, and whether the endpoint, the connector or the plan says so."""
    caller, endpoint = exchange.known_caller, exchange.known_endpoint
    if caller is None or endpoint is None:
        return []
    own, of_plan = endpoint.definition, "plan" if caller.plan.id else "default"
    sizes = (
        ("maxRequestSize", own.max_request_size, caller.plan.max_request_size),
        ("maxResponseSize", own.max_response_size, caller.plan.max_response_size),
    )
    times = (
        ("timeout", own.timeout, endpoint.timeout_s),
        ("idleTimeout", own.idle_timeout, endpoint.idle_timeout_s),
    )
    return [
        *(
            {"name": name, "value": planned, "source": of_plan}
            if mine is None or mine >= planned
            else {"name": name, "value": mine, "source": "endpoint"}
            for name, mine, planned in sizes
        ),
        *(
            {
                "name": name,
                "value": round(seconds * 1000),
                "source": "connector" if mine is None else "endpoint",
            }
            for name, mine, seconds in times
        ),
    ]


def _upstream(told: Explanation) -> dict[str, Any] | None:
    """The request that the upstream would get; its body where the endpoint makes it."""
    found, outgoing = told.exchange.known_connector, told.exchange.known_outgoing
    if found is None or outgoing is None:
        return None
    origins = [f"{one.url.scheme}://{one.url.netloc}" for one in found.destinations]
    body = None if outgoing.body is None else readable(outgoing.body[:MOST_SHOWN], [])
    return {
        "method": outgoing.method,
        "url": STAND_INS.text(origins[0] + outgoing.target),
        "origins": origins,
        "headers": STAND_INS.headers(outgoing.headers),
        "body": None if body is None else STAND_INS.text(body),
        "bodyIsCallers": outgoing.body is None,
    }
