"""The pipeline: names become filters, an order that can't work is refused, the first is outermost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from gateway.exchange import FIELDS, MARKS, Body, Exchange, Proceed, Response
from gateway.options import OptionFaults, whole
from gateway.pipeline import build, fold, plan
from gateway.problems import Rejected
from gateway.runtime import Runtime
from gateway.settings import DEFAULT_PIPELINE

NO_RUNTIME = cast("Runtime", None)  # the filters of this file ask nothing of it
HERE = __name__
"""Where the filters of this file are found, as those of somebody else would be."""


@dataclass(frozen=True)
class Options:
    """Options of the filters of this file."""

    burst: int = whole(1, "How many.")


class Recording:
    """Writes down when it is entered and left."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self.name = str(options.burst)

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        response = await proceed(exchange)
        response.headers.append((b"Left", self.name.encode()))
        return response


class Refusing(Recording):
    """Does not proceed."""

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        raise Rejected("forbidden", "Not today.")


class Answering(Recording):
    """The innermost."""

    answers = True

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        return Response(200, body=exchange.path.encode())


class Outside(Recording):
    """Must see what a caller has not been found for yet."""

    precedes = frozenset({"caller"})


class Misspelt(Recording):
    """Has a word wrong in each of the three places."""

    needs = frozenset({"caller", "calller"})
    gives = frozenset({"rate_decison"})
    precedes = frozenset({"out.going", "outgoin"})


class Marking(Recording):
    """Gives a mark of its own."""

    gives = frozenset({"my_package.audited"})


class Marked(Recording):
    """Needs a mark that somebody else's filter gives."""

    needs = frozenset({"my_package.audited"})


class Blank:
    """No filter: it has nothing that a filter has."""


class Uncallable:
    """No filter: it can't be called."""

    options, needs, gives = Options, frozenset[str](), frozenset[str]()


def exchange() -> Exchange:
    return Exchange("GET", "/path", "", {}, (), Body(None), client_address="", request_id="i")


def faults(*entries: Any) -> list[str]:
    with pytest.raises(OptionFaults) as caught:
        plan(entries)
    return [str(spot) for spot in caught.value.spots]


def test_default_pipeline_can_work() -> None:
    assert [stage.name for stage in plan(DEFAULT_PIPELINE)] == list(DEFAULT_PIPELINE)


@pytest.mark.parametrize("lost", ["authenticate", "resolve", "transform"])
def test_every_filter_that_others_need_is_missed(lost: str) -> None:
    told = faults(*(name for name in DEFAULT_PIPELINE if name != lost))

    assert told
    assert all(" needs a" in fault and "no earlier filter gives" in fault for fault in told)


def test_order_that_cannot_work_is_refused_in_the_sentence_of_the_contract() -> None:
    told = faults("usage", "respond", "quota", "authenticate", "resolve", "transform", "proxy")

    assert told == ["pipeline[2] quota needs a caller, which no earlier filter gives"]


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        (
            ["authenticate", "rate_limit", "resolve", "transform", "proxy"],
            ["pipeline[1] rate_limit needs an endpoint, which no earlier filter gives"],
        ),
        (
            ["authenticate", "resolve", "authenticate", "transform", "proxy"],
            ["pipeline[2] authenticate gives a caller, which authenticate gave already"],
        ),
        (
            ["authenticate", "resolve", "transform", "proxy", "usage"],
            [
                "pipeline[3] proxy answers itself: it must be the last of the list",
                "pipeline[4] usage is the last but does not answer; proxy does",
            ],
        ),
        (
            ["authenticate", f"{HERE}:Outside", "resolve", "transform", "proxy"],
            [f"pipeline[1] {HERE}:Outside must stand before authenticate, which gives a caller"],
        ),
        (["usage"], ["pipeline[0] usage is the last but does not answer; proxy does"]),
        ([], ["pipeline: is empty"]),
    ],
    ids=["needs", "gives twice", "not the last", "too far inside", "no answer", "empty"],
)  # fmt: skip
def test_other_orders_that_cannot_work_are_refused(entries: list[Any], told: list[str]) -> None:
    assert faults(*entries) == told


def test_word_that_no_filter_knows_is_refused_with_the_nearest() -> None:
    told = faults("authenticate", f"{HERE}:Misspelt", "resolve", "transform", "proxy")
    begin = f"pipeline[1] {HERE}:Misspelt"
    end = "and a mark of one's own has a dot, as \"my_package."

    assert told == [
        f'{begin} needs "calller", which no filter knows: the nearest word is "caller", {end}calller"',
        f'{begin} gives "rate_decison", which no filter knows: the nearest word is "rate_decision", {end}rate_decison"',
        f'{begin} precedes "outgoin", which no filter knows: the nearest word is "outgoing", {end}outgoin"',
    ]  # fmt: skip


def test_marks_of_ones_own_have_a_dot_and_are_ordered_as_others_are() -> None:
    inside = ["authenticate", "resolve", "transform", "proxy"]

    assert plan([f"{HERE}:Marking", f"{HERE}:Marked", *inside])
    assert faults(f"{HERE}:Marked", f"{HERE}:Marking", *inside) == [
        f"pipeline[0] {HERE}:Marked needs a my_package.audited, which no earlier filter gives"
    ]


def test_fields_that_filters_give_are_fields_of_an_exchange() -> None:
    assert Exchange.__annotations__.keys() >= FIELDS
    assert not MARKS & vars(Exchange).keys()


@pytest.mark.parametrize(
    "entry",
    ["nothing", "rate-limit", "RateLimit", "__init__", "", " ", "usage.Options", "../usage", "os"],
)
def test_unknown_filter_is_refused_with_those_that_there_are(entry: str) -> None:
    [told] = faults(entry)

    assert told.startswith(f"pipeline[0]: there is no filter {entry}; there are authenticate, ")
    assert all(name in told for name in DEFAULT_PIPELINE)
    assert "__init__," not in told


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (5, "pipeline[0]: an entry is a filter's name, or `name: {options}`"),
        (None, "pipeline[0]: an entry is a filter's name, or `name: {options}`"),
        ([], "pipeline[0]: an entry is a filter's name, or `name: {options}`"),
        ({}, "pipeline[0]: an entry is a filter's name, or `name: {options}`"),
        ({"usage": {}, "proxy": {}}, "pipeline[0]: an entry is a filter's name, or `name: {options}`"),
        ({"usage": 5}, "pipeline[0].usage: not a mapping"),
        ({"usage": {"x": 1}}, "pipeline[0].usage.x: unknown setting; known here: unknown_call"),
        ({"resolve": {"x": 1}}, "pipeline[0].resolve.x: unknown setting"),
        ("gone_for_good:Audit", "pipeline[0]: there is no filter gone_for_good:Audit"),
        ("gone_for_good.audit:Audit", "pipeline[0]: there is no filter gone_for_good.audit:Audit"),
        ("filters.gone:Audit", "pipeline[0]: there is no filter filters.gone:Audit"),
        (":Audit", "pipeline[0]: there is no filter :Audit"),
        ("audit:", "pipeline[0]: there is no filter audit:"),
        (".audit:Audit", "pipeline[0]: there is no filter .audit:Audit"),
        ("a:b:c", "pipeline[0]: there is no filter a:b:c"),
        (f"{HERE}:Gone", f"pipeline[0]: {HERE} has no class Gone"),
        (f"{HERE}:faults", f"pipeline[0]: {HERE} has no class faults"),
        (f"{HERE}:Blank", f"pipeline[0]: {HERE}:Blank is no filter: it lacks options, needs, gives, __call__"),
        (f"{HERE}:Uncallable", f"pipeline[0]: {HERE}:Uncallable is no filter: it lacks __call__"),
        ({f"{HERE}:Recording": {"burst": "x"}}, f"pipeline[0].{HERE}:Recording.burst: not an integer"),
    ],
    ids=str,
)  # fmt: skip
def test_entry_that_is_no_filter_is_refused_at_its_place(entry: Any, told: str) -> None:
    assert faults(entry)[0].startswith(told)


def test_faults_of_all_entries_are_told_at_once() -> None:
    told = faults({"usage": {"unknown_callers_per_s": "x"}}, "nothing", {"respond": {"a": 1}}, 7)

    assert [fault.partition(": ")[0] for fault in told] == [
        "pipeline[0].usage.unknown_callers_per_s", "pipeline[1]", "pipeline[2].respond.a",
        "pipeline[3]",
    ]  # fmt: skip


AUDIT = """
from dataclasses import dataclass
from gateway.options import whole

@dataclass(frozen=True)
class Options:
    burst: int = whole(1, "How many.")

class Audit:
    options, needs, gives = Options, frozenset(), frozenset()
    def __init__(self, options, runtime):
        self.options = options
    async def __call__(self, exchange, proceed):
        return await proceed(exchange)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Write a module into a folder that is searched for modules."""
    monkeypatch.syspath_prepend(tmp_path)

    def _write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    return _write


@pytest.mark.parametrize(
    ("file", "name"), [("audit_a.py", "audit_a:Audit"), ("my_b/deep.py", "my_b.deep:Audit")]
)
def test_filter_of_ones_own_is_found_in_a_folder(
    file: str, name: str, folder: Callable[[str, str], None]
) -> None:
    folder(file, AUDIT)
    outer, _ = plan([{name: {"burst": 7}}, f"{HERE}:Answering"])

    assert isinstance(outer.cls, type)
    assert (outer.name, outer.cls.__name__, outer.options.burst) == (name, "Audit", 7)


def test_module_that_a_filter_of_ones_own_lacks_is_not_taken_for_the_filter(
    folder: Callable[[str, str], None],
) -> None:
    folder("ledger_c.py", "import ledger")  # its name begins like that of the filter

    with pytest.raises(ModuleNotFoundError, match="'ledger'"):
        plan(["ledger_c:Ledger"])


async def test_first_filter_is_outermost() -> None:
    entries = [{f"{HERE}:Recording": {"burst": number}} for number in (1, 2, 3)]
    pipeline = build(plan([*entries, f"{HERE}:Answering"]), NO_RUNTIME)
    response = await pipeline(exchange())

    assert response.body == b"/path"
    assert [value for _, value in response.headers] == [b"3", b"2", b"1"]


async def test_refusal_leaves_the_filters_inside_alone() -> None:
    entries = [f"{HERE}:Recording", f"{HERE}:Refusing", f"{HERE}:Answering"]
    pipeline = build(plan(entries), NO_RUNTIME)

    with pytest.raises(Rejected, match="Not today"):
        await pipeline(exchange())


async def test_list_without_an_answer_fails_and_does_not_answer() -> None:
    with pytest.raises(AssertionError):
        await fold([])(exchange())
    with pytest.raises(AssertionError):
        await fold([("recording", Recording(Options(), NO_RUNTIME))])(exchange())


class Screening(Recording):
    """Refuses what comes back, or refuses in another's place, or passes both on."""

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        try:
            response = await proceed(exchange)
        except Rejected:
            if exchange.query == "convert":
                raise Rejected("not_found", "Nothing to see.") from None
            raise
        if exchange.query == "screen":
            raise Rejected("upstream_invalid", "Not fit to be seen.")
        return response


@pytest.mark.parametrize(
    ("innermost", "query", "by"),
    [
        (Answering, "screen", "Screening"),
        (Refusing, "", "Refusing"),
        (Refusing, "screen", "Refusing"),
        (Refusing, "convert", "Screening"),
    ],
)
async def test_refusal_is_known_by_the_filter_that_made_it(
    innermost: type[Recording], query: str, by: str
) -> None:
    classes: list[type[Recording]] = [Recording, Screening, Recording, innermost]
    stages = [(f"{HERE}:{cls.__name__}", cls(Options(), NO_RUNTIME)) for cls in classes]
    refused = exchange()
    refused.query = query

    with pytest.raises(Rejected) as caught:
        await fold(stages)(refused)
    assert (caught.value.by or refused.reached) == f"{HERE}:{by}"


async def test_pipeline_serves_many_exchanges_each_on_its_own() -> None:
    pipeline = build(plan([f"{HERE}:Recording", f"{HERE}:Answering"]), NO_RUNTIME)
    answers = [await pipeline(exchange()) for _ in range(3)]

    assert [len(answer.headers) for answer in answers] == [1, 1, 1]


class Renamed(Recording):
    """Calls the rest of the list by another name."""

    async def __call__(self, exchange: Exchange, rest: Proceed, /) -> Response:
        response = await rest(exchange)
        response.headers.append((b"X-Renamed", b"yes"))
        return response


async def test_the_rest_of_the_list_may_have_any_name() -> None:
    filters = [
        ("renamed", Renamed(Options(), NO_RUNTIME)), ("answering", Answering(Options(), NO_RUNTIME)),
    ]  # fmt: skip

    response = await fold(filters)(exchange())

    assert (b"X-Renamed", b"yes") in response.headers


class Knowing(Recording):
    """Finds out that the caller may do this."""

    gives = frozenset({"connector", "permission"})


class Seeing(Answering):
    """Foresees a refusal, but for what has a query."""

    def foresee(self, exchange: Exchange) -> None:
        """Raises Rejected."""
        if not exchange.query:
            raise Rejected("overloaded", "It is full.")


@pytest.mark.parametrize(
    ("names", "entered"),
    [
        (["outer", "knowing", "inner", "innermost"], "outer knowing"),
        (["knowing", "outer", "mine:Own", "inner", "innermost"], "knowing outer mine:Own"),
        (["knowing", "inner", "sparing", "innermost"], "knowing inner sparing"),
        (["knowing", "innermost"], "knowing"),
    ],
)
async def test_foreseen_refusal_comes_where_it_is_permitted_and_nobody_else_may_answer(
    names: list[str], entered: str
) -> None:
    reached = []

    class Telling(Recording):
        async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
            reached.append(exchange.reached)
            return await proceed(exchange)

    class Sparing(Telling):
        spares_upstream = True

    class Knows(Telling, Knowing):
        """Both."""

    kinds = {"knowing": Knows, "sparing": Sparing, "innermost": Seeing}
    stages = [(name, kinds.get(name, Telling)(Options(), NO_RUNTIME)) for name in names]
    refused = exchange()

    with pytest.raises(Rejected) as caught:
        await fold(stages)(refused)
    assert " ".join(reached) == entered
    assert (caught.value.by or refused.reached) == "innermost"

    passing = exchange()
    passing.query = "q"
    assert (await fold(stages)(passing)).body == b"/path"
    assert reached[len(entered.split()) :] == names[:-1]
