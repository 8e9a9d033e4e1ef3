"""Files of a team's state: one document of many, and each fault at its place."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from gateway.commands.state_files import STDIN, StateFiles
from gateway.options import OptionFaults
from tests.gateway.bombs import alias_bomb


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def faults(path: Path) -> list[str]:
    with pytest.raises(OptionFaults) as caught:
        StateFiles(path)
    return [str(spot) for spot in caught.value.spots]


def test_files_of_a_folder_are_one_document(tmp_path: Path) -> None:
    written(
        tmp_path,
        b_yaml="revision: 3\nconnectors: [{slug: maps}]\nplans: [{name: gold}]\n",
        a_json='{"connectors": [{"slug": "news"}], "keys": []}',
        c_yml="",
        d_txt="not: [looked, at",
    )
    files = StateFiles(tmp_path)

    assert files.document == {
        "connectors": [{"slug": "news"}, {"slug": "maps"}],
        "keys": [],
        "revision": 3,
        "plans": [{"name": "gold"}],
    }
    assert files.place("/connectors/1/endpoints/0/path") == (
        f"{tmp_path / 'b.yaml'}: /connectors/0/endpoints/0/path"
    )
    assert files.place("/revision") == f"{tmp_path / 'b.yaml'}: /revision"
    assert files.place("/connectors/7") == f"{tmp_path / 'a.json'}: /connectors/7"
    assert files.place("") == "the document: /"


def test_numbers_of_statuses_are_names_and_dates_are_texts(tmp_path: Path) -> None:
    written(tmp_path, a_yaml="keys: [{name: a, expiresAt: 2030-01-31T12:00:00Z}]\nx: {404: No}")

    assert StateFiles(tmp_path / "a.yaml").document == {
        "keys": [{"name": "a", "expiresAt": "2030-01-31T12:00:00Z"}],
        "x": {"404": "No"},
    }


def test_aliases_of_aliases_are_refused_at_once(tmp_path: Path) -> None:
    written(tmp_path, a_yaml=alias_bomb() + "\nkeys: *a6")

    assert "aliases repeat more than" in faults(tmp_path / "a.yaml")[0]


def test_standard_input_is_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("plans: []"))

    files = StateFiles(STDIN)

    assert files.document == {"plans": []}
    assert not files.declares_something


def test_what_is_there_twice_is_told_with_both_places(tmp_path: Path) -> None:
    written(
        tmp_path,
        a_yaml="revision: 1\nconnectors: [{slug: maps}]\nkeys: [{name: app}]\n",
        b_yaml="revision: 2\nconnectors: [{slug: news}, {slug: maps}]\n"
        "keys: [{name: app, keyPrefix: gw_12345678}]\n",
    )

    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    assert faults(tmp_path) == [
        f"{b}: /revision: {a} says something else",
        f"{b}: /connectors/1: maps is in {a}, too (/connectors/0)",
    ]


def test_list_that_is_none_is_told(tmp_path: Path) -> None:
    written(tmp_path, a_yaml="connectors: maps", b_yaml="connectors: [{slug: maps}]")

    assert faults(tmp_path) == [f"{tmp_path / 'a.yaml'}: /connectors: not a list"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: [", "is not YAML"),
        ("- a", "is no object"),
        ("a: 1\n---\nb: 2", "there is a second document"),
        ("a: 1\na: 2", '"a" is given twice'),
    ],
)
def test_file_that_can_not_be_used_is_named(text: str, fault: str, tmp_path: Path) -> None:
    written(tmp_path, a_yaml=text)
    (told,) = faults(tmp_path)

    assert told.startswith(f"{tmp_path / 'a.yaml'}: ")
    assert fault in told


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(b"\xff")

    assert faults(tmp_path / "none.yaml") == [f"{tmp_path}/none.yaml: No such file or directory"]
    assert faults(tmp_path / "bad.yaml") == [f"{tmp_path}/bad.yaml: is not UTF-8"]
    (tmp_path / "bad.yaml").unlink()
    assert faults(tmp_path) == [f"{tmp_path}: has no *.yaml, *.yml or *.json"]
