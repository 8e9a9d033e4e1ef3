"""Signing in to the UI: a cookie in place of the token, for our own pages alone, until signing out."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from http.cookies import Morsel, SimpleCookie
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from admin.access import CSRF
from admin.api import application
from admin.control import Control
from gateway.http.origin import SECURE_COOKIE, SESSION_COOKIE
from gateway.identity.jwts import TokenRules, Tokens, TrustedKey
from gateway.secrets.rotation import rotate
from gateway.secrets.vault import MasterKey, Vault
from tests.admin.client import BASE, Answer, Fetch, Tokened, User, read

OURS = {"Sec-Fetch-Site": "same-origin"}


@dataclass(frozen=True)
class Browser:
    """A browser that is signed in: it sends the cookie, and says where a request is from."""

    http: TestClient[Any, Any]
    cookie: str

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        sent = {"Cookie": f"{SESSION_COOKIE}={self.cookie}", "x-team-id": "red"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await read(await self.http.request(method, BASE + path, json=body, headers=sent))


def cookie_of(answer: Answer) -> Morsel[str]:
    return SimpleCookie(answer.headers["Set-Cookie"])[SESSION_COOKIE]


async def sign_in(http: TestClient[Any, Any], token: str, **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await read(await http.post(BASE + "/session", json={"token": token}, headers=sent))


@pytest.fixture
async def browser(http: TestClient[Any, Any], token: Tokened) -> Browser:
    answer = await sign_in(http, token({"red": "admin"}))
    return Browser(http, cookie_of(answer).value)


async def test_token_becomes_a_cookie_that_scripts_and_other_sites_do_not_get(
    http: TestClient[Any, Any], token: Tokened
) -> None:
    signed = token({"red": "admin"}, life_s=600)
    answer = await sign_in(http, signed)
    cookie = cookie_of(answer)

    assert answer.status == 201
    assert answer.json["team"] == "red"
    assert answer.headers["Cache-Control"] == "no-store"
    assert cookie["httponly"]
    assert cookie["samesite"] == "Strict"
    assert 590 < int(cookie["max-age"]) <= 600
    # Without a path or domain it goes to this host's admin API alone, below whatever prefix.
    assert (cookie["path"], cookie["domain"], cookie["secure"]) == ("", "", "")
    assert signed not in answer.headers["Set-Cookie"]
    assert signed not in answer.text


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://gateway.example.com"}, {"X_Forwarded_Proto": "https"}]
)
async def test_cookie_of_https_is_for_https_alone(
    headers: dict[str, str], http: TestClient[Any, Any], token: Tokened
) -> None:
    answer = await sign_in(http, token({"red": "admin"}), **headers)
    [(name, cookie)] = SimpleCookie(answer.headers["Set-Cookie"]).items()

    assert (name, cookie["secure"]) == (SECURE_COOKIE, True)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    for named, status in ((SECURE_COOKIE, 200), (SESSION_COOKIE, 401)):
        asked = await http.get(BASE + "/me", headers={"Cookie": f"{named}={cookie.value}"} | sent)
        assert asked.status == status
    signed_out = await http.delete(
        BASE + "/session", headers={"Cookie": f"{SECURE_COOKIE}={cookie.value}", CSRF: "1"} | sent
    )
    assert signed_out.headers["Set-Cookie"].startswith(f"{SECURE_COOKIE}=; Max-Age=0; ")


async def test_cookie_opens_what_its_token_opens(browser: Browser) -> None:
    me = await browser.call("GET", "/me")
    assert (me.status, me.json["user"], me.json["role"]) == (200, "ana", "admin")
    made = await browser.call("POST", "/plans", {"name": "gold"}, **OURS)
    assert made.status == 201
    assert (await browser.call("GET", "/plans", x_team_id="blue")).status == 403


async def test_role_counts_for_a_session_too(http: TestClient[Any, Any], token: Tokened) -> None:
    viewer = Browser(http, cookie_of(await sign_in(http, token({"red": "viewer"}))).value)

    assert (await viewer.call("POST", "/plans", {"name": "gold"}, **OURS)).status == 403


async def test_only_digest_and_sealed_token_are_kept(
    http: TestClient[Any, Any], token: Tokened, fetch: Fetch
) -> None:
    signed = token({"red": "admin"})
    cookie = cookie_of(await sign_in(http, signed)).value
    (row,) = await fetch("SELECT * FROM admin_session")

    assert signed not in str(row)
    assert signed.encode() not in row["sealed"]
    assert cookie.encode() not in row["digest"]
    assert len(row["digest"]) == 32


async def test_session_outlives_a_restart(
    browser: Browser, control: Control, aiohttp_client: Any
) -> None:
    restarted = await aiohttp_client(application(control))

    assert (await Browser(restarted, browser.cookie).call("GET", "/me")).status == 200


async def test_sign_out_ends_the_session_for_whoever_has_the_cookie(browser: Browser) -> None:
    left = await browser.call("DELETE", "/session", **OURS)

    assert left.status == 204
    assert (cookie_of(left).value, cookie_of(left)["max-age"]) == ("", "0")
    assert (await browser.call("GET", "/me")).status == 401
    assert (await browser.call("DELETE", "/session", **OURS)).status == 401


async def test_sign_out_leaves_the_users_other_sessions(
    browser: Browser, http: TestClient[Any, Any], token: Tokened
) -> None:
    other = Browser(http, cookie_of(await sign_in(http, token({"red": "admin"}))).value)
    await browser.call("DELETE", "/session", **OURS)

    assert (await other.call("GET", "/me")).status == 200


async def test_session_ends_with_its_token(browser: Browser, fetch: Fetch) -> None:
    await fetch("UPDATE admin_session SET expires_at = now()")

    assert (await browser.call("GET", "/me")).status == 401


async def test_expired_sessions_do_not_stay(
    browser: Browser, http: TestClient[Any, Any], token: Tokened, fetch: Fetch
) -> None:
    await fetch("UPDATE admin_session SET expires_at = now()")
    await sign_in(http, token({"red": "admin"}))

    assert await fetch("SELECT count(*) FROM admin_session") == [{"count": 1}]


async def test_session_ends_with_the_key_that_signed_its_token(
    browser: Browser, control: Control, aiohttp_client: Any
) -> None:
    rules = TokenRules(issuer="tests", audience="service-gateway")
    others = Tokens(rules, [TrustedKey("HS256", "another signing key, long enough for HS256")])
    http = await aiohttp_client(application(replace(control, tokens=others)))

    assert (await Browser(http, browser.cookie).call("GET", "/me")).status == 401


async def test_session_outlives_the_master_key_that_sealed_it(
    browser: Browser, control: Control, aiohttp_client: Any
) -> None:
    old, new = MasterKey("first", bytes(range(32))), MasterKey("new", bytes(32))
    await rotate(control.database, Vault([new, old]), lambda _done, _total: None)
    http = await aiohttp_client(application(replace(control, vault=Vault([new]))))

    assert (await Browser(http, browser.cookie).call("GET", "/me")).status == 200


async def test_token_that_was_sealed_for_another_cookie_does_not_open(
    browser: Browser, http: TestClient[Any, Any], token: Tokened, fetch: Fetch
) -> None:
    """Whoever can write rows cannot give one cookie the rights of another."""
    other = Browser(http, cookie_of(await sign_in(http, token({"red": "viewer"}))).value)
    first, second = await fetch("SELECT id, sealed FROM admin_session ORDER BY id")
    await fetch("UPDATE admin_session SET sealed = $1 WHERE id = $2", first["sealed"], second["id"])

    assert (await other.call("GET", "/me")).status == 401


@pytest.mark.parametrize("cookie", ["x", "a.b.c", "%00", "é", "x" * 4000])
async def test_unknown_cookie_is_no_credential(cookie: str, http: TestClient[Any, Any]) -> None:
    answer = await Browser(http, cookie).call("GET", "/me")

    assert (answer.status, answer.json["code"]) == (401, "unauthenticated")


async def test_token_itself_is_no_cookie(http: TestClient[Any, Any], token: Tokened) -> None:
    assert (await Browser(http, token({"red": "admin"})).call("GET", "/me")).status == 401


SITES = ["same-origin", "none", "same-site", "cross-site", ""]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("ours", [True, False], ids=["with our header", "without"])
@pytest.mark.parametrize("site", SITES)
async def test_write_by_cookie_comes_from_our_own_page(
    site: str, ours: bool, method: str, browser: Browser
) -> None:
    """What the browser says decides; where it says nothing, our header does."""
    headers = {"Sec-Fetch-Site": site} if site else {}
    if ours:
        headers[CSRF] = "1"
    answer = await browser.call(method, "/plans/none", {"name": "gold"}, **headers)

    assert (answer.status == 403) is not (site == "same-origin" or (not site and ours))
    if answer.status == 403:
        assert answer.json["code"] == "forbidden"
        assert CSRF in answer.json["detail"]


@pytest.mark.parametrize("site", SITES)
async def test_read_by_cookie_is_not_for_other_sites(site: str, browser: Browser) -> None:
    headers = {"Sec-Fetch-Site": site} if site else {}
    for method in ("GET", "HEAD"):
        answer = await browser.call(method, "/me", **headers)
        assert answer.status == (403 if site in {"same-site", "cross-site"} else 200)


async def test_foreign_page_changes_nothing_and_learns_no_route(browser: Browser) -> None:
    for path in ("/plans", "/nothing"):
        answer = await browser.call("POST", path, {"name": "gold"}, Sec_Fetch_Site="cross-site")
        assert answer.status == 403
    (plan,) = (await browser.call("GET", "/plans")).json["items"]
    assert plan["name"] == "default"


async def test_bearer_needs_no_origin_and_comes_before_the_cookie(
    browser: Browser, http: TestClient[Any, Any], token: Tokened
) -> None:
    """A caller with a token is no browser that is made to send something."""
    bearer = f"Bearer {token({'red': 'admin'}, user='eve')}"
    foreign = {"Authorization": bearer, "Sec-Fetch-Site": "cross-site"}

    assert (await browser.call("POST", "/plans", {"name": "gold"}, **foreign)).status == 201
    assert (await browser.call("GET", "/me", Authorization=bearer)).json["user"] == "eve"
    for wrong in ("Bearer not.a.token", "Bearer gw_12345678", "Basic YTpi", ""):
        assert (await browser.call("GET", "/me", Authorization=wrong)).status == 401, wrong


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_nobody_is_signed_in_by_another_site(
    site: str, http: TestClient[Any, Any], token: Tokened
) -> None:
    answer = await sign_in(http, token({"red": "admin"}), Sec_Fetch_Site=site)

    assert answer.status == 403
    assert "Set-Cookie" not in answer.headers


async def test_form_does_not_sign_in(http: TestClient[Any, Any], token: Tokened) -> None:
    """What a page of another site can send without asking is no JSON."""
    answer = await read(await http.post(BASE + "/session", data={"token": token({"red": "admin"})}))

    assert answer.status == 415


@pytest.mark.parametrize("life_s", [600, -60])
async def test_wrong_and_expired_token_get_the_same_refusal(
    life_s: float, http: TestClient[Any, Any], token: Tokened
) -> None:
    given = token({"red": "admin"}, life_s=life_s)
    answer = await sign_in(http, given + "x" * (life_s > 0))

    assert (answer.status, answer.json["code"]) == (401, "unauthenticated")
    assert answer.json["detail"].startswith("The admin API needs a valid JWT")
    assert "Set-Cookie" not in answer.headers


async def test_body_is_checked_at_its_places(http: TestClient[Any, Any]) -> None:
    for body, pointer in (({}, "/token"), ({"token": 1}, "/token"), ({"user": "a"}, "/user")):
        answer = await read(await http.post(BASE + "/session", json=body))
        assert answer.status == 422, body
        assert pointer in answer.pointers


async def test_dry_run_signs_nobody_in_or_out(
    browser: Browser, http: TestClient[Any, Any], token: Tokened, fetch: Fetch
) -> None:
    body = {"token": token({"red": "admin"})}
    tried = await read(await http.post(BASE + "/session?dryRun=true", json=body))
    assert (tried.status, "Set-Cookie" in tried.headers) == (201, False)
    tried = await browser.call("DELETE", "/session?dryRun=true", **OURS)
    assert (tried.status, "Set-Cookie" in tried.headers) == (204, False)
    assert await fetch("SELECT count(*) FROM admin_session") == [{"count": 1}]


async def test_signing_in_and_out_is_in_the_audit_log_of_each_team(
    http: TestClient[Any, Any], token: Tokened, fetch: Fetch
) -> None:
    both = Browser(
        http, cookie_of(await sign_in(http, token({"red": "admin", "blue": "viewer"}))).value
    )
    await both.call("DELETE", "/session", **OURS)
    rows = await fetch("SELECT team_id, actor, action FROM audit_log ORDER BY at, team_id")

    assert [(row["team_id"], row["actor"], row["action"]) for row in rows] == [
        ("blue", "ana", "session.create"),
        ("red", "ana", "session.create"),
        ("blue", "ana", "session.delete"),
        ("red", "ana", "session.delete"),
    ]


async def test_neither_cookie_nor_token_is_logged(
    http: TestClient[Any, Any], token: Tokened, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    signed = token({"red": "admin"})
    browser = Browser(http, cookie_of(await sign_in(http, signed)).value)
    await browser.call("POST", "/plans", {"name": "gold"}, Sec_Fetch_Site="cross-site")
    await browser.call("DELETE", "/session", **OURS)
    await browser.call("GET", "/me")
    logged = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)

    assert "a session: " in logged
    assert browser.cookie not in logged
    assert signed not in logged


async def test_token_without_a_team_may_sign_in(http: TestClient[Any, Any], token: Tokened) -> None:
    answer = await sign_in(http, token({}))

    assert (answer.status, answer.json["team"], answer.json["teams"]) == (201, None, [])


async def test_database_that_is_away_is_said_and_no_401(cut_off: User) -> None:
    answer = await Browser(cut_off.http, "x").call("GET", "/me")

    assert (answer.status, answer.json["code"]) == (503, "store_unavailable")
