"""Options: every fault with its path, all at once; text from the environment counts as a value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import fields

from gateway.options import (
    OptionFaults,
    Spot,
    entries,
    load,
    number,
    option,
    raw,
    section,
    switch,
    text,
    texts,
    whole,
)


@dataclass(frozen=True)
class Part:
    """A mapping in a list."""

    name: str = text("", "Its name.")
    size: int = whole(1, "Its size.", least=1)

    def __post_init__(self) -> None:
        if self.name == "odd":
            raise ValueError("odd is no name")


@dataclass(frozen=True)
class Inner:
    """A mapping in a mapping."""

    level: str = text("low", "How much.", choices=("low", "high"))
    wait_s: float = number(1.5, "How long.", most=10)


@dataclass(frozen=True)
class Outer:
    """Every kind of option."""

    count: int = whole(3, "How many.", least=0, most=9)
    quota: int | None = whole(7, "How many, or null.", optional=True)
    title: str | None = text(None, "What it is called.", optional=True)
    token: str = text("none", "What nobody may see.", secret=True)
    quick: bool = switch(False, "Whether.")
    networks: tuple[str, ...] = texts((), "Where.", check=ip_network)
    parts: tuple[Part, ...] = entries((), "What it consists of.", Part)
    inner: Inner = section(Inner, "More.")
    anything: tuple[Any, ...] | None = raw(None, "Looked at elsewhere.")


def faults(given: Any, path: str = "") -> list[str]:
    with pytest.raises(OptionFaults) as caught:
        load(Outer, given, path)
    return [str(spot) for spot in caught.value.spots]


@pytest.mark.parametrize("given", [None, {}, {"inner": None}, {"inner": {}, "parts": []}])
def test_what_is_not_given_has_its_default(given: Any) -> None:
    assert load(Outer, given) == Outer()


def test_all_that_is_given_is_taken() -> None:
    loaded = load(
        Outer,
        {
            "count": 0, "quota": None, "title": "t", "token": "t", "quick": True, "anything": (1,),
            "networks": ["10.0.0.0/8"], "parts": [{"name": "a"}, None],
            "inner": {"level": "high", "wait_s": 0},
        },
    )  # fmt: skip

    assert loaded == Outer(
        0, None, "t", "t", True, ("10.0.0.0/8",), (Part("a"), Part()), Inner("high", 0.0), (1,)
    )


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"count": "x"}, "count: not an integer"),
        ({"count": ""}, "count: not an integer"),
        ({"count": 1.0}, "count: not an integer"),
        ({"count": "1.5"}, "count: not an integer"),
        ({"count": True}, "count: not an integer"),
        ({"count": [1]}, "count: not an integer"),
        ({"count": None}, "count: Field may not be null"),
        ({"count": -1}, "count: Must be greater than or equal to 0 and less than or equal to 9"),
        ({"count": "10"}, "count: Must be greater than or equal to 0 and less than or equal to 9"),
        ({"quota": -1}, "quota: Must be greater than or equal to 0"),
        ({"title": 5}, "title: Not a valid string"),
        ({"title": ["a"]}, "title: Not a valid string"),
        ({"token": None}, "token: Field may not be null"),
        ({"quick": "perhaps"}, "quick: Not a valid boolean"),
        ({"quick": 2}, "quick: Not a valid boolean"),
        ({"networks": "10.0.0.0/8"}, "networks: Not a valid list"),
        ({"networks": ["10.0.0.0/8", 5]}, "networks[1]: Not a valid string"),
        ({"networks": ["x"]}, "networks[0]: 'x' does not appear to be an IPv4 or IPv6 network"),
        ({"parts": {}}, "parts: not a list"),
        ({"parts": None}, "parts: not a list"),
        ({"parts": ["a"]}, "parts[0]: not a mapping"),
        ({"parts": [{}, {"size": 0}]}, "parts[1].size: Must be greater than or equal to 1"),
        ({"parts": [{"name": "odd"}]}, "parts[0]: odd is no name"),
        ({"parts": [{"nam": "a"}]}, "parts[0].nam: unknown setting; known here: name, size"),
        ({"inner": []}, "inner: not a mapping"),
        ({"inner": {"level": "mid"}}, "inner.level: not one of: low, high"),
        ({"inner": {"wait_s": "x"}}, "inner.wait_s: not a number"),
        ({"inner": {"wait_s": True}}, "inner.wait_s: not a number"),
        ({"inner": {"wait_s": [1]}}, "inner.wait_s: not a number"),
        ({"inner": {1: 2}}, "inner.1: unknown setting; known here: level, wait_s"),
        ([], "(file): not a mapping"),
        ("text", "(file): not a mapping"),
    ],
    ids=str,
)
def test_fault_is_told_with_its_path(given: Any, fault: str) -> None:
    assert faults(given) == [fault]


@pytest.mark.parametrize(
    "value", ["nan", "inf", "-inf", float("nan"), float("inf"), 11, -0.1], ids=repr
)
def test_numbers_are_finite_and_in_their_range(value: Any) -> None:
    [fault] = faults({"inner": {"wait_s": value}})

    assert fault.startswith("inner.wait_s: ")


def test_every_fault_is_told_at_once_below_the_path_that_is_given() -> None:
    given = {
        "count": "many", "colour": "red", "networks": ["x", "10.0.0.0/8", 5],
        "parts": [{"size": "x"}, 7], "inner": {"level": "mid", "wait_s": None},
    }  # fmt: skip

    assert [fault.partition(": ")[0] for fault in faults(given, "pipeline[3].rate_limit")] == [
        f"pipeline[3].rate_limit.{place}"
        for place in (
            "count", "colour", "networks[0]", "networks[2]", "parts[0].size", "parts[1]",
            "inner.level", "inner.wait_s",
        )
    ]  # fmt: skip


def test_faults_read_as_the_contract_shows_them() -> None:
    assert str(Spot("pipeline[3].rate_limit.burst", "not an integer")) == (
        "pipeline[3].rate_limit.burst: not an integer"
    )
    assert str(OptionFaults([Spot("a", "b"), Spot("c", "d")])) == "a: b\nc: d"


@pytest.mark.parametrize(("given", "count"), [("5", 5), (" 5 ", 5), (6, 6), ("0", 0)])
def test_whole_numbers_may_be_text_from_the_environment(given: Any, count: int) -> None:
    loaded = load(Outer, {"count": given, "quota": given})

    assert (loaded.count, loaded.quota) == (count, count)


@pytest.mark.parametrize(("given", "seconds"), [("0.5", 0.5), ("2", 2.0), (3, 3.0), ("1e1", 10.0)])
def test_numbers_may_be_text_from_the_environment(given: Any, seconds: float) -> None:
    assert load(Outer, {"inner": {"wait_s": given}}).inner.wait_s == seconds


@pytest.mark.parametrize(
    ("given", "quick"),
    [("true", True), ("True", True), ("on", True), ("1", True), ("false", False), ("0", False), ("off", False)],
)  # fmt: skip
def test_switches_may_be_text_from_the_environment(given: str, quick: bool) -> None:
    assert load(Outer, {"quick": given}).quick is quick


def test_option_without_a_default_must_be_given() -> None:
    kind = option(fields.String(), dataclasses.MISSING, "It must be given.")
    made = dataclasses.make_dataclass("Needy", [("must", str, kind)])

    with pytest.raises(OptionFaults, match=r"^here\.must: is required$"):
        load(made, {}, "here")
    assert load(made, {"must": "x"}) == made("x")


def test_no_repr_shows_what_is_secret() -> None:
    loaded = load(Outer, {"token": "hush"})

    assert loaded.token == "hush"
    assert "hush" not in repr(loaded)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
NAMES = [*Outer.__dataclass_fields__, *Part.__dataclass_fields__, *Inner.__dataclass_fields__]


@given(
    st.dictionaries(
        st.sampled_from(NAMES), ANYTHING | st.dictionaries(st.sampled_from(NAMES), ANYTHING)
    )
)
def test_whatever_is_given_is_loaded_or_refused_with_paths(given: Any) -> None:
    try:
        loaded = load(Outer, given)
    except OptionFaults as refused:
        paths = [spot.path for spot in refused.spots]
        assert paths
        assert all(path.partition(".")[0].partition("[")[0] in given for path in paths)
    else:
        assert isinstance(loaded, Outer)
