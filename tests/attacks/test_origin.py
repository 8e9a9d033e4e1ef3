"""An upstream that speaks for the whole origin: its fields and cookies do not get there, nor ours to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from gateway.http.origin import ACTING, SECURE_COOKIE, SESSION_COOKIE
from tests.dataplane import LOOPBACK, Gateway, endpoint
from tests.loopback import Call, Upstream

Start = Callable[..., Awaitable[Gateway]]
SETTINGS = {"upstream": {"allow_networks": list(LOOPBACK)}}
BENT = {"sandbox_responses": False, "pass_cookies": True}
ORDERS = ("Redirect", "Buffering", "Charset", "Expires", "Limit-Rate", "Anything")
SAID = sorted(name.decode() for name in ACTING) + [f"X-Accel-{order}" for order in ORDERS]
SESSIONS = (SESSION_COOKIE, SECURE_COOKIE, SESSION_COOKIE.upper(), f"={SESSION_COOKIE}")


@pytest.fixture(params=[{}, BENT], ids=["usual", "bent"])
async def running(
    gateway: Start, upstream: Upstream, request: pytest.FixtureRequest
) -> tuple[Gateway, str]:
    """A gateway, the key of a caller, and a connector that keeps what it may from being sandboxed."""
    made = await gateway(**SETTINGS)
    await made.rows.plan()
    await made.rows.connector(upstream.url, endpoint(), **request.param)
    return made, await made.rows.key()


def saying(*fields: tuple[str, str], status: int = 200) -> Callable[[Call], Awaitable[None]]:
    async def answer(call: Call) -> None:
        await call.answer(status, fields=fields)

    return answer


async def test_no_field_acts_on_the_origin(
    running: tuple[Gateway, str], upstream: Upstream
) -> None:
    made, key = running
    for spell in (str.lower, str.upper, str.title):
        upstream.script = saying(*((spell(name), "hostile") for name in SAID), ("X-Own", "stays"))
        got = await made.call(key=key)

        assert got.field("x-own") == "stays"
        assert b"hostile" not in str(got).encode()


async def test_challenge_is_told_where_no_browser_asks_for_a_password(
    running: tuple[Gateway, str], upstream: Upstream
) -> None:
    made, key = running
    upstream.script = saying(("WWW-Authenticate", 'Basic realm="admin"'), status=401)
    got = await made.call(key=key)

    assert (got.status, got.field("www-authenticate")) == (401, None)
    assert got.field("x-upstream-www-authenticate") == 'Basic realm="admin"'


@pytest.mark.parametrize("name", SESSIONS)
async def test_session_is_neither_sent_nor_set(
    running: tuple[Gateway, str], upstream: Upstream, name: str
) -> None:
    made, key = running
    upstream.script = saying(
        ("Set-Cookie", f"{name}=evil; Path=/api"), ("Set-Cookie", f"{name}=; Max-Age=0")
    )
    fields = [("Cookie", f"a=1; {name}=hush; b=2"), ("Cookie", f"{name}=hush")]
    got = await made.call(fields=fields, key=key)

    assert got.field("set-cookie") is None
    assert "hush" not in str(upstream.call.fields)
    assert upstream.call.field("cookie") in {None, "a=1; b=2"}
