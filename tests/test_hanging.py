"""Runs of small projects whose tests hang, each in its own way: every run ends, and says whose fault it was."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SETTINGS = f"""
[tool.pytest]
strict = true
addopts = ["-pxdist.plugin", "-ppytest_timeout", "-ppytest_asyncio.plugin", "--import-mode=importlib", "--max-worker-restart=0"]
pythonpath = [{str(ROOT)!r}]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
timeout = "1"
"""
CONFTEST = """
import uvloop
pytest_plugins = ["tests.hanging"]
def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}
"""
GOES_ON = """
def test_that_follows():
    pass
"""
WAYS = {
    "busy": """
        def test_it():
            while True:
                pass
        """,
    "busy in the loop": """
        async def test_it():
            while True:
                pass
        """,
    "awaits": """
        import asyncio
        async def wait_for_ever():
            await asyncio.Event().wait()
        async def test_it():
            await wait_for_ever()
        """,
    "waits for a child": """
        import subprocess
        def test_it():
            subprocess.Popen(["sleep", "SECONDS"]).wait()
        """,
    "awaits a child": """
        import asyncio
        async def test_it():
            child = await asyncio.create_subprocess_exec("sleep", "SECONDS")
            await child.wait()
        """,
}
DEAF = {
    "swallows its failure": """
        import subprocess
        def test_it():
            subprocess.Popen(["sleep", "SECONDS"])
            while True:
                try:
                    while True:
                        pass
                except BaseException:
                    pass
        """,
    "lets no other thread run": """
        import ctypes, signal, subprocess
        def test_it():
            subprocess.Popen(["sleep", "SECONDS"])
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
            ctypes.PyDLL(None).sleep(600)
        """,
}


def run(
    folder: Path, files: dict[str, str], *options: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run pytest over the files of a project; also the processes of its tests that are left."""
    seconds = f"{os.getpid()}.{abs(hash(folder))}"
    (folder / "pyproject.toml").write_text(SETTINGS)
    (folder / "conftest.py").write_text(CONFTEST)
    for name, text in files.items():
        (folder / f"test_{name}.py").write_text(
            textwrap.dedent(text).replace("SECONDS", seconds) + GOES_ON
        )
    environ = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # one of them takes seconds to import
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    listed = subprocess.run(["ps", "-Ao", "args"], capture_output=True, text=True, check=True)  # noqa: S607 - any ps does
    return done, [line for line in listed.stdout.splitlines() if seconds in line]


@pytest.mark.parametrize("options", [(), ("-n2", "--dist=loadfile")], ids=["alone", "workers"])
def test_run_goes_on_after_tests_that_hang(tmp_path: Path, options: tuple[str, ...]) -> None:
    files = {re.sub(r"\W", "_", way): text for way, text in WAYS.items()}
    done, left = run(tmp_path, files, *options)

    assert done.returncode == 1, done.stdout
    for name in files:
        assert f"FAILED test_{name}.py::test_it" in done.stdout
        assert f"test_{name}.py::test_it hangs." in done.stdout
    assert f"{len(WAYS)} failed, {len(WAYS)} passed" in done.stdout
    assert re.search(r"Task .*\n(.*\n)*.*in wait_for_ever\n", done.stdout)
    killed = re.findall(r"left running, and killed: .*sleep .*(test_\w+)\.py::test_it", done.stdout)
    assert sorted(killed) == ["test_awaits_a_child", "test_waits_for_a_child"]
    assert left == []


@pytest.mark.parametrize("way", DEAF)
@pytest.mark.parametrize("workers", ["-n2", "-n0"])
def test_run_ends_with_a_test_that_cannot_be_failed(tmp_path: Path, way: str, workers: str) -> None:
    done, left = run(tmp_path, {"deaf": DEAF[way]}, workers, "--dist=loadfile", "--timeout-grace=1")

    assert done.returncode != 0
    assert "test_deaf.py" in done.stdout
    assert "in test_it" in done.stdout
    if workers == "-n2":
        assert "crashed while running 'test_deaf.py::test_it'" in done.stdout
        assert left == []


def test_run_that_is_too_long_is_ended(tmp_path: Path) -> None:
    text = WAYS["waits for a child"]
    done, left = run(tmp_path, {"long": text}, "-n2", "--timeout=300", "--session-timeout=2")

    assert done.returncode == pytest.ExitCode.INTERRUPTED
    assert "has not ended within 2" in done.stdout
    assert left == []
