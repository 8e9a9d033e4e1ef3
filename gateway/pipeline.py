"""From the names in the configuration to one callable: filters found, checked, built, folded.

`rate_limit` is the class `RateLimit` in `filters/rate_limit.py`; `my_package.audit:Audit` is
somebody else's. Nothing is registered anywhere.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Awaitable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, NamedTuple, Protocol, cast

from gateway.exchange import FIELDS, MARKS, Exchange, Filter, Proceed, Response
from gateway.options import OptionFaults, Spot, load
from gateway.problems import Rejected, quoted
from gateway.runtime import Runtime

PACKAGE: Final = "filters"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*").fullmatch

_OWN_MARK: Final = re.compile(r"[A-Za-z_]\w*(?:\.\w+)+").fullmatch


class Maker(Protocol):
    """A filter's class. Beside this it may say five things more.

    `answers` is True for a filter that does not proceed: exactly the innermost one does that.
    `precedes` names what only filters inside this one may give. `explained` says whether it may run for a
    request that is only explained (`explain/explanation.py`): it must change nothing but its exchange
    then; `refuses_answers` whether it may also refuse what came back, `spares_upstream` whether it may
    answer what would else go on to the upstream: others' are taken to do both.

    The innermost filter may have a method `foresee(exchange)`, which raises what it would refuse as things
    are, and changes nothing. It is called as early as it can be: see `fold`.
    """

    @property
    def options(self) -> type[Any]: ...
    @property
    def needs(self) -> frozenset[str]: ...
    @property
    def gives(self) -> frozenset[str]: ...
    def __call__(self, options: Any, runtime: Runtime, /) -> Filter: ...


class Stage(NamedTuple):
    """One entry of the pipeline: its name in the file, its class, and its options."""

    name: str
    cls: Maker
    options: Any


def plan(entries: Sequence[Any]) -> list[Stage]:
    """Find every filter, check its options and the order. OptionFaults lists all that is wrong."""
    spots: list[Spot] = []
    stages: list[Stage] = []
    for index, entry in enumerate(entries):
        try:
            stages.append(_stage(entry, f"pipeline[{index}]"))
        except OptionFaults as faults:
            spots += faults.spots
    if not spots:
        spots = _unknown_words(stages) or _order(stages)
    if spots:
        raise OptionFaults(spots)
    return stages


def build(stages: Sequence[Stage], runtime: Runtime) -> Proceed:
    """The filters as one callable; the first is outermost."""
    return fold([(stage.name, stage.cls(stage.options, runtime)) for stage in stages])


def fold(filters: Sequence[tuple[str, Filter]]) -> Proceed:
    """The list folded from its end: each filter gets the rest of the list as `proceed`.

    The exchange tells which filter it has reached: it is that one which refuses it. Only what may also
    refuse an answer has to be told when one comes back. What the innermost filter can foresee is asked
    where the caller's permission is known and nobody further inside may answer in its place: nothing was
    taken of a limit and nothing was built for a request that is refused then.
    """
    proceed: Proceed = _nobody
    foreseen = _foreseen_at(filters)
    for index, (name, stage) in reversed(list(enumerate(filters))):
        if getattr(stage, "refuses_answers", ":" in name):
            proceed = _coming_back(name, proceed)
        proceed = _step(name, stage, proceed)
        if index == foreseen:
            proceed = _foreseeing(*filters[-1], proceed)
    return proceed


def _foreseen_at(filters: Sequence[tuple[str, Filter]]) -> int | None:
    """Before which filter the innermost one is asked what it can foresee; None where it can't."""
    if not filters or not hasattr(filters[-1][1], "foresee"):
        return None
    first = 0
    for index, (name, stage) in enumerate(filters):
        is_known = stage.gives & {"connector", "permission"}
        if is_known or getattr(stage, "spares_upstream", ":" in name):
            first = index + 1
    return min(first, len(filters) - 1)


def _foreseeing(name: str, innermost: Any, proceed: Proceed) -> Proceed:
    foresee = innermost.foresee

    def step(exchange: Exchange) -> Awaitable[Response]:
        exchange.reached = name
        foresee(exchange)
        return proceed(exchange)

    return step


def _step(name: str, stage: Filter, proceed: Proceed) -> Proceed:
    call = stage.__call__  # looked up once

    def step(exchange: Exchange) -> Awaitable[Response]:
        exchange.reached = name
        return call(exchange, proceed)

    return step


def _coming_back(name: str, proceed: Proceed) -> Proceed:
    """The rest of the list for a filter that may refuse what comes back of it."""

    async def rest(exchange: Exchange) -> Response:
        try:
            response = await proceed(exchange)
        except Rejected as rejected:
            rejected.by = rejected.by or exchange.reached
            exchange.reached = name
            raise
        exchange.reached = name
        return response

    return rest


async def _nobody(exchange: Exchange) -> Response:
    raise AssertionError("the innermost filter must answer")


def _stage(entry: Any, path: str) -> Stage:
    if isinstance(entry, Mapping) and len(entry) == 1:
        name, given = next(iter(entry.items()))
    else:
        name, given = entry, None
    if not isinstance(name, str):
        raise OptionFaults([Spot(path, "an entry is a filter's name, or `name: {options}`")])
    cls = _find(name, path)
    return Stage(name, cls, load(cls.options, given, f"{path}.{name}"))


def _find(name: str, path: str) -> Maker:
    if ":" in name:
        module_name, _, class_name = name.partition(":")
    else:
        module_name = f"{PACKAGE}.{name}"
        class_name = "".join(part.capitalize() for part in name.split("_"))
    unknown = OptionFaults([Spot(path, f"there is no filter {name}{_known(name)}")])
    if not _NAME(name):
        raise unknown
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise unknown from None
    cls = getattr(module, class_name, None)
    if not isinstance(cls, type):
        raise OptionFaults([Spot(path, f"{module_name} has no class {class_name}")])
    lacking = [n for n in ("options", "needs", "gives", "__call__") if n not in dir(cls)]
    if lacking:
        raise OptionFaults([Spot(path, f"{name} is no filter: it lacks {', '.join(lacking)}")])
    return cast("Maker", cls)


def _known(name: str) -> str:
    """What there is, for a name of ours that was misspelt."""
    if ":" in name:
        return ""
    from importlib.resources import files  # noqa: PLC0415 - for the error only

    names = sorted(
        entry.name.removesuffix(".py")
        for entry in files(PACKAGE).iterdir()
        if entry.name.endswith(".py") and not entry.name.startswith("_")
    )
    return f"; there are {', '.join(names)}"


def _unknown_words(stages: Sequence[Stage]) -> list[Spot]:
    """Words that are neither the exchange's nor marks of the filter's own, which have a dot."""
    spots: list[Spot] = []
    for index, (name, cls, _) in enumerate(stages):
        said = {"needs": cls.needs, "gives": cls.gives, "precedes": _precedes(cls)}
        for verb, words in said.items():
            for word in sorted(words - FIELDS - MARKS):
                if not _OWN_MARK(word):
                    spots.append(Spot(f"pipeline[{index}]", f"{name} {verb} {_stray(word)}", " "))
    return spots


def _stray(word: str) -> str:
    [near] = get_close_matches(word, sorted(FIELDS | MARKS), 1, cutoff=0)
    return (
        f"{quoted(word)}, which no filter knows: the nearest word is {quoted(near)}, "
        f"and a mark of one's own has a dot, as {quoted(f'my_package.{word}')}"
    )


def _precedes(cls: Maker) -> frozenset[str]:
    words: frozenset[str] = getattr(cls, "precedes", frozenset())
    return words


def _order(stages: Sequence[Stage]) -> list[Spot]:
    """What each filter needs must be given before it, once; the innermost alone answers."""
    if not stages:
        return [Spot("pipeline", "is empty")]
    spots: list[Spot] = []
    givers: dict[str, str] = {}
    for index, (name, cls, _) in enumerate(stages):
        path = f"pipeline[{index}]"
        for field in sorted(cls.needs - givers.keys()):
            fault = f"{name} needs {_a(field)}, which no earlier filter gives"
            spots.append(Spot(path, fault, " "))
        for field in sorted(cls.gives & givers.keys()):
            fault = f"{name} gives {_a(field)}, which {givers[field]} gave already"
            spots.append(Spot(path, fault, " "))
        for field in sorted(_precedes(cls) & givers.keys()):
            fault = f"{name} must stand before {givers[field]}, which gives {_a(field)}"
            spots.append(Spot(path, fault, " "))
        givers.update(dict.fromkeys(cls.gives, name))
        answers, innermost = getattr(cls, "answers", False), index == len(stages) - 1
        if answers and not innermost:
            fault = f"{name} answers itself: it must be the last of the list"
            spots.append(Spot(path, fault, " "))
        if innermost and not answers:
            fault = f"{name} is the last but does not answer; proxy does"
            spots.append(Spot(path, fault, " "))
    return spots


def _a(field: str) -> str:
    return f"{'an' if field[0] in 'aeiou' else 'a'} {field}"
