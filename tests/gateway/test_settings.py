"""The settings: the example file is complete, and none shows a secret."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from gateway import pipeline
from gateway.config import read
from gateway.settings import DEFAULT_PIPELINE, Settings

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"


def settings_of(cls: type[Any], path: str) -> Iterator[tuple[str, str, Any]]:
    """Path, sentence and default of each setting; sections have no default."""
    for entry in dataclasses.fields(cls):
        where, sentence = f"{path}{entry.name}", entry.metadata["doc"]
        if (inner := entry.metadata.get("section")) is not None:
            yield where, sentence, ...
            yield from settings_of(inner, f"{where}.")
        elif (inner := entry.metadata.get("entries")) is not None:
            yield where, sentence, ...
            yield from settings_of(inner, f"{where}[0].")
        elif entry.name == "pipeline":
            yield where, sentence, ...
            for index, stage in enumerate(pipeline.plan(DEFAULT_PIPELINE)):
                yield from settings_of(stage.cls.options, f"pipeline[{index}].{stage.name}.")
        else:
            default = entry.default
            yield where, sentence, list(default) if isinstance(default, tuple) else default


def uncommented(text: str) -> list[str]:
    """The file with its commented-out blocks in use; each stands for the line above it."""
    lines: list[str] = []
    block = False
    for line in text.splitlines():
        if line.lstrip().startswith("# "):
            if not block:
                lines.pop()
            lines.append(line.replace("# ", "", 1))
        else:
            lines.append(line)
        block = line.lstrip().startswith("# ")
    return lines


def shown_in(lines: list[str]) -> Iterator[tuple[str, str, Any]]:
    """Path, the comment above, and value of each setting in a file."""

    def walk(node: yaml.Node, path: str) -> Iterator[tuple[str, str, Any]]:
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                yield from walk(item, f"{path}[{index}]")
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                where = f"{path}.{key.value}" if path else key.value
                loaded = yaml.safe_load(yaml.serialize(value))
                nested = isinstance(loaded, dict) or where == "pipeline" or where in ENTRIES
                yield where, above(key.start_mark.line), ... if nested else loaded
                yield from walk(value, where)

    def above(number: int) -> str:
        comment: list[str] = []
        while number and lines[number - 1].lstrip().startswith("## "):
            number -= 1
            comment.insert(0, lines[number].lstrip().removeprefix("## "))
        return " ".join(comment)

    document = yaml.compose("\n".join(lines), yaml.SafeLoader)
    assert document is not None
    yield from walk(document, "")


ENTRIES = ("auth.keys", "secrets.master_keys", "secrets.environment", "secrets.files")
STAGES = {f"pipeline[{index}].{name}" for index, name in enumerate(DEFAULT_PIPELINE)}


def test_example_is_what_the_gateway_does_without_a_file() -> None:
    settings, given = read(EXAMPLE, {})

    assert settings == Settings() == read(None, {})[0]
    assert {path.partition(".")[0] for path in given} == set(Settings.__dataclass_fields__)


def test_example_shows_every_setting_with_its_default_and_nothing_else() -> None:
    shown = [(path, value) for path, _, value in shown_in(uncommented(EXAMPLE.read_text("utf-8")))]
    known = [(path, default) for path, _, default in settings_of(Settings, "")]

    assert [entry for entry in shown if entry[0] not in STAGES] == known


def test_example_says_what_each_setting_is_for() -> None:
    comments = {p: text for p, text, _ in shown_in(uncommented(EXAMPLE.read_text("utf-8")))}
    lacking = [p for p, sentence, _ in settings_of(Settings, "") if sentence not in comments[p]]

    assert lacking == []


def test_no_repr_shows_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        """
        auth: {keys: [{secret: a hush secret that is long enough}]}
        secrets: {master_keys: [{id: one, key: hushkey}]}
        database: {dsn: "postgresql://user:hushword@host/name"}
        """
    )
    shown = repr(read(path, {})[0])

    assert "'one'" in shown
    assert "hush" not in shown
