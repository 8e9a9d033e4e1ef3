"""What the pipeline would do with a request: its filters run, and nothing is sent, counted or kept.

The filters are built anew for each explanation with objects that only look: a directory that reads
what is in force and has a mask for every secret, limits that peek. The innermost filter is
replaced by the end of the tale. Filters of others run when they say so (`explained = True`).
"""

from __future__ import annotations

import dataclasses
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from gateway.clock import SystemClock
from gateway.database import Database
from gateway.directory import Directory, KeyRecord
from gateway.exchange import Exchange, Proceed, Response
from gateway.identity import keys
from gateway.identity.jwts import Identity, TokenFault, Tokens
from gateway.limits.contract import Limit, Limits
from gateway.metrics import Metrics
from gateway.model import Caller, Connector, Plan
from gateway.pipeline import Stage
from gateway.problems import Rejected
from gateway.runtime import Runtime
from gateway.secrets.vault import Vault

log = logging.getLogger(__name__)

MASK: Final = "***"
"""What stands for the value of every secret."""

Outcome = Literal["forwarded", "answered", "refused", "failed", "unknown"]


class ByKey(NamedTuple):
    """A caller with a key, by the key's public id."""

    public_id: str


class ByUser(NamedTuple):
    """A caller with a token for a team."""

    user: str
    team: str
    role: str


@dataclass(slots=True)
class Verdict:
    """What a filter made of the request: passed, answered, refused, failed, skipped, not reached."""

    name: str
    verdict: str = "not reached"
    detail: str = ""
    rejected: Rejected | None = None


@dataclass(slots=True)
class Explanation:
    """The whole tale. `exchange` is as the filters left it; its outgoing request has no secret."""

    exchange: Exchange
    verdicts: list[Verdict]
    outcome: Outcome = "unknown"
    status: int | None = None


class Explainer:
    """Explains requests to the pipeline of a process."""

    def __init__(
        self,
        stages: Sequence[Stage],
        runtime: Runtime,
        database: Database,
        vault: Vault,
        default_plan: Plan,
        *,
        guards_origin: bool = False,
    ) -> None:
        self._stages = stages
        self._guards_origin = guards_origin
        self._runtime = runtime
        self._database = database
        self._vault = vault
        self._default_plan = default_plan

    async def explain(
        self, make: Callable[[tuple[str, str]], Exchange], caller: ByKey | ByUser
    ) -> Explanation:
        """Run the pipeline. `make` gives the exchange with one more header: the credential.

        Raises Rejected `store_unavailable`.
        """
        credential, directory, tokens = self._credential(caller)
        exchange = make(credential)
        exchange.guards_origin = self._guards_origin
        told = Explanation(exchange, [Verdict(stage.name) for stage in self._stages])
        runtime = dataclasses.replace(
            self._runtime,
            directory=directory,
            tokens=tokens,
            limits=_Peeking(self._runtime.limits),
            metrics=Metrics("explained"),
        )
        proceed: Proceed = _nobody
        for number in reversed(range(len(self._stages))):
            proceed = self._step(number, told, runtime, proceed, caller)
        try:
            response = await proceed(exchange)
            told.status = response.status
        except Rejected as rejected:
            told.status = rejected.status
        except Exception:
            told.status = 500
            log.exception("a filter failed in an explanation")
        finally:
            exchange.close()
            await directory.close()
        return told

    def _credential(self, caller: ByKey | ByUser) -> tuple[tuple[str, str], _Masked, _Vouched]:
        """A credential that is good here and now alone, and who knows it."""
        made = keys.make(caller.public_id if isinstance(caller, ByKey) else None)
        token, identity = secrets.token_hex(16), None
        if isinstance(caller, ByUser):
            identity = Identity(caller.user, {caller.team: caller.role}, float("inf"))
        directory = _Masked(self._database, self._vault, self._default_plan, made.digest)
        shown = ("Authorization", f"Bearer {made.value if identity is None else token}")
        return shown, directory, _Vouched(token, identity)

    def _step(
        self,
        number: int,
        told: Explanation,
        runtime: Runtime,
        proceed: Proceed,
        caller: ByKey | ByUser,
    ) -> Proceed:
        stage, verdict = self._stages[number], told.verdicts[number]
        if getattr(stage.cls, "answers", False):
            return _end(told, verdict)
        if getattr(stage.cls, "explained", ":" not in stage.name):
            return _told(told, verdict, stage.cls(stage.options, runtime).__call__, proceed)
        later = {name for after in self._stages[number + 1 :] for name in after.cls.needs}
        return _skipped(told, verdict, _Gap(stage.cls.gives & later, runtime, caller), proceed)


class _Gap(NamedTuple):
    """What a filter that is not run would have given."""

    fields: frozenset[str]
    runtime: Runtime
    caller: ByKey | ByUser

    async def fill(self, exchange: Exchange) -> bool:
        """Put the described caller in, and say whether that was all that is missing."""
        directory, caller = self.runtime.directory, self.caller
        if "caller" in self.fields and isinstance(caller, ByKey):
            if (record := await directory.key(caller.public_id)) is None:
                return False
            exchange.caller = record.caller
        elif "caller" in self.fields and isinstance(caller, ByUser):
            user, team, role = caller
            exchange.caller = Caller("user", user, user, team, await directory.plan_of(team), role)
        return not self.fields - {"caller"}


def _told(
    told: Explanation,
    verdict: Verdict,
    call: Callable[[Exchange, Proceed], Awaitable[Response]],
    proceed: Proceed,
) -> Proceed:
    """A filter that tells what it decides."""

    async def on(exchange: Exchange) -> Response:
        verdict.verdict = "passed"
        return await proceed(exchange)

    async def step(exchange: Exchange) -> Response:
        verdict.verdict = "reached"
        try:
            response = await call(exchange, on)
        except Rejected as rejected:
            if verdict.verdict == "reached":
                verdict.verdict, verdict.detail = "refused", rejected.detail
                verdict.rejected, told.outcome = rejected, "refused"
            raise
        except Exception:
            if verdict.verdict == "reached":
                verdict.verdict, told.outcome = "failed", "failed"
                verdict.detail = "The filter has a fault; the gateway's log has it."
            raise
        if verdict.verdict == "reached":
            verdict.verdict, told.outcome = "answered", "answered"
            verdict.detail = f"It answers {response.status} itself."
        return response

    return step


def _skipped(told: Explanation, verdict: Verdict, gap: _Gap, proceed: Proceed) -> Proceed:
    """A filter that is not run; where others need what it gives, the tale ends."""

    async def step(exchange: Exchange) -> Response:
        verdict.verdict, verdict.detail = "skipped", "It is not run for an explanation."
        if await gap.fill(exchange):
            return await proceed(exchange)
        verdict.detail += " What follows needs what it gives, and cannot be told."
        return Response(200)

    return step


def _end(told: Explanation, verdict: Verdict) -> Proceed:
    """The innermost filter: it would call the upstream."""

    async def step(_exchange: Exchange) -> Response:
        verdict.verdict, verdict.detail = "passed", "It would call the upstream."
        told.outcome = "forwarded"
        return Response(200)

    return step


async def _nobody(_exchange: Exchange) -> Response:
    raise AssertionError("the innermost filter must answer")


class _Masked(Directory):
    """What is in force now, read anew; secrets are masks, and a key's value is a new one."""

    def __init__(self, database: Database, vault: Vault, default_plan: Plan, digest: bytes) -> None:
        super().__init__(database, vault, default_plan, SystemClock())
        self._digest = digest

    async def key(self, public_id: str) -> KeyRecord | None:
        """A key, as if the credential of this explanation were its value."""
        record = await super().key(public_id)
        return None if record is None else dataclasses.replace(record, digest=self._digest)

    def held_key(self, public_id: str) -> KeyRecord | None:
        """None: what is loaded has the true digest."""
        return None

    def _open(self, rows: list[dict[str, Any]], connector: Connector) -> dict[str, str]:
        return dict.fromkeys(super()._open(rows, connector), MASK)


class _Vouched(Tokens):
    """Knows the one token of an explanation."""

    def __init__(self, token: str, identity: Identity | None) -> None:
        self._token = token
        self._whom = identity

    async def verify(self, token: str) -> Identity:
        """Whom the explanation is about. Raises TokenFault for another token."""
        if self._whom is None or token != self._token:
            raise TokenFault("not the token of this explanation")
        return self._whom


class _Peeking:
    """Says what the limits would decide, and takes nothing."""

    def __init__(self, limits: Limits) -> None:
        self.decide = self.peek = limits.peek

    def decide_now(self, limits: Sequence[Limit], amount: int = 1) -> None:
        """None: `decide` has to be asked."""

    async def charge(self, limits: Sequence[Limit], amount: int, at: float) -> None:
        """Nothing was taken."""
