"""The SQL and its loader: `sql.query("keys.by_digest")` is the query `by_digest` in `keys.sql`.

A query: `-- name: by_digest`, its purpose ("List …" for a list), `-- $1 digest bytea` for each
parameter, one statement. On a team's data it mentions `team_id`, or says "Across teams" and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files


def query(name: str) -> str:
    """Return one query, its header included for pg_stat_activity; KeyError when there is none."""
    if name not in queries():
        raise KeyError(f"no query {name} in sql/*.sql")
    return queries()[name]


@cache
def queries() -> Mapping[str, str]:
    """Return every query by file and name."""
    pieces = [(stem, piece) for stem, text in _texts() for piece in text.split("\n-- name: ")[1:]]
    return {f"{stem}.{piece.split()[0]}": f"-- name: {piece.strip()}" for stem, piece in pieces}


def migrations() -> list[tuple[int, str, str]]:
    """Return number, name and text of each, in order; ValueError unless they count 1, 2, 3 …."""
    found = _texts("migrations")
    if any(stem[:5] != f"{number:04}_" for number, (stem, _) in enumerate(found, 1)):
        raise ValueError(f"sql/migrations: {len(found)} files, not 0001_… to {len(found):04}_…")
    return [(int(stem[:4]), stem[5:], text) for stem, text in found]


def _texts(folder: str = ".") -> list[tuple[str, str]]:
    entries = files(__name__).joinpath(folder).iterdir()
    found = [file for file in entries if file.name.endswith(".sql")]
    return sorted((file.name[:-4], f"\n{file.read_text('utf-8')}") for file in found)
