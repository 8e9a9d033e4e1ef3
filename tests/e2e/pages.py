"""The blocks of the README and of docs/, and the shell script that a page's blocks make."""

from __future__ import annotations

import dataclasses
import re
import shlex
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gateway import yamls
from gateway.settings import Settings
from tests.e2e.process import ROOT, Gateway

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>.*)\n(?P<text>(?s:.*?))^```$", re.M
)
_FILE = re.compile(r"# ([\w.-]+\.yaml)\n").match
_SECTIONS = {section.name for section in dataclasses.fields(Settings)}
_SHELL = r"""
curl() {
    local said
    if said=$(command curl -sS --fail-with-body "$@"); then printf '%s\n' "$said"; return 0; fi
    printf '%s\n' "$said"
    [[ -n "${TAKEN:-}" && "$said" == *"\"status\":$TAKEN"* ]]
}
"""
_COMMAND = """#!/bin/sh
# As installed, but for the listeners: the configuration says which ports were free.
case " $* " in *" --config "*) ;; *) set -- "$@" --config "$GATEWAY_CONFIG" ;; esac
exec {python} -m gateway "$@"
"""


class Block(NamedTuple):
    """A fenced block: what it is in, its first line, and why it can't be run, if it can't."""

    page: Path
    line: int
    language: str
    text: str
    reason: str

    @property
    def place(self) -> str:
        """`docs/s3.md:12`."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str:
        """The name that a document gives itself in its first line, else nothing."""
        named = _FILE(self.text) if self.language == "yaml" else None
        return named[1] if named else ""


def blocks(page: Path) -> list[Block]:
    """The blocks of a page in their order."""
    text = page.read_text("utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start("text")),
            found["language"],
            found["text"],
            found["reason"] or "",
        )
        for found in _BLOCK.finditer(text)
    ]


EVERY = [block for page in PAGES for block in blocks(page)]


def is_configuration(document: Any) -> bool:
    """Whether a YAML document is one for `serve --config`."""
    return isinstance(document, dict) and bool(document) and document.keys() <= _SECTIONS


def operator_settings() -> dict[str, Any]:
    """What the pages have the operator allow, as one configuration."""
    made: dict[str, dict[str, Any]] = {"secrets": {}, "upstream": {}}
    shown = [yamls.parse(b.text) for b in EVERY if b.language == "yaml" and not b.reason]
    for document in filter(is_configuration, shown):
        for section in made.keys() & document.keys():
            for name, entries in document[section].items():
                made[section].setdefault(name, []).extend(entries)
    return made


def replaced(text: str, real: Mapping[str, str]) -> str:
    """A text with what is written in pages replaced by what is really there."""
    for written, there in real.items():
        text = text.replace(written, there)
    return text


def script(shown: Sequence[Block], real: Mapping[str, str]) -> str:
    """Blocks of a page as one script of bash, with what is really there.

    The README puts the command on the PATH; the other pages say that they take it for granted.
    """
    begin = "" if shown[0].page == README else ". .venv/bin/activate\n"
    return _SHELL + begin + "".join(_part(block, real) for block in shown if not block.reason)


def _part(block: Block, real: Mapping[str, str]) -> str:
    text = replaced(block.text, real)
    if block.language == "bash":
        return f"echo '# {block.place}'\n{text}"
    if block.language == "python":
        return f"echo '# {block.place}'\n{shlex.quote(sys.executable)} - <<'END'\n{text}END\n"
    return f"cat > {block.file} <<'END'\n{text}END\n" if block.file else ""


def newcomers_folder(folder: Path) -> None:
    """A folder in which `. .venv/bin/activate` puts `service-gateway` on the PATH."""
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text('PATH="$PWD/.venv/bin:$PATH"\n')
    command = programs / "service-gateway"
    command.write_text(_COMMAND.format(python=shlex.quote(sys.executable)))
    command.chmod(command.stat().st_mode | stat.S_IXUSR)


def environ(gateway: Gateway) -> dict[str, str]:
    """What the script's commands find around them."""
    return {
        **gateway.environ,
        "PYTHONPATH": str(ROOT),
        "GATEWAY_CONFIG": str(gateway.config),
    }
