"""Listening sockets: bound before anything else starts, so that a taken port is found at once."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

BACKLOG: Final = 2048


class ListenFault(Exception):
    """An address that can't be listened on; the text says what to do."""


def bind(listen: str, setting: str) -> socket.socket:
    """A bound socket for `host:port`, `[v6]:port` or `unix:/path`. Raises ListenFault."""
    try:
        if listen.startswith("unix:"):
            return _unix(Path(listen.removeprefix("unix:")))
        host, _, port = listen.rpartition(":")
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host.strip("[]"), int(port)))
        except BaseException:
            bound.close()
            raise
        bound.setblocking(False)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ListenFault(f"cannot listen on {listen} ({setting}): {reason}") from error
    return bound


def _unix(path: Path) -> socket.socket:
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode) and not _answers(path):
            path.unlink()  # left over from a process that was killed
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(str(path))
    except BaseException:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _answers(path: Path) -> bool:
    """True unless it is certain that nobody listens there; never waits."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
    return True


def address(bound: socket.socket) -> str:
    """Where a socket listens, as a URL's authority (`127.0.0.1:8080`) or `unix:/path`."""
    name = bound.getsockname()
    if bound.family == socket.AF_UNIX:
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if bound.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"
