"""Documents: what may stand in them, where faults are, and one form for all that say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from marshmallow import ValidationError

from admin.problems import rejection
from admin.state.document import load
from gateway import yamls
from gateway.ids import uuid7
from gateway.problems import Rejected

MAPS = {"slug": "maps", "upstreamBaseUrl": "https://maps.example.com"}
FIND = {"name": "find", "method": "GET", "path": "/find"}
BEARER = {**MAPS, "authType": "bearer"}


@pytest.mark.parametrize(
    ("document", "pointers"),
    [
        ({"connector": []}, ["/connector"]),
        ({"format": 2}, ["/format"]),
        ({"revision": 0}, ["/revision"]),
        ({"revision": "7"}, ["/revision"]),
        ({"connectors": {}}, ["/connectors"]),
        ({"connectors": [7]}, ["/connectors/0"]),
        ({"connectors": [{"slug": "maps"}]}, ["/connectors/0/upstreamBaseUrl"]),
        ({"connectors": [{**MAPS, "status": "published"}]}, ["/connectors/0/status"]),
        ({"connectors": [{**MAPS, "published": "yes"}]}, ["/connectors/0/published"]),
        ({"connectors": [MAPS, MAPS]}, ["/connectors/1/slug"]),
        (
            {
                "connectors": [
                    MAPS,
                    {**BEARER, "slug": "x1", "endpoints": [FIND, {**FIND, "id": 1}]},
                ]
            },
            ["/connectors/1/endpoints/1/id"],
        ),
        (
            {"connectors": [{**MAPS, "endpoints": [FIND, FIND]}]},
            ["/connectors/0/endpoints/1/name", "/connectors/0/endpoints/1/path"],
        ),
        ({"connectors": [{**MAPS, "secrets": {"token": None}}]}, ["/connectors/0/secrets/token"]),
        ({"connectors": [{**BEARER, "secrets": {"token": 7}}]}, ["/connectors/0/secrets/token"]),
        ({"plans": [{"name": "a"}, {"name": "a"}]}, ["/plans/1/name"]),
        ({"plans": [{"name": "a", "rateLimit": "many"}]}, ["/plans/0/rateLimit"]),
        ({"keys": [{"name": "a"}, {"name": "a"}]}, ["/keys/1/name"]),
        ({"keys": [{"name": "a", "key": "gw_x"}]}, ["/keys/0/key"]),
        ({"keys": [{"name": "a", "keyPrefix": "x"}]}, ["/keys/0/keyPrefix"]),
        ({"tag": "geo", "plans": [{"name": "a"}]}, ["/plans"]),
        ({"tag": "geo", "keys": [{"name": "a"}]}, ["/keys"]),
        ({"tag": "geo", "connectors": [MAPS]}, ["/connectors/0/tags"]),
    ],
)
def test_fault_is_told_with_its_place(document: Any, pointers: list[str]) -> None:
    with pytest.raises((Rejected, ValidationError)) as caught:
        load(document, {})
    refused = rejection(caught.value)

    assert refused.code == "validation_failed"
    assert [fault.pointer for fault in refused.errors] == pointers


@pytest.mark.parametrize("value", ["s3cret-value", "env:", "env:A B", "file:relative", "ENV:A", ""])
def test_value_of_a_secret_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(ValidationError) as caught:
        load({"connectors": [{**BEARER, "secrets": {"token": value}}]}, {})

    assert "s3cret" not in str(caught.value.messages)


def test_one_form_whatever_was_written_out() -> None:
    brief = {"connectors": [{**MAPS, "endpoints": [FIND]}], "plans": [{"name": "gold"}]}
    long = {
        "format": 1,
        "plans": [{"rateLimit": 100, "name": "gold", "displayName": "gold"}],
        "connectors": [
            {
                "endpoints": [{**FIND, "timeout": None, "enabled": True}],
                "allowedHosts": ["maps.example.com"],
                "displayName": "maps",
                **MAPS,
            }
        ],
        "digest": "whatever",
        "revision": 12,
    }

    one, other = load(brief, {}), load(long, {})

    assert one.told() == other.told() == {"format": 1, **brief, "keys": []}
    assert orjson.dumps(one.told()) == orjson.dumps(other.told())
    assert one.digest() == other.digest()
    assert len(one.digest()) == 64


def test_document_that_is_shown_to_readers_is_one() -> None:
    page = (Path(__file__).parents[3] / "docs" / "declarative.md").read_text("utf-8")
    shown = yamls.parse(page.split("```yaml\n")[1].split("```")[0])

    told = load(shown, {}).told()

    assert {**told, "revision": 4} == shown


def test_objects_are_in_the_order_of_their_names() -> None:
    document = {
        "connectors": [{**MAPS, "slug": "z-9"}, {**MAPS, "slug": "a-1"}],
        "plans": [{"name": "z"}, {"name": "a"}],
        "keys": [{"name": "b"}, {"name": "B"}],
    }
    told = load(document, {}).told()

    assert [entry["slug"] for entry in told["connectors"]] == ["a-1", "z-9"]
    assert [entry["name"] for entry in told["plans"]] == ["a", "z"]
    assert [entry["name"] for entry in told["keys"]] == ["B", "b"]


def test_connectors_are_named_by_slug_even_where_ids_were_given() -> None:
    maps, gone = str(uuid7()), str(uuid7())
    document = {"plans": [{"name": "a", "allowedConnectors": [maps.upper(), "maps", gone]}]}

    plan = load(document, {maps: "maps"}).plans["a"]

    assert plan.settings["allowedConnectors"] == ["maps", gone]
