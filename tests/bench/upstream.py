"""The upstream behind every proxy: nginx where it is installed, else our own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nginx_peer as nginx
from call import Call
from children import free_port
from target import Target

if TYPE_CHECKING:
    from children import Children

RAW = Path(__file__).with_name("raw_upstream.py")


def kind() -> str:
    """The name of the upstream that is used."""
    return "nginx" if nginx.program() else "own upstream"


def start(children: Children, cores: frozenset[int]) -> tuple[int, Target]:
    """Its process, and the target that shows what load generator and upstream can do alone."""
    port = free_port()
    program = nginx.program()
    folder = children.folder / "upstream"
    argv = (
        nginx.upstream(program, folder, port) if program else [sys.executable, str(RAW), str(port)]
    )
    pid = children.start("upstream", argv, cores, port)
    return pid, Target("no proxy", Call(port), None)
