"""The steps of a test, and what is not shown: secrets, and what the network looks like."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import socket
from functools import partial
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from admin.api import application
from admin.control import Control
from gateway.upstream.address_policy import AddressPolicy, Allowed
from gateway.upstream.probe import Probe
from tests.admin.client import Fetch, Make, Tokened, User
from tests.admin.trying import ECHO, FIXED, TOKEN, last, names
from tests.loopback import Call, Upstream, saying


@pytest.fixture
def control(control: Control) -> Control:
    """The admin API of a gateway that allows loopback."""
    policy = AddressPolicy([Allowed.parse("127.0.0.1")])
    return dataclasses.replace(control, policy=policy, probe=partial(Probe, policy))


@pytest.fixture
async def closed(control: Control, aiohttp_client: Any, token: Tokened) -> User:
    """An editor whose gateway allows no address that the table refuses."""
    policy = AddressPolicy()
    strict = dataclasses.replace(control, policy=policy, probe=partial(Probe, policy))
    http: TestClient[Any, Any] = await aiohttp_client(application(strict))
    return User(http, token({"red": "editor"}), "red")


async def test_every_step_is_told_in_order(
    admin: User, editor: User, make_connector: Make, upstream: Upstream
) -> None:
    await make_connector(
        upstreamBaseUrl=f"{upstream.url}/v2",
        healthCheckPath="/up?deep=1",
        authType="bearer",
        secrets={"token": TOKEN},
    )
    answer = await editor.post("/connectors/maps/test")

    assert names(answer) == ["url", "secrets", "address", "connect", "request", "auth", "answer"]
    assert answer.json["ok"] is True
    assert all(step["ok"] and step["durationMs"] >= 0 for step in answer.json["steps"])
    assert (upstream.call.method, upstream.call.target) == ("GET", "/v2/up?deep=1")
    assert upstream.call.field("authorization") == f"Bearer {TOKEN}"
    assert answer.json["answer"]["status"] == 200
    assert answer.json["answer"]["body"] == "ok"
    assert answer.json["request"]["url"] == f"{upstream.url}/v2/up?deep=1"
    assert {"name": "Authorization", "value": "Bearer ***"} in answer.json["request"]["headers"]
    assert TOKEN not in answer.text


@pytest.mark.parametrize(("path", "target"), [("", "/"), ("/v2", "/v2"), ("/v2/", "/v2")])
async def test_without_a_path_the_base_url_is_asked(
    path: str, target: str, editor: User, make_connector: Make, upstream: Upstream
) -> None:
    await make_connector(upstreamBaseUrl=upstream.url + path)

    assert (await editor.post("/connectors/maps/test", {})).json["ok"] is True
    assert upstream.call.target == target


async def test_endpoint_is_tried_as_callers_would(
    editor: User, make_connector: Make, upstream: Upstream
) -> None:
    made = await make_connector(upstreamBaseUrl=upstream.url, endpoints=[ECHO, FIXED])
    body = {
        "endpoint": "echo",
        "path": "/echo/one",
        "query": "a=1",
        "headers": {"X-Mine": "yes"},
        "body": {"n": [1]},
    }
    answer = await editor.post("/connectors/maps/test", body)
    assert answer.json["ok"] is True, answer.text
    call = upstream.call
    assert (call.method, call.target, call.body) == ("POST", "/e/one?a=1", b'{"n":[1]}')
    assert (call.field("x-mine"), call.field("content-type")) == ("yes", "application/json")
    fixed = (await editor.get(f"/connectors/{made['id']}/endpoints")).json["items"][0]["id"]
    assert (await editor.post("/connectors/maps/test", {"endpoint": fixed})).json["ok"] is True


@pytest.mark.parametrize(
    ("status", "step", "words"),
    [
        (401, "auth", "refused the credentials"),
        (403, "auth", "refused the credentials"),
        (302, "answer", "redirects"),
        (404, "answer", "nothing here"),
        (429, "answer", "error"),
        (500, "answer", "error"),
    ],
)
async def test_only_a_good_answer_is_ok(
    status: int, step: str, words: str, editor: User, make_connector: Make, upstream: Upstream
) -> None:
    await make_connector(upstreamBaseUrl=upstream.url, authType="bearer", secrets={"token": TOKEN})
    upstream.script = saying(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % status)
    answer = await editor.post("/connectors/maps/test")

    assert answer.json["ok"] is False
    failed = last(answer)
    assert (failed["name"], failed["ok"]) == (step, False)
    assert words in failed["detail"]
    assert str(status) in failed["detail"]
    assert (answer.json["answer"]["status"], answer.json["answer"]["body"]) == (status, "no")


@pytest.mark.parametrize(
    ("raw", "step"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "request"),
        (b"", "request"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "answer"),
    ],
)
async def test_broken_answer_is_not_ok(
    raw: bytes, step: str, editor: User, make_connector: Make, upstream: Upstream
) -> None:
    await make_connector(upstreamBaseUrl=upstream.url)
    upstream.script = saying(raw, close=True)
    answer = await editor.post("/connectors/maps/test")

    assert (answer.json["ok"], last(answer)["name"], last(answer)["ok"]) == (False, step, False)


async def test_upstream_that_says_nothing_is_given_up(
    editor: User, make_connector: Make, upstream: Upstream
) -> None:
    async def silent(call: Call) -> None:
        await call.gone()

    upstream.script = silent
    await make_connector(upstreamBaseUrl=upstream.url, defaultTimeout=50)
    answer = await editor.post("/connectors/maps/test")

    assert (answer.json["ok"], last(answer)["name"]) == (False, "request")
    assert "in time" in last(answer)["detail"]


async def test_closed_port_of_an_allowed_host_is_told(editor: User, make_connector: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    await make_connector(upstreamBaseUrl=f"http://127.0.0.1:{port}")
    answer = await editor.post("/connectors/maps/test")

    assert names(answer) == ["url", "address", "connect"]
    assert last(answer)["detail"] == "The upstream could not be reached."


async def test_certificate_is_a_step_of_its_own(editor: User, make_connector: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = await asyncio.start_server(lambda _r, w: w.close(), sock=listener)
        port = listener.getsockname()[1]
        await make_connector(upstreamBaseUrl=f"https://127.0.0.1:{port}")
        answer = await editor.post("/connectors/maps/test")
        server.close()

    assert names(answer) == ["url", "address", "connect", "tls"]
    assert (answer.json["ok"], last(answer)["ok"]) == (False, False)


async def test_host_that_is_not_on_the_list_gets_nothing(
    editor: User, make_connector: Make, upstream: Upstream, fetch: Fetch
) -> None:
    """As a row could be that an older version wrote."""
    await make_connector(upstreamBaseUrl=upstream.url)
    await fetch(
        "UPDATE service_connector SET definition ="
        """ definition || '{"allowed_hosts": ["maps.example.com"]}'"""
    )
    answer = await editor.post("/connectors/maps/test")

    assert (names(answer), answer.json["ok"]) == (["url"], False)
    assert upstream.connections == 0


async def test_refused_addresses_cannot_be_told_apart(
    closed: User, admin: User, make_connector: Make, upstream: Upstream
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        unused = listener.getsockname()[1]
    told = []
    urls = [upstream.url, f"http://127.0.0.1:{unused}", "http://10.0.0.1", "http://[::1]:1"]
    names = ["http://localhost:1", "http://no-such-name.invalid", "http://no-such-name"]
    for url in [*urls, "http://169.254.169.254", *names]:
        answer = await closed.post("/connectors/test", {"upstreamBaseUrl": url})
        assert (answer.status, answer.json["ok"], answer.json["answer"]) == (200, False, None)
        told.append([(s["name"], s["ok"], s["detail"]) for s in answer.json["steps"]][1:])

    assert told == [[("address", False, "The host has no address that may be connected to.")]] * 8
    assert upstream.connections == 0


async def test_secret_that_is_not_set_stops_the_test(
    editor: User, make_connector: Make, upstream: Upstream
) -> None:
    await make_connector(upstreamBaseUrl=upstream.url, authType="bearer")
    saved = await editor.post("/connectors/maps/test")
    draft = await editor.post(
        "/connectors/test", {"upstreamBaseUrl": upstream.url, "authType": "bearer"}
    )

    for answer in (saved, draft):
        assert names(answer) == ["url", "secrets"]
        assert last(answer)["detail"] == 'Secret "token" is not set.'
    assert upstream.calls == []


async def test_placeholder_stops_the_test(closed: User) -> None:
    draft = {"upstreamBaseUrl": "https://YOUR_HOST.example.com"}
    answer = await closed.post("/connectors/test", draft)

    assert (names(answer), answer.json["ok"]) == (["url"], False)
    assert "YOUR_HOST" in last(answer)["detail"]


@pytest.mark.parametrize(
    ("kind", "config", "values"),
    [
        ("bearer", {}, {"token": TOKEN}),
        ("basic", {}, {"username": "ana", "password": TOKEN}),
        ("query", {"paramName": "k"}, {"token": TOKEN}),
        ("header", {"headers": {"X-Key": "a {{secrets.key}}"}}, {"key": TOKEN}),
    ],
)
async def test_secret_that_the_upstream_sends_back_is_masked(
    kind: str, config: Any, values: dict[str, str], closed: User, editor: User, upstream: Upstream
) -> None:
    async def echo(call: Call) -> None:
        head = call.head.decode()
        padding = "x" * (4096 - len(head) % 7)
        fields = [(n, call.field(n) or "") for n in ("authorization", "x-key") if call.field(n)]
        seen = [("X-Seen", value) for _, value in fields] + [("X-Target", call.target)]
        await call.answer(200, (head + padding + head).encode(), [*seen, ("Set-Cookie", TOKEN)])

    upstream.script = echo
    draft = {
        "upstreamBaseUrl": upstream.url, "authType": kind, "authConfig": config, "secrets": values,
    }  # fmt: skip
    answer = await editor.post("/connectors/test", draft)

    assert answer.json["ok"] is True, answer.text
    assert answer.json["answer"]["truncated"] is True
    assert len(answer.json["answer"]["body"]) <= 4096
    assert "***" in answer.json["answer"]["body"]
    pair = base64.b64encode(f"ana:{TOKEN}".encode()).decode()
    for form in (TOKEN, "s3cr3t", pair, base64.b64encode(TOKEN.encode()).decode()):
        assert form not in answer.text
    assert "set-cookie" not in answer.text.lower()


@pytest.mark.parametrize(
    ("kind", "config", "shown"),
    [
        ("bearer", {}, "Bearer ***"),
        ("query", {"paramName": "k"}, "k=***"),
        ("header", {"headers": {"X-Key": "a {{secrets.token}}"}}, "a ***"),
    ],
)
async def test_guess_of_a_secret_is_shown_as_it_was_typed(
    kind: str, config: Any, shown: str, admin: User, editor: User, upstream: Upstream
) -> None:
    async def echo(call: Call) -> None:
        await call.read_body()
        await call.answer(200, call.head + call.body, [("X-Seen", call.field("x-guess") or "")])

    upstream.script = echo
    connector: dict[str, Any] = {"slug": "maps", "upstreamBaseUrl": upstream.url, "authType": kind}
    connector |= {"authConfig": config, "endpoints": [ECHO], "secrets": {"token": "pass-w0rd-2"}}
    assert (await admin.post("/connectors", connector)).status == 201
    guesses = [f"pass-w0rd-{number}" for number in range(5)]
    told = []
    for right in ("pass-w0rd-2", "quite-other"):
        await admin.put("/connectors/maps/secrets", {"token": right})
        request = {
            "endpoint": "echo",
            "path": "/echo/pass-w0rd-2",
            "query": "q=pass-w0rd-2",
            "headers": {"X-Guess": "pass-w0rd-2"},
            "body": guesses,
        }
        answer = await editor.post("/connectors/maps/test", request)
        assert answer.json["ok"] is True, answer.text
        sent = answer.json["request"]
        assert "/e/pass-w0rd-2?q=pass-w0rd-2" in sent["url"]
        assert {"name": "X-Guess", "value": "pass-w0rd-2"} in sent["headers"]
        assert shown in f"{sent['url']} {sent['headers']}"
        lines = [line.lower() for line in (answer.json["answer"]["body"] or "").splitlines()]
        ours = ("x-request-id", "traceparent")
        told.append([line for line in lines if not line.startswith(ours)])
        assert "w0rd" not in answer.json["answer"]["body"]

    assert told[0] == told[1]


async def test_answer_to_more_than_is_compared_is_not_shown(
    admin: User, editor: User, make_connector: Make, upstream: Upstream
) -> None:
    await make_connector(
        upstreamBaseUrl=upstream.url, authType="bearer", secrets={"token": TOKEN}, endpoints=[ECHO]
    )
    request = {"endpoint": "echo", "path": "/echo/a", "bodyText": "guess " * 2000}
    answer = (await editor.post("/connectors/maps/test", request)).json

    assert (answer["ok"], answer["answer"]["status"]) == (True, 200)
    assert (answer["answer"]["headers"], answer["answer"]["body"]) == ([], None)


async def test_part_of_a_secret_at_the_cut_is_not_shown(editor: User, upstream: Upstream) -> None:
    secret = "s" + "3cr3t" * 40
    for length in (4000, 4090, 4096, 4200, 4400):
        upstream.script = saying(
            b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n"
            + "é".encode() * (length // 2)
            + secret.encode()
            + b"x" * 10,
            close=True,
        )
        draft = {
            "upstreamBaseUrl": upstream.url, "authType": "bearer", "secrets": {"token": secret},
        }  # fmt: skip
        answer = await editor.post("/connectors/test", draft)
        assert answer.status == 200
        assert "3cr3t" not in answer.text, length


async def test_body_that_is_no_text_is_not_shown(editor: User, upstream: Upstream) -> None:
    for head, body in (
        (b"Content-Encoding: gzip\r\n", b"abc"),
        (b"", b"\xff\xfe\x00"),
        (b"", b"a\x00b\x00"),
    ):
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        upstream.script = saying(b"HTTP/1.1 200 OK\r\n" + head + length + body)
        answer = await editor.post("/connectors/test", {"upstreamBaseUrl": upstream.url})
        assert (answer.json["ok"], answer.json["answer"]["body"]) == (True, None)


async def test_stream_is_ok_with_its_first_piece(editor: User, upstream: Upstream) -> None:
    async def stream(call: Call) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        await call.send(head + b"data: 1\n\n")
        await call.gone()

    upstream.script = stream
    answer = await editor.post("/connectors/test", {"upstreamBaseUrl": upstream.url})
    assert (answer.json["ok"], answer.json["answer"]["body"]) == (True, "data: 1\n\n")


async def test_own_field_that_is_passed_through_is_masked(editor: User, upstream: Upstream) -> None:
    draft = {
        "upstreamBaseUrl": upstream.url,
        "authType": "passthrough",
        "authConfig": {"headerName": "X-Token"},
        "endpoints": [FIXED],
        "request": {"endpoint": "fixed"},
    }
    lacking = await editor.post("/connectors/test", draft)
    draft["request"] = {"endpoint": "fixed", "headers": {"X-Token": TOKEN}}
    answer = await editor.post("/connectors/test", draft)

    assert (last(lacking)["name"], lacking.json["ok"]) == ("request", False)
    assert upstream.call.field("x-token") == TOKEN
    assert TOKEN not in answer.text
