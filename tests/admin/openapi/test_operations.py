"""The ways to say what a route takes and answers, each with what goes without saying."""

from __future__ import annotations

import pytest

from admin.fields import Wire
from admin.openapi.operations import OPERATIONS, creates, deletes, lists, shows, writes


class Thing(Wire):
    """Something."""


def test_lists_have_pages() -> None:
    assert lists(Thing).many


def test_creates_say_where_and_which_version() -> None:
    made = creates(Thing, Thing, {})

    assert (made.status, made.etag, made.if_match) == (201, True, False)


def test_changes_can_be_guarded() -> None:
    assert writes(Thing, Thing, {}).if_match
    assert deletes().if_match
    assert shows(Thing).etag


@pytest.mark.parametrize("name", OPERATIONS)
def test_reads_take_no_body_and_no_condition(name: str) -> None:
    operation = OPERATIONS[name]
    if name.startswith("GET "):
        assert operation.body is None
        assert not operation.if_match
    assert operation.body is None or operation.example is not None
