"""The wheel holds everything, needs what it imports, and runs outside the checkout."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from configparser import ConfigParser
from email import message_from_bytes
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import gateway
from tests.e2e.process import Gateway

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("gateway", "filters", "admin", "sql", "templates")
OPTIONAL = {"gateway/tracing.py": "otel"}
"""Modules that are imported by who has asked for what they need, and the extra that has it."""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a program without our search path or a home; return what it printed."""
    inherited = {
        name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ
    }
    done = subprocess.run(
        command,
        cwd=cwd,
        env=inherited | {"HOME": str(cwd)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a copy: the checkout's own build folder could lend a file that is not packed."""
    source = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, source / package, ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", cwd=source)
    (built,) = (source / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own with the wheel; the requirements are lent by this one."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=home)
    (own,) = home.glob("lib/python*/site-packages")
    lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (own / "requirements.pth").write_text("\n".join(lent))
    return home


def test_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert packed == files
    assert {"gateway/py.typed", "sql/migrations/0001_initial.sql"} <= packed
    assert any(name.startswith("templates/") and name.endswith(".json") for name in packed)


def test_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
        licence = name.replace("METADATA", "licenses/LICENSE")

        assert b"Apache License" in archive.read(licence)

    assert metadata["Name"] == "service-gateway"
    assert metadata["Version"] == gateway.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra", [])) >= {"embedded", "test"}
    assert metadata.get_payload()


def test_every_import_is_a_declared_requirement() -> None:
    shipped = ConfigParser()
    shipped.read(ROOT / "setup.cfg", "utf-8")
    always = named(shipped["options"]["install_requires"])
    extras = {
        path: named(shipped["options.extras_require"][extra]) for path, extra in OPTIONAL.items()
    }
    known = packages_distributions()
    missing = {
        f"{where}: {name}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for where in [path.relative_to(ROOT).as_posix()]
        for name in imported(path) - set(PACKAGES) - sys.stdlib_module_names
        if not (always | extras.get(where, set()))
        & {normal(distribution) for distribution in known.get(name, [])}
    }

    assert missing == set()


def named(requirements: str) -> set[str]:
    lines = requirements.splitlines()
    return {normal(found[0]) for line in lines if (found := re.match(r"[\w.-]+", line))}


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def test_installed_packages_are_the_wheels(installed: Path) -> None:
    code = f"import {', '.join(PACKAGES)}; print(*(m.__file__ for m in ({', '.join(PACKAGES)})))"
    places = run(installed / "bin" / "python", "-c", code, cwd=installed).split()

    assert len(places) == len(PACKAGES)
    assert all(Path(place).is_relative_to(installed) for place in places)


def test_installed_command_tells_its_version(installed: Path) -> None:
    command = installed / "bin" / "service-gateway"

    assert gateway.__version__ in run(command, "--version", cwd=installed)


def test_installed_command_checks_the_default_configuration(installed: Path) -> None:
    command = installed / "bin" / "service-gateway"

    assert "proxy" in run(command, "check", cwd=installed)


def test_installed_command_serves_the_demo(installed: Path, open_directory: Path) -> None:
    folder = Path(tempfile.mkdtemp(dir=open_directory))
    folder.chmod(0o711)
    program = [str(installed / "bin" / "service-gateway")]
    gateway = Gateway(folder, program=program, run_in=folder)
    gateway.start("--demo")
    try:
        gateway.wait_for("-H 'Authorization: Bearer gw_")
        key = (gateway.data / "demo.key").read_text().strip()

        assert gateway.call("/demo/json", key).status == 200
        assert gateway.admin("GET", "/templates", token=gateway.token("demo"))["items"]
    finally:
        assert gateway.stop() == 0
