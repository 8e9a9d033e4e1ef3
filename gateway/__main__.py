"""The command line and the composition root: arguments, configuration, wiring."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvloop

from admin.api import application as admin_application
from admin.control import Control
from admin.templates.documents import TemplateFault, check_all
from gateway import __version__, logs, pipeline
from gateway.commands import check, declarative
from gateway.commands.admin_client import CallFault, local_url
from gateway.config import read
from gateway.console import Screen, complain
from gateway.database import Database, DatabaseAway, MigrationFault
from gateway.demo.preparing import DemoFault
from gateway.explain.explanation import Explainer
from gateway.identity.jwts import TokenFault
from gateway.lifecycle.embedded import EmbeddedFault, Postgres, data_directory
from gateway.lifecycle.serving import Plan, serve
from gateway.lifecycle.wiring import MASTER_KEY_FILE, Worker, tokens_of, vault_of
from gateway.options import OptionFaults
from gateway.pipeline import Stage
from gateway.problems import quoted
from gateway.secrets import key_ring
from gateway.secrets.rotation import Outcome, rotate
from gateway.secrets.vault import VaultFault
from gateway.server.listeners import ListenFault
from gateway.settings import Settings

_FAULTS = (
    DatabaseAway, DemoFault, EmbeddedFault, ListenFault, MigrationFault, TemplateFault, TokenFault,
    VaultFault,
)  # fmt: skip
_BRIEF_S: Final = 300


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; answers the exit status: 0, 1 for a fault of the world, 2 for one of input."""
    given = _parser().parse_args(arguments)
    try:
        return int(given.run(given, os.environ))
    except OptionFaults as faults:
        for spot in faults.spots:
            complain(str(spot))
        return 2
    except _FAULTS as fault:
        complain(str(fault))
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="service-gateway", description=__doc__)
    parser.add_argument("--version", action="version", version=f"service-gateway {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--config", type=Path, metavar="FILE", help="the YAML configuration")
        added.set_defaults(run=run)
        return added

    serving = command("serve", _serve, "run the gateway")
    serving.add_argument(
        "--demo", action="store_true", help="with a small local upstream, a connector and a key"
    )
    command("check", _check, "check the configuration and show what it comes to")
    command("migrate", _migrate, "bring the database's schema up to date")
    command("rotate-master-key", _rotate, "seal every secret anew with another master key")
    minting = command("token", _token, "mint an admin token")
    minting.add_argument("--team", required=True, help="the team it is for")
    minting.add_argument("--role", default="admin", choices=("admin", "editor", "viewer"))
    minting.add_argument("--user", default="operator", help="the user it names")
    minting.add_argument("--ttl", default="12h", type=_duration, help="its life: 90s, 30m, 12h, 1d")
    declarative.add_commands(command, _access)
    return parser


def _duration(text: str) -> int:
    """Seconds from `90s`, `30m`, `12h`, `1d`."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    if not text[:-1].isdigit() or text[-1] not in units:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a duration such as 30m or 12h")
    return int(text[:-1]) * units[text[-1]]


def _load(given: argparse.Namespace, environ: Mapping[str, str]) -> tuple[Settings, set[str]]:
    """The settings and where they were given; filters beside the file can be imported."""
    if given.config is not None:
        sys.path.append(str(given.config.resolve().parent))
    return read(given.config, environ)


def _data_directory(environ: Mapping[str, str]) -> Path:
    data = data_directory(environ, root=os.geteuid() == 0)
    try:
        if not data.is_dir():
            data.mkdir(parents=True)
            data.chmod(0o711)  # PostgreSQL's account may pass through, but not look
    except OSError as error:
        raise EmbeddedFault(
            f"the data directory {data} can't be made ({error.strerror}): set GATEWAY_DATA_DIR"
        ) from error
    return data


def _serve(given: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings, _ = _load(given, environ)
    check_all()
    plan = Plan(
        settings, pipeline.plan(settings.pipeline), _data_directory(environ), environ, given.demo
    )
    with logs.written(settings.log.level, access=settings.log.access) as lines:
        return uvloop.run(serve(plan, partial(_admin, settings, plan.stages), Screen(), lines))


def _admin(settings: Settings, stages: Sequence[Stage], worker: Worker) -> Any:
    return admin_application(
        Control(
            database=worker.database,
            vault=worker.vault,
            tokens=worker.runtime.tokens,
            policy=worker.policy,
            default_plan=worker.default_plan,
            probe=worker.probe,
            limits=worker.runtime.limits,
            explainer=Explainer(
                stages,
                worker.runtime,
                worker.database,
                worker.vault,
                worker.default_plan,
                guards_origin=settings.admin.guards_origin,
            ),
            health=worker.health,
            circuit=worker.runtime.attempts.circuit,
            failures_per_minute=settings.admin.failures_per_minute,
            trusted_proxies=settings.server.proxies,
        )
    )


def _check(given: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings, from_file = _load(given, environ)
    stages = pipeline.plan(settings.pipeline)
    for line in check.lines(settings, stages, from_file):
        print(line)
    return 0


def _migrate(given: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings, _ = _load(given, environ)
    for name in uvloop.run(_migrated(settings, environ)):
        print(f"applied {name}")
    return 0


async def _migrated(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    async with _store(settings, environ) as database:
        return await database.migrate()


@asynccontextmanager
async def _store(settings: Settings, environ: Mapping[str, str]) -> AsyncIterator[Database]:
    """The configured database, or the embedded one, started if it isn't running."""
    async with AsyncExitStack() as stack:
        if (dsn := settings.database.dsn) is None:
            dsn = (await stack.enter_async_context(Postgres(_data_directory(environ), environ))).dsn
        database = Database(dsn)
        await database.open()
        stack.push_async_callback(database.close)
        yield database


def _rotate(given: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings, _ = _load(given, environ)
    outcome = uvloop.run(_rotated(settings, environ, Screen()))
    print(f"sealed {outcome.resealed} secrets anew with the master key {outcome.key_id}")
    for fault in outcome.faults:
        complain(fault)
    if outcome.held:
        complain(f"{outcome.held} secrets are held by somebody else: run the command again")
    if outcome.faults or outcome.held:
        return 1
    print("no secret needs another one any more")
    return 0


async def _rotated(settings: Settings, environ: Mapping[str, str], screen: Screen) -> Outcome:
    """Rotate to the first configured key; without one, end an interrupted rotation or make a key."""
    data = _data_directory(environ)
    async with _store(settings, environ) as database:
        await database.migrate()
        with screen.step("sealing secrets anew") as show:

            def tell(done: int, total: int) -> None:
                show(f"sealing secrets anew: {done} of {total}")

            outcome = await rotate(database, vault_of(settings, data, environ), tell)
            if not settings.secrets.master_keys and not outcome.resealed:
                key_ring.add(data / MASTER_KEY_FILE)
                outcome = await rotate(database, vault_of(settings, data, environ), tell)
    return outcome


def _token(given: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings, _ = _load(given, environ)
    tokens = tokens_of(settings, _data_directory(environ))
    print(tokens.mint(team=given.team, role=given.role, user=given.user, life_s=given.ttl))
    return 0


def _access(given: argparse.Namespace, environ: Mapping[str, str], role: str) -> tuple[str, str]:
    """The URL of this configuration's gateway, and a short-lived token if there is a role for it."""
    settings, _ = _load(given, environ)
    own = settings.admin.listen
    base_path = settings.server.base_path if own is None else ""
    url = local_url(own or settings.server.listen, base_path)
    if not role:
        return url, ""
    if not given.team:
        raise CallFault("name the team with --team, or give a token with --token")
    try:
        tokens = tokens_of(settings, _data_directory(environ))
        token = tokens.mint(team=given.team, role=role, user="operator", life_s=_BRIEF_S)
    except _FAULTS as fault:
        raise CallFault(str(fault)) from fault
    return url, token


if __name__ == "__main__":
    sys.exit(main())
