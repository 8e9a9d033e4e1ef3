"""The page about filters says what is true: every filter, its options, its errors, and its place."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import textwrap
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

import filters
from gateway import pipeline
from gateway.exchange import FIELDS, MARKS
from gateway.problems import Rejected
from tests.dataplane import answering, exchange, unreachable

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "filters.md").read_text("utf-8")
FILTERS = sorted(path.stem for path in (ROOT / "filters").glob("*.py") if path.stem != "__init__")
HEAD = ["| option | default | what it is |", "|---|---|---|"]
NOTHING = "It has no options."


def section(name: str) -> str:
    """What the page says about a filter."""
    found = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert len(found) == 1, f"docs/filters.md has {len(found)} sections called {name}"
    return str(found[0])


def class_of(name: str) -> Any:
    module = importlib.import_module(f"filters.{name}")
    return getattr(module, "".join(part.capitalize() for part in name.split("_")))


def rows(options: type[Any], path: str = "") -> list[str]:
    """A row for each option; those of a mapping, or of the mappings of a list, below their own."""
    made = []
    for field in dataclasses.fields(options):
        where, sentence = f"{path}{field.name}", field.metadata["doc"]
        inner = field.metadata.get("section") or field.metadata.get("entries")
        default = "" if field.metadata.get("section") else f"`{json.dumps(field.default)}`"
        assert "|" not in sentence + default
        made.append(f"| `{where}` | {default} | {sentence} |")
        if inner is not None:
            mark = "[]." if "entries" in field.metadata else "."
            made += rows(inner, f"{where}{mark}")
    return made


def test_every_filter_has_its_section_and_there_are_no_others() -> None:
    assert sorted(re.findall(r"^## (\w+)$", PAGE, re.M)) == FILTERS


@pytest.mark.parametrize("name", FILTERS)
def test_options_are_told_with_their_defaults_and_sentences(name: str) -> None:
    made, text = rows(class_of(name).options), section(name)
    expected = [*HEAD, *made] if made else []

    told = [line for line in text.split("\n") if line.startswith("|")]
    assert told == expected, "the table should be\n" + "\n".join(expected)
    assert (NOTHING in text) is (expected == [])


@pytest.mark.parametrize("name", FILTERS)
def test_errors_that_a_filter_makes_are_told_and_lead_to_their_explanation(name: str) -> None:
    source = (ROOT / "filters" / f"{name}.py").read_text("utf-8")
    made = set(re.findall(r"\bRejected\(\s*\"(\w+)\"", source)) - {"internal"}
    text = section(name)

    assert [code for code in made if f"[`{code}`](errors.md#{code})" not in text] == []
    anchors = re.findall(r"errors\.md#(\w+)", PAGE)
    errors = (ROOT / "docs" / "errors.md").read_text("utf-8")
    assert [code for code in anchors if f'<a id="{code}">' not in errors] == []


@pytest.mark.parametrize("name", FILTERS)
def test_fields_that_decide_its_place_are_told(name: str) -> None:
    cls = class_of(name)
    told = re.search(r"^Needs (.*); gives (.*?)(?:; stands before what gives (.*))?\.$", section(name), re.M)  # fmt: skip
    assert told is not None

    listed = [set(re.findall(r"`(\w+)`", group or "")) for group in told.groups()]
    assert listed == [cls.needs, cls.gives, getattr(cls, "precedes", set())]


def test_words_of_the_exchange_are_those_that_filters_give_and_all_are_told() -> None:
    given = frozenset().union(*(class_of(name).gives for name in FILTERS))

    assert given == FIELDS | MARKS
    introduction = PAGE.partition("\n## ")[0].partition("```")[0]
    assert given <= set(re.findall(r"`(\w+)`", introduction))


def test_pipelines_that_are_shown_can_work() -> None:
    shown = re.findall(r"^```yaml\n(pipeline:.*?)^```", PAGE, re.M | re.S)
    entries = [yaml.safe_load(text)["pipeline"] for text in shown]

    assert entries
    for entry in entries:
        pipeline.plan(entry)
    assert {stage.name for stage in pipeline.plan(entries[0])} == set(FILTERS)


async def test_filter_that_is_shown_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = filters.__doc__ or ""
    code = text.split("say `audit.py`:\n")[1].split("\nand name it")[0]
    (tmp_path / "audit.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(tmp_path)
    entry = yaml.safe_load(text.split("in the pipeline: `- ")[1].split("`")[0])
    stages = pipeline.plan(["usage", "respond", "authenticate", entry, "resolve", "transform", "proxy"])  # fmt: skip
    audit = stages[3].cls(stages[3].options, cast("Any", None))

    with pytest.raises(Rejected, match="Say why in X-Why"):
        await audit(exchange(), unreachable)
    response = await audit(exchange(fields=[("X-Why", "because")]), answering())
    assert (b"X-Audited", b"yes") in response.headers
