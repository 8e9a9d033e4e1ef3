"""Where the gateway's time goes under the same load: py-spy where it is installed, else cProfile.

cProfile makes every Python call dearer, so it shows what is called how often and misjudges how
long it takes; py-spy samples from outside and does not.
"""

from __future__ import annotations

import pstats
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import gateway_under_test
import load
from children import Children

if TYPE_CHECKING:
    from sample import Bench

SHOWN = 30


def run(children: Children, bench: Bench, upstream_port: int) -> None:
    """Profile the gateway alone and print, or say where the picture is."""
    if program := shutil.which("py-spy"):
        _sampled(program, children, bench, upstream_port)
    else:
        _counted(children.folder, bench, upstream_port)


def _sampled(program: str, children: Children, bench: Bench, upstream_port: int) -> None:
    target = gateway_under_test.start(children, bench.cores.proxy, upstream_port).target
    picture = Path(tempfile.gettempdir()) / "gateway-profile.svg"
    argv = [program, "record", "--native", "--subprocesses", "--pid", str(target.pid)]
    argv += ["--duration", str(bench.seconds), "--output", str(picture)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL):
        load.put(target.call, bench.connections, bench.seconds + 1, bench.cores.load)
    print(f"Flame graph: {picture}")


def _counted(folder: Path, bench: Bench, upstream_port: int) -> None:
    file = folder / "profile"
    with Children(folder) as mine:
        target = gateway_under_test.start(mine, bench.cores.proxy, upstream_port, file).target
        load.put(target.call, bench.connections, bench.seconds, bench.cores.load)
    pstats.Stats(str(file)).sort_stats("tottime").print_stats(SHOWN)
