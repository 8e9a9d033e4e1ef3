"""Documents as hypothesis draws them: connectors, plans and keys that can all be applied."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import strategies as st

SLUGS = ("maps", "daydream", "v2")
PLANS = ("default", "gold", "silver")
words = st.text(string.ascii_letters + " äß€😀'\"#:-", max_size=12)
numbers = st.one_of(
    st.integers(-(1 << 53), 1 << 53),
    st.floats(allow_nan=False, allow_infinity=False, width=64),
    st.booleans(),
)
json = st.recursive(
    st.one_of(st.none(), numbers, words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=6,
)
headers = st.dictionaries(st.sampled_from(["X-A", "X-B", "Accept"]), st.just("v"), max_size=2)


def endpoint(name: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "name": st.just(name),
            "method": st.sampled_from(["GET", "POST", "DELETE"]),
            "path": st.sampled_from([f"/{name}", f"/{name}/:id", f"/{name}/:rest*"]),
        },
        optional={
            "description": words,
            "timeout": st.integers(1, 3_600_000),
            "setHeaders": headers,
            "requiredHeaders": st.lists(st.sampled_from(["X-A", "X-B"]), unique=True),
            "cacheTtl": st.integers(0, 100),
            "bodySchema": st.fixed_dictionaries({}, optional={"default": json, "title": words}),
            "examples": st.lists(st.dictionaries(words, json, max_size=2), max_size=2),
            "errorMapping": st.dictionaries(st.sampled_from(["404", "500"]), st.just("No.")),
        },
    )


@st.composite
def connectors(draw: st.DrawFn) -> dict[str, Any]:
    slug = draw(st.sampled_from(SLUGS))
    names = draw(st.lists(st.sampled_from(["a", "b", "c c"]), unique=True))
    names = [name.replace(" ", "-") for name in names]
    drawn = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "displayName": words.filter(bool),
                "description": words,
                "tags": st.lists(words.filter(bool), unique=True, max_size=3),
                "defaultTimeout": st.integers(1, 3_600_000),
                "responseMode": st.sampled_from(["raw", "envelope"]),
                "passCookies": st.booleans(),
                "maxWaiting": st.integers(0, 10),
            },
        )
    )
    made = {"slug": slug, "upstreamBaseUrl": "https://api.daydream.live", **drawn}
    made["endpoints"] = [draw(endpoint(name)) for name in names]
    if draw(st.booleans()):
        made["authType"] = "bearer"
        made["secrets"] = {"token": draw(st.sampled_from([None, "env:DAYDREAM_API_KEY"]))}
    elif names:
        made["published"] = draw(st.booleans())
    return made


def plans(slugs: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"name": st.sampled_from(PLANS)},
        optional={
            "displayName": words.filter(bool),
            "rateLimit": st.integers(0, 1000),
            "burstLimit": st.one_of(st.none(), st.integers(1, 10)),
            "dailyQuota": st.one_of(st.none(), st.integers(0, 1 << 53)),
            "allowedConnectors": st.lists(st.sampled_from(slugs), unique=True)
            if slugs
            else st.just([]),
            "timeZone": st.sampled_from(["UTC", "Asia/Kolkata"]),
        },
    )


def keys(slugs: list[str], names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"name": words.filter(bool)},
        optional={
            "plan": st.sampled_from([None, *names]),
            "connectors": st.lists(st.sampled_from(slugs), unique=True) if slugs else st.just([]),
            "allowedIPs": st.lists(st.sampled_from(["192.0.2.7", "2001:db8::/32"]), unique=True),
            "expiresAt": st.sampled_from([None, "2099-01-01T00:00:00.5+02:00"]),
        },
    )


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    made = draw(st.lists(connectors(), unique_by=lambda entry: entry["slug"], max_size=3))
    slugs = [entry["slug"] for entry in made]
    own_plans = draw(st.lists(plans(slugs), unique_by=lambda entry: entry["name"], max_size=2))
    names = [entry["name"] for entry in own_plans]
    own_keys = draw(st.lists(keys(slugs, names), unique_by=lambda entry: entry["name"], max_size=3))
    return {"connectors": made, "plans": own_plans, "keys": own_keys}
