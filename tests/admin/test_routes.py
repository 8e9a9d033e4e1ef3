"""The ways to say what a route takes and answers, each with what goes without saying."""

from __future__ import annotations

import pytest

from admin.api import ROUTES
from admin.fields import Wire
from admin.routes import Route, creates, deletes, lists, shows, writes


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


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_reads_take_no_body_and_no_condition(route: Route) -> None:
    operation = route.operation
    if route.method == "GET":
        assert operation.body is None
        assert not operation.if_match
    assert operation.body is None or operation.example is not None
