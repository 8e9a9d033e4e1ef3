"""What the tests of connection tests share: a connector's secret and endpoints, and steps."""

from __future__ import annotations

from typing import Any

from tests.admin.client import Answer

TOKEN = "s3cr3t/+ value"
ECHO = {"name": "echo", "method": "POST", "path": "/echo/:what", "upstreamPath": "/e/{what}"}
FIXED = {"name": "fixed", "method": "GET", "path": "/fixed"}


def names(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.text
    return [step["name"] for step in answer.json["steps"]]


def last(answer: Answer) -> dict[str, Any]:
    """The last step, which is the only one that may have failed."""
    *before, step = answer.json["steps"]
    assert all(one["ok"] for one in before), answer.text
    found: dict[str, Any] = step
    return found
