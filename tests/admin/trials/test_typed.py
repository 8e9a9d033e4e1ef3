"""What people typed of a request is found in each place and form, and nothing of ours is."""

from __future__ import annotations

import json

from admin.trials.typed import MOST_TYPED, typed
from gateway.exchange import Outgoing


def texts(target: str = "/", content: bytes = b"", **fields: str) -> list[str]:
    headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    found = typed(Outgoing("POST", target, headers), content)
    assert found is not None
    return found


def test_path_query_fields_and_body_are_typed() -> None:
    body = {"a name": ["in a list", 12345678, {"deep": "and deeper"}]}
    found = texts("/one/two%20three?q=a%2Bb&r=c+d", json.dumps(body).encode(), x_field="a value")

    assert {"one", "two three", "q", "a+b", "r", "c d", "x-field", "a value"} <= set(found)
    assert {"a name", "in a list", "12345678", "deep", "and deeper"} <= set(found)
    assert {"x", "y z"} <= set(texts(content=b"x=y+z"))


def test_what_the_gateway_adds_is_not_typed() -> None:
    ours = texts(content_type="application/json", x_request_id="an-id", traceparent="00-a-b-00")
    assert set(ours) == {""}


def test_more_than_is_compared_is_none() -> None:
    assert typed(Outgoing("POST", "/", []), b"a" * MOST_TYPED) is None
    assert typed(Outgoing("POST", "/", [(b"a", b"b" * (MOST_TYPED * 4))]), b"") is None
