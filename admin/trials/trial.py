"""One test of a connection: a request through the real transport, told step by step.

The first step that fails is the last. The request goes where the connector's requests go and nowhere
else. What is shown of it was made with masks for the secrets, and in its answer they are masked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from admin import secrets, snapshots
from admin.calls import Call
from admin.described_requests import exchange_of
from admin.fields import sentence
from admin.masks import STAND_INS, Masks, readable
from admin.publishing import COMPILES, placeholders
from admin.trials.typed import typed
from gateway.exchange import Exchange, Outgoing
from gateway.explain.explanation import MASK
from gateway.http.wire import has_no_body
from gateway.model import Connector, Mapped
from gateway.problems import Fault, Rejected
from gateway.transform.compiling import compile_connector
from gateway.transform.costly_checks import Apart
from gateway.transform.routes import Pattern, Router
from gateway.upstream.answer import Answer, Bounds
from gateway.upstream.attempts import check_hosts
from gateway.upstream.dialling import Target
from gateway.upstream.probe import STAGES, Probe

MOST_S: Final = 10.0
"""How long a test takes at most, in seconds."""
MOST_SHOWN: Final = 4096
"""How much of an answer's body is shown, in characters."""
_NO_ENDPOINT: Final = {"id": "", "name": "", "method": "GET", "path": "/", "definition": {}}
_REFUSED: Final = frozenset([401, 403, 407])
_TOLD: Final = {
    "address": "The host has an address that is allowed.",
    "connect": "The upstream took the connection.",
    "tls": "The upstream's certificate is trusted.",
}


class Asked(NamedTuple):
    """The request: as it is described, of this endpoint, with this path."""

    request: Mapping[str, Any]
    endpoint: Mapping[str, Any] | None
    path: str

    @property
    def method(self) -> str:
        """The caller's method."""
        return "GET" if self.endpoint is None else str(self.endpoint["method"])

    def secret_names(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The secrets that it needs, of a connector's row."""
        return secrets.names_of(row, [] if self.endpoint is None else [self.endpoint])

    def fits(self, pattern: Pattern) -> bool:
        """True when the path is one of the pattern's."""
        try:
            Router([(self.method, pattern, None)]).match(self.method, self.path)
        except Rejected:
            return False
        return True


class Failed(Exception):
    """A step has failed: there is no next one."""


class Steps:
    """What was done so far, in order, and how long each took."""

    def __init__(self) -> None:
        self._begun = self._mark = time.perf_counter()
        self.told: list[dict[str, Any]] = []

    @property
    def passed_s(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._begun

    def done(self, name: str, detail: str, at: float | None = None) -> None:
        """A step that went well, by now or at a time of `perf_counter`'s."""
        self._add(name, detail, ok=True, at=time.perf_counter() if at is None else at)

    def fail(self, name: str, detail: str) -> Failed:
        """The last step; for raising."""
        self._add(name, detail, ok=False, at=time.perf_counter())
        return Failed()

    def _add(self, name: str, detail: str, *, ok: bool, at: float) -> None:
        took_ms = round(max(at - self._mark, 0.0) * 1000, 3)
        self.told.append({"name": name, "ok": ok, "detail": detail, "durationMs": took_ms})
        self._mark = at


class Trial:
    """What is tested, with which secrets, and what is found out."""

    def __init__(
        self,
        row: Mapping[str, Any],
        asked: Asked,
        values: Mapping[str, str],
        unset: Sequence[Fault],
    ) -> None:
        self.row = row
        self.origin = ""
        self._asked = asked
        self._values = values
        self._unset = unset
        self._steps = Steps()
        self._masks = Masks([])
        self._shown: Outgoing | None = None
        self._is_long = False
        self._answer: dict[str, Any] | None = None

    def told(self) -> dict[str, Any]:
        """The answer of the API; `ok` only when an answer came and every step went well."""
        request, steps = None, self._steps.told
        if self._shown is not None:
            request = {
                "method": self._shown.method,
                "url": STAND_INS.text(self.origin + self._shown.target),
                "headers": STAND_INS.headers(self._shown.headers),
            }
        return {
            "ok": self._answer is not None and all(step["ok"] for step in steps),
            "durationMs": round(self._steps.passed_s * 1000, 3),
            "steps": steps,
            "request": request,
            "answer": self._answer,
        }

    async def run(self, call: Call, *, send: bool) -> None:
        """Do step after step; the request itself only where it is to be sent."""
        try:
            compiled, exchange = await self._prepare(call)
            if send:
                await self._send(call.control.probe(), compiled, exchange)
        except Failed:
            pass

    async def _prepare(self, call: Call) -> tuple[Connector, Exchange]:
        """The upstream request, made as callers' are."""
        endpoint = self._asked.endpoint
        own = [] if endpoint is None else [{**endpoint, "enabled": True}]
        frozen = snapshots.freeze(self.row, own)
        for fault in placeholders(frozen):
            raise self._steps.fail("url", fault.detail)
        try:
            entries = frozen["endpoints"] or [_NO_ENDPOINT]
            whole = {**frozen, "endpoints": entries}
            compiled = compile_connector(whole, team=call.team, secrets=self._values)
            masks = dict.fromkeys(self._values, MASK)
            masked = compile_connector(whole, team=call.team, secrets=masks)
        except COMPILES as fault:
            raise self._steps.fail("url", sentence(fault)) from None
        try:
            check_hosts(compiled)
        except Rejected as rejected:
            raise self._steps.fail("url", rejected.detail) from None
        origin = _first(compiled)
        self.origin = f"{origin.scheme}://{origin.netloc}"
        self._steps.done("url", f"The request goes to {self.origin}.")
        if self._unset:
            raise self._steps.fail("secrets", " ".join(fault.detail for fault in self._unset))
        if self._values:
            self._steps.done("secrets", f"Set: {', '.join(self._values)}.")
        return compiled, await self._exchange(call, compiled, masked)

    async def _exchange(self, call: Call, compiled: Connector, masked: Connector) -> Exchange:
        given, method, path = self._asked.request, self._asked.method, self._asked.path
        query = (compiled.definition.health_check_path or "").partition("?")[2]
        if self._asked.endpoint is None and not given["query"]:
            given = {**given, "query": query}
        exchange = exchange_of(
            given,
            method,
            f"/{compiled.slug}{path}",
            client_address=call.client_address,
            request_id=call.request_id,
        )
        match = compiled.router.match(method, path)
        exchange.connector, exchange.endpoint, exchange.params = compiled, match.route, match.params
        try:
            exchange.outgoing = self._mapped(compiled, path).outgoing(exchange)
            await _check(exchange)
            shown = self._mapped(masked, path).outgoing(exchange)
        except Rejected as rejected:
            faults = [f"{fault.pointer}: {fault.detail}." for fault in rejected.errors]
            raise self._steps.fail("request", " ".join([rejected.detail, *faults])) from None
        passed = self._passed()
        content = shown.body if shown.body is not None else exchange.body.arrived() or b""
        words = typed(shown, content)
        self._is_long = words is None
        hidden = [value for name, value in given["headers"].items() if name.lower() == passed]
        self._masks = Masks([*_hidden(self.row, self._values), *hidden], words or ())
        shown.headers = [
            (name, MASK.encode() if name.lower().decode("ascii") == passed else value)
            for name, value in shown.headers
        ]
        self._shown = shown
        return exchange

    def _mapped(self, compiled: Connector, path: str) -> Mapped:
        """How the request is made; without an endpoint it goes to what health checks ask."""
        mapped = compiled.router.match(self._asked.method, path).route.mapped
        if self._asked.endpoint is not None:
            return mapped
        health = (compiled.definition.health_check_path or "").partition("?")[0]
        return mapped.to(compiled.base.path.rstrip("/") + health or "/")

    def _passed(self) -> str | None:
        """The lower-case name of the caller's field that is passed through, if one is."""
        if self.row["auth_type"] != "passthrough":
            return None
        return str(self.row["auth_config"].get("header_name", "Authorization")).lower()

    async def _send(self, probe: Probe, compiled: Connector, exchange: Exchange) -> None:
        endpoint = exchange.endpoint
        target = Target(
            _first(compiled), "test", min(compiled.connect_timeout_s, MOST_S), compiled.team
        )
        idle_s = min(endpoint.idle_timeout_s, MOST_S)
        limits = Bounds(min(endpoint.timeout_s, MOST_S), idle_s, MOST_SHOWN, streaming=True)
        try:
            try:
                got = await probe.send(target, exchange.outgoing, exchange.body, limits)
            except Rejected as rejected:
                raise self._stopped(probe, target, rejected) from None
            self._stages(probe, target)
            self._steps.done("request", "The upstream answered.")
            try:
                await self._look(exchange, got)
            finally:
                got.release()
        finally:
            await probe.close()

    def _stages(self, probe: Probe, target: Target) -> str:
        """Tell of each stage that was reached; answers the name of the next one."""
        for stage in STAGES:
            if stage == "tls" and not target.is_tls:
                continue
            if (at := probe.reached.get(stage)) is None:
                return stage
            self._steps.done(stage, _TOLD[stage], at)
        return "request"

    def _stopped(self, probe: Probe, target: Target, rejected: Rejected) -> Failed:
        """How far the request came. Of a refused address nothing is told but that."""
        blocked = rejected.code == "upstream_blocked"
        stage = "address" if blocked else self._stages(probe, target)
        return self._steps.fail(stage, rejected.detail)

    async def _look(self, exchange: Exchange, got: Answer) -> None:
        """Read the beginning of the answer, and judge it."""
        status, content, fault = got.status, bytearray(), ""
        most = MOST_SHOWN + 2 * self._masks.longest
        if not has_no_body(exchange.outgoing.method, status):
            fault = await self._read(got, content, most)
        body = None if self._is_long else readable(bytes(content), got.headers)
        is_cut = bool(fault) or len(content) >= most
        if body is not None:
            body = self._masks.text(body)
            if is_cut:  # half of a secret is none that is found
                body = body[: max(len(body) - self._masks.longest, 0)]
        self._answer = {
            "status": status,
            "headers": []
            if self._is_long
            else self._masks.headers(
                [field for field in got.headers if field[0].lower() != b"set-cookie"]
            ),
            "body": None if body is None else body[:MOST_SHOWN],
            "truncated": is_cut or len(body or "") > MOST_SHOWN,
        }
        self._judge(status, fault)

    async def _read(self, got: Answer, content: bytearray, most: int) -> str:
        """Take so much of a body, of a stream its first piece; answers what went wrong, if anything."""
        if got.body is not None:
            content += got.body[:most]
            return ""
        kinds = [value for name, value in got.headers if name.lower() == b"content-type"]
        is_stream = any(kind.lower().startswith(b"text/event-stream") for kind in kinds)
        try:
            async with asyncio.timeout(max(MOST_S - self._steps.passed_s, 0.0)):
                async for piece in got.pieces():
                    content += piece[: most - len(content)]
                    if len(content) >= most or is_stream:
                        break
        except TimeoutError:
            return "The answer was not complete in time."
        except Rejected as rejected:
            return rejected.detail
        return ""

    def _judge(self, status: int, fault: str) -> None:
        """Whether the credentials were taken, where the status tells, and whether this is an answer."""
        if status in _REFUSED:
            raise self._steps.fail("auth", f"{status}: the upstream refused the credentials.")
        if fault:
            raise self._steps.fail("answer", fault)
        if not 200 <= status < 300:
            raise self._steps.fail("answer", _verdict(status))
        sent = self.row["auth_type"] != "none"
        self._steps.done(
            "auth",
            "The upstream did not refuse the credentials." if sent else "No credentials are sent.",
        )
        self._steps.done("answer", f"{status}: the upstream answers.")


def _first(compiled: Connector) -> Any:
    """The origin that is tried: of several the first of those whose turn comes first."""
    return min(compiled.destinations, key=lambda destination: destination.priority).url


async def _check(exchange: Exchange) -> None:
    """Ask of the request what the endpoint asks of a caller's. Raises Rejected."""
    rules, most = exchange.endpoint.rules, exchange.endpoint.definition.max_request_size
    if most is not None:
        exchange.body.limit(most)
    rules.check_headers(exchange.headers)
    if rules.need_body:
        team, body = exchange.connector.team, exchange.body.arrived() or b""
        await Apart().check_body(team, rules, body, exchange.headers)


def _hidden(row: Mapping[str, Any], values: Mapping[str, str]) -> list[str]:
    """Whatever of ours is a credential in the request."""
    config = row["auth_config"]
    hidden = [*values.values()]
    if row["auth_type"] == "basic":
        names = (config.get("username_ref", "username"), config.get("password_ref", "password"))
        hidden.append(":".join(values.get(name, "") for name in names))
    return hidden


def _verdict(status: int) -> str:
    if 300 <= status < 400:
        return f"{status}: the upstream redirects, and callers would have to follow."
    if status == 404:
        return "404: the upstream has nothing here; set healthCheckPath, or name an endpoint."
    return f"{status}: the upstream answers with an error."
