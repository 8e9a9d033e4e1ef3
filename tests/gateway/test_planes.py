"""The paths of the planes: those that the documentation names, written once."""

from __future__ import annotations

import ast
from pathlib import Path

from gateway.planes import ADMIN_PLANE, DATA_PLANE, UI

ROOT = Path(__file__).resolve().parents[2]


def test_planes_are_where_callers_look_for_them() -> None:
    assert (DATA_PLANE, ADMIN_PLANE, UI) == ("/api/v1/gw", "/api/v1/gw/admin", "/ui")


def test_no_other_module_spells_a_plane_out() -> None:
    modules = [
        path for name in ("gateway", "filters", "admin") for path in (ROOT / name).rglob("*.py")
    ]
    found = {
        path.relative_to(ROOT).as_posix()
        for path in modules
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith(DATA_PLANE)
    }

    assert modules
    assert found == {"gateway/planes.py"}
