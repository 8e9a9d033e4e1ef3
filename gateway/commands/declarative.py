"""The commands `export`, `diff` and `apply`: a team's state in files, through the admin API alone.

They end with 0, `diff` with 1 when there are differences, and all of them with 2 when something is
wrong. No value of a secret is printed; those of new keys go to a file.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.commands.admin_client import AdminClient, CallFault
from gateway.commands.state_files import StateFiles
from gateway.console import Output, complain

Access = Callable[[argparse.Namespace, Mapping[str, str], str], tuple[str, str]]
"""Gives the local gateway's URL and a token with a role, for somebody who has given neither."""
Command = Callable[[str, Any, str], argparse.ArgumentParser]

SAME, DIFFERENT, WRONG = 0, 1, 2
_EXPORT: Final = "/config/export"
_APPLY: Final = "/config/apply"
_MARKS: Final = {"create": ("+", "green"), "update": ("~", "yellow")}
_END: Final = ("-", "red")


def add_commands(command: Command, access: Access) -> None:
    """Add the commands to the command line."""
    exporting = command("export", _runner(_export, access), "write a team's state as a document")
    exporting.add_argument("--tag", default="", help="only the connectors with this tag")
    exporting.add_argument("--format", choices=("yaml", "json"), default="yaml")
    exporting.add_argument("-o", "--output", type=Path, metavar="FILE", help="not standard output")
    differing = command(
        "diff", _runner(_diff, access), "show how a team's state differs from a document"
    )
    applying = command("apply", _runner(_apply, access), "make a team's state what a document says")
    applying.add_argument(
        "--dry-run", action="store_true", help="show the difference, as diff does"
    )
    applying.add_argument(
        "--keys-to", type=Path, metavar="FILE", help="a new file for the values of new keys"
    )
    for added in (differing, applying):
        added.add_argument(
            "-f", "--file", type=Path, required=True, metavar="FILE",
            help="the document: YAML or JSON, a folder of them, or - for standard input",
        )  # fmt: skip
        added.add_argument("--prune", action="store_true", help="end what is not in the document")
        added.add_argument(
            "--force", action="store_true", help="even when a newer revision has been applied"
        )
    for added in (exporting, differing, applying):
        added.add_argument("--url", help="where the admin API is; GATEWAY_URL")
        added.add_argument("--token", help="an admin token; GATEWAY_TOKEN")
        added.add_argument("--team", default="", help="the team, where the token holds several")


def _runner(
    act: Callable[[argparse.Namespace, Callable[..., AdminClient]], int], access: Access
) -> Callable[[argparse.Namespace, Mapping[str, str]], int]:
    """A command whose faults are told and end with 2."""

    def run(given: argparse.Namespace, environ: Mapping[str, str]) -> int:
        def client(role: str, place: Callable[[str], str] = str) -> AdminClient:
            url = given.url or environ.get("GATEWAY_URL", "")
            token = given.token or environ.get("GATEWAY_TOKEN", "")
            if not url:
                url, minted = access(given, environ, "" if token else role)
                token = token or minted
            if not token:
                raise CallFault(
                    "give a token with --token or GATEWAY_TOKEN for the gateway at --url"
                )
            return AdminClient(url, token, given.team, place)

        try:
            return act(given, client)
        except CallFault as fault:
            for line in fault.lines:
                complain(line)
            return WRONG

    return run


def _export(given: argparse.Namespace, client: Callable[..., AdminClient]) -> int:
    query = {"format": given.format, **({"tag": given.tag} if given.tag else {})}
    text = client("viewer").get(_EXPORT, query).content.decode("utf-8")
    if given.format == "json":
        text = orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2).decode() + "\n"
    if given.output is None:
        sys.stdout.write(text)
        return SAME
    try:
        given.output.write_text(text, "utf-8")
    except OSError as error:
        raise CallFault(f"{given.output} can't be written ({error.strerror})") from error
    return SAME


def _diff(given: argparse.Namespace, client: Callable[..., AdminClient]) -> int:
    files = StateFiles(given.file)
    document, _ = _compared(given, client("admin", files.place), files)
    return DIFFERENT if document["changes"] else SAME


def _apply(given: argparse.Namespace, client: Callable[..., AdminClient]) -> int:
    if given.dry_run:
        return _diff(given, client)
    files = StateFiles(given.file)
    admin = client("admin", files.place)
    found, etag = _compared(given, admin, files)
    new_keys = [c for c in found["changes"] if (c["kind"], c["action"]) == ("key", "create")]
    with _key_file(given.keys_to, len(new_keys)) as keep:
        answer = admin.post(_APPLY, _flags(given), files.document, if_match=etag)
        keep(answer.document["keys"])
    if found["changes"]:
        Output().line("applied")
    return SAME


def _compared(
    given: argparse.Namespace, client: AdminClient, files: StateFiles
) -> tuple[dict[str, Any], str]:
    """What would change, shown; and the entity tag of the state that was compared."""
    if given.prune and not (given.force or files.declares_something):
        raise CallFault("the document is empty, and --prune would end everything: add --force")
    answer = client.post(_APPLY, {**_flags(given), "dryRun": "true"}, files.document)
    document: dict[str, Any] = answer.document
    output = Output()
    for change in document["changes"]:
        _show(output, change)
    for change in document["left"]:
        what = f"{change['kind']} {_named(change)}"
        output.line(f"  {what} is not in the document: --prune would {change['action']} it", "dim")
    output.line(_sum(document["changes"]))
    return document, answer.etag


def _flags(given: argparse.Namespace) -> dict[str, str]:
    return {name: "true" for name in ("prune", "force") if getattr(given, name)}


def _show(output: Output, change: Mapping[str, Any]) -> None:
    mark, style = _MARKS.get(change["action"], _END)
    ending = f" ({change['action']})" if mark == "-" else ""
    output.line(f"{mark} {change['kind']} {_named(change)}{ending}", style)
    for field in change["fields"]:
        name = _visible(field["pointer"].removeprefix("/"))
        after = _value(field["after"])
        if change["action"] == "create":
            output.line(f"    {name}: {after}", style)
        else:
            output.line(f"    {name}: {_value(field['before'])} -> {after}", style)


def _named(change: Mapping[str, Any]) -> str:
    name = f"{change['connector']}/{change['name']}" if "connector" in change else change["name"]
    return _visible(f"{name} ({change['keyPrefix']})" if "keyPrefix" in change else name)


def _value(value: Any) -> str:
    return _visible(orjson.dumps(value).decode())


def _visible(text: str) -> str:
    """A text for a terminal, which acts on some characters."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _sum(changes: Sequence[Mapping[str, Any]]) -> str:
    if not changes:
        return "no differences"
    actions = [change["action"] for change in changes]
    made, changed = actions.count("create"), actions.count("update")
    ended = len(actions) - made - changed
    return f"{made} to create, {changed} to update, {ended} to end"


@contextmanager
def _key_file(path: Path | None, count: int) -> Iterator[Callable[[Any], None]]:
    """Where the values of new keys go: a file for its owner alone, gone again when there are none."""
    if path is None or not count:
        if count:
            raise CallFault(f"new keys: {count}; name a file for their values with --keys-to")
        yield lambda _keys: None
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise CallFault(f"{path} can't be made ({error.strerror}): see --keys-to") from error
    with os.fdopen(descriptor, "wb") as file:

        def keep(keys: Any) -> None:
            file.write(orjson.dumps(keys, option=orjson.OPT_INDENT_2))

        try:
            yield keep
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise
