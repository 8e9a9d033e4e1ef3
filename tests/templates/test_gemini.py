"""The Gemini template: the model is in the path, and streams are server-sent events."""

from __future__ import annotations

import pytest

from gateway.problems import Rejected
from tests.templates.gemini import MODEL, SECRETS
from tests.templates.instance import connector, outgoing
from tests.templates.mock import Call

MADE = connector("gemini", SECRETS)


def test_stream_is_server_sent_events_unless_the_caller_says_otherwise() -> None:
    path = f"/v1beta/models/{MODEL}:streamGenerateContent"

    _, plain = outgoing(MADE, Call("", "POST", path))
    _, other = outgoing(MADE, Call("", "POST", f"{path}?alt=json"))

    assert plain.target == f"{path}?alt=sse"
    assert other.target == f"{path}?alt=json"


def test_unknown_verb_of_a_model_is_not_passed_on() -> None:
    with pytest.raises(Rejected) as caught:
        outgoing(MADE, Call("", "POST", "/v1beta/models/x:predictLongRunning"))

    assert caught.value.code == "method_not_allowed"
