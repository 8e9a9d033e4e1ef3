"""What of an upstream's request was typed by people, in the forms in which it may come back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote_plus

import orjson

from gateway.exchange import Outgoing

MOST_TYPED: Final = 4096
"""How much may be typed, in characters, for its answer to be shown."""
_OURS: Final = frozenset({b"via", b"x-request-id", b"traceparent"})
_USUAL: Final = frozenset({"application/json", "application/x-www-form-urlencoded", "identity"})


def typed(outgoing: Outgoing, content: bytes) -> list[str] | None:
    """The texts of a request, made without secrets, and of its body; None for more than is compared."""
    if len(outgoing.target) + len(content) > MOST_TYPED:
        return None
    found = list(dict.fromkeys(_texts(outgoing, content)))
    return found if sum(map(len, found)) <= 4 * MOST_TYPED else None


def _texts(outgoing: Outgoing, content: bytes) -> Iterator[str]:
    path, _, query = outgoing.target.partition("?")
    yield from map(unquote_plus, [*path.split("/"), *query.replace("=", "&").split("&")])
    for name, value in outgoing.headers:
        if name.lower() not in _OURS and (text := value.decode("utf-8", "replace")) not in _USUAL:
            yield from (name.decode("ascii"), text)
    body = content.decode("utf-8", "replace")
    yield body
    yield from map(unquote_plus, body.replace("=", "&").split("&"))
    try:
        yield from _strings(orjson.loads(content))
    except orjson.JSONDecodeError:
        return


def _strings(document: Any) -> Iterator[str]:
    """Every string of a JSON document, names and numbers among them."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str | int | float):
            yield str(value)
