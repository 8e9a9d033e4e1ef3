"""The store of a cache: targets, shelves, and what is forgotten while it is fetched."""

from __future__ import annotations

import gc
from typing import Any

from gateway.cache import rules
from gateway.cache.rules import Stored
from gateway.cache.store import Answers, Shelf, Target
from gateway.exchange import Exchange
from gateway.model import Connector
from tests.dataplane import caller, connector, exchange
from tests.loopback import Fields

AT = connector("http://up")


def asking(path: str = "/up/x", fields: Fields = (), at: Connector = AT, **who: Any) -> Exchange:
    made = exchange(path=path, fields=fields, at=at)
    made.caller = caller(**who)
    return made


def got(by: Exchange, body: bytes = b"", vary: str = "") -> Stored:
    fields = [(b"Cache-Control", b"max-age=60"), *([(b"Vary", vary.encode())] if vary else [])]
    answer = rules.received(by, 200, fields, by.at)
    answer.body = body
    return answer


def shelved(answers: Answers, by: Exchange, body: bytes = b"") -> None:
    shelf = answers.shelf(Target.of(by))
    shelf.put(got(by, body))
    assert answers.keep(Target.of(by), shelf)


def found(answers: Answers, by: Exchange) -> bytes | None:
    answer = answers.shelf(Target.of(by)).find(by)
    return None if answer is None else answer.body


def test_target_is_the_teams_connector_path_and_query() -> None:
    one = Target.of(asking("/up/x?a=1"))

    assert one == Target.of(asking("/up/x?a=1", id="another key of the team"))
    for other in (
        asking("/up/x?a=1", team="blue"),
        asking("/up/x?a=2"),
        asking("/up/x"),
        asking("/up/X?a=1"),
        asking("/up/x?a=1", at=connector("http://up")),
    ):
        assert Target.of(other) != one


def test_connector_that_is_compiled_anew_has_another_identity() -> None:
    first, again = connector("http://up"), connector("http://up")

    assert first.identity != again.identity


def test_newest_answer_for_the_same_selection_counts() -> None:
    shelf = Shelf()
    english, german = (asking(fields=[("Accept-Language", code)]) for code in ("en", "de"))
    for by, body in ((english, b"old"), (german, b"tag"), (english, b"new")):
        shelf.put(got(by, body, vary="Accept-Language"))

    bodies = [answer.body if (answer := shelf.find(by)) else None for by in (english, german)]
    assert bodies == [b"new", b"tag"]
    assert shelf.find(asking()) is None
    assert shelf.selects(english) == ((b"accept-language", "en"),)
    assert Shelf().selects(english) == ()


def test_answer_that_does_not_vary_any_more_is_for_all() -> None:
    shelf, english = Shelf(), asking(fields=[("Accept-Language", "en")])
    shelf.put(got(english, b"varies", vary="Accept-Language"))
    shelf.put(got(asking(), b"plain"))

    assert (shelf.find(english) or got(english)).body == b"plain"
    shelf.remove(shelf.find(english))
    assert (shelf.find(english) or got(english)).body == b"varies"
    shelf.remove(None)
    assert len(shelf.variants) == 1


def test_variants_of_one_target_have_an_end() -> None:
    shelf = Shelf()
    for number in range(50):
        by = asking(fields=[("Accept", f"a/{number}")])
        shelf.put(got(by, vary="Accept"))

    assert len(shelf.variants) == 16
    assert shelf.find(asking(fields=[("Accept", "a/49")]))
    assert not shelf.find(asking(fields=[("Accept", "a/0")]))


def test_kept_answers_are_found_and_weighed() -> None:
    answers = Answers(1 << 20)
    shelved(answers, asking("/up/a"), bytes(1000))
    shelved(answers, asking("/up/b"), bytes(3000))

    assert found(answers, asking("/up/a")) == bytes(1000)
    assert 4000 < answers.size_bytes < 8000


def test_least_recently_asked_target_goes_first() -> None:
    answers = Answers(12_000)
    for name in "abc":
        shelved(answers, asking(f"/up/{name}"), bytes(2000))
    found(answers, asking("/up/a"))
    shelved(answers, asking("/up/d"), bytes(2000))

    kept = [name for name in "abcd" if found(answers, asking(f"/up/{name}")) is not None]
    assert kept == ["a", "c", "d"]


def test_flood_of_one_team_leaves_what_another_keeps() -> None:
    answers = Answers(100_000)
    shelved(answers, asking("/up/x", team="blue"), b"of blue")
    for number in range(500):
        shelved(answers, asking(f"/up/{number}"), bytes(1000))

    assert found(answers, asking("/up/x", team="blue")) == b"of blue"
    assert answers.size_bytes <= 100_000


def test_what_is_fetched_while_its_target_changes_is_not_kept() -> None:
    answers, by = Answers(1 << 20), asking()
    shelf = answers.shelf(Target.of(by))
    answers.forget(Target.of(by))
    shelf.put(got(by))

    assert not answers.keep(Target.of(by), shelf)
    assert found(answers, by) is None


def test_forgotten_target_begins_anew() -> None:
    answers, by = Answers(1 << 20), asking()
    shelved(answers, by, b"old")
    answers.forget(Target.of(by))
    assert (found(answers, by), answers.size_bytes) == (None, 0)

    shelved(answers, by, b"new")
    assert found(answers, by) == b"new"


def test_shelves_that_hold_nothing_leave_nothing_behind() -> None:
    answers = Answers(1 << 20)
    first = answers.shelf(Target.of(asking("/up/a")))
    assert answers.shelf(Target.of(asking("/up/a"))) is first
    for number in range(100):
        answers.shelf(Target.of(asking(f"/up/{number}")))
    del first
    gc.collect()

    assert (answers.size_bytes, len(answers._live)) == (0, 0)  # noqa: SLF001 - nothing else shows it
