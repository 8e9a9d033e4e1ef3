"""A client that a generator makes of the description: whole, without a word of complaint."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from admin.api import ROUTES, description


def test_generated_client_has_every_operation(tmp_path: Path) -> None:
    document, rules, made = (tmp_path / name for name in ("openapi.json", "rules.yaml", "made"))
    document.write_bytes(description())
    rules.write_text("post_hooks: []")
    program = [sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning"]
    files = [f"--path={document}", f"--config={rules}", f"--output-path={made}", "--meta=none"]

    done = subprocess.run([*program, *files], check=False, capture_output=True, text=True)

    assert (done.returncode, "Warning" in done.stdout) == (0, False), done.stdout + done.stderr
    operations = [file for file in made.glob("api/*/*.py") if file.stem != "__init__"]
    assert len(operations) == len(ROUTES)
    for file in made.rglob("*.py"):
        compile(file.read_text("utf-8"), file, "exec")
