"""Several targets: who is tried next, who is left out, and for how long."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.problems import Rejected
from gateway.upstream.breaker import BreakerSettings, State
from gateway.upstream.targets import Member, Targets
from tests.dataplane import connector

SETTINGS = BreakerSettings()
BASE = "https://api.example.com/v1"


def target(name: str, weight: int = 1, priority: int = 0) -> dict[str, Any]:
    return {"url": f"https://{name}.example.com", "weight": weight, "priority": priority}


def targets(
    *given: dict[str, Any], chance: Callable[[], float] = lambda: 0.0, **definition: Any
) -> Targets:
    made = Targets(SETTINGS, chance)
    made.settle(connector(BASE, targets=list(given), **definition))
    return made


def name(member: Member) -> str:
    return member.target.host.partition(".")[0]


def picked(among: Targets, count: int, now: float = 0, *, keep: bool = False) -> list[str]:
    names = []
    for _ in range(count):
        member = among.pick(now, "e")
        names.append(name(member))
        if not keep:
            member.leave()
    return names


def member(among: Targets, wanted: str) -> Member:
    return next(found for found in among.members.values() if name(found) == wanted)


def fail(failing: Member, now: float, times: int = 5) -> None:
    for _ in range(times):
        failing.failed(now, failing.era("e"))


def open_breaker(failing: Member, now: float = 0) -> None:
    fail(failing, now, SETTINGS.least_attempts)
    assert failing.breaker.state is State.OPEN


def test_without_targets_the_base_url_is_the_one() -> None:
    only = targets()

    assert picked(only, 3) == ["api"] * 3
    assert next(iter(only.members.values())).target.label == "api.example.com:443"


def test_only_scheme_host_and_port_of_a_target_count() -> None:
    place_ = targets({"url": "http://a.example.com:8080"}).pick(0, "e")

    assert (place_.target.label, place_.target.is_tls) == ("a.example.com:8080", False)
    assert place_.target.host_field == b"Host: a.example.com:8080\r\n"


def test_round_robin_goes_in_turn_and_mixes_weights_evenly() -> None:
    assert picked(targets(target("a"), target("b"), target("c")), 6) == [*"abcabc"]
    assert picked(targets(target("a", 5), target("b"), target("c")), 7) == [*"aabacaa"]
    heavy = picked(targets(target("a", 1000), target("b", 1)), 1001)
    assert Counter(heavy) == {"a": 1000, "b": 1}


def test_least_request_spreads_by_weight_when_nothing_is_in_flight() -> None:
    chance = random.Random(7).random
    among = targets(target("a", 1), target("b", 3), chance=chance, load_balancing="least-request")

    share = Counter(picked(among, 4000))
    assert share["b"] / 4000 == pytest.approx(0.75, abs=0.03)


def test_least_request_keeps_the_load_in_proportion_to_weights() -> None:
    chance = random.Random(7).random
    among = targets(target("a", 1), target("b", 3), chance=chance, load_balancing="least-request")

    share = Counter(picked(among, 400, keep=True))
    assert share["b"] / 400 == pytest.approx(0.75, abs=0.02)


def test_least_request_avoids_a_target_that_is_slow() -> None:
    chance = random.Random(7).random
    among = targets(*(target(n) for n in "abcd"), chance=chance, load_balancing="least-request")
    slow = member(among, "a")
    slow.in_flight = 50

    assert "a" not in picked(among, 400)


@pytest.mark.parametrize("by", ["round-robin", "least-request"])
def test_level_is_used_while_one_of_it_is_healthy(by: str) -> None:
    among = targets(
        target("c", priority=2), target("a", priority=0), target("b", priority=1), load_balancing=by
    )
    assert set(picked(among, 20)) == {"a"}
    open_breaker(member(among, "a"))
    assert set(picked(among, 20)) == {"b"}
    open_breaker(member(among, "b"))

    assert set(picked(among, 20)) == {"c"}


def test_first_level_is_used_again_when_it_has_come_back() -> None:
    among = targets(target("a"), target("b", priority=1))
    first = member(among, "a")
    open_breaker(first)
    assert picked(among, 1) == ["b"]
    for _ in range(3):
        probe = among.pick(5, "e")
        assert probe is first
        probe.succeeded(5, probe.era("e"))

    assert picked(among, 2, now=5) == ["a", "a"]


def test_when_all_are_left_alone_the_caller_is_told_when_the_first_comes_back() -> None:
    among = targets(target("a"), target("b", priority=1))
    open_breaker(member(among, "a"), now=10)
    open_breaker(member(among, "b"), now=12.5)
    with pytest.raises(Rejected) as caught:
        among.pick(13, "e")

    assert (caught.value.code, caught.value.headers) == ("circuit_open", [(b"Retry-After", b"2")])
    assert not among.can_pick(13, "e")
    assert among.can_pick(15, "e")


def test_half_open_target_gets_three_at_a_time() -> None:
    among = targets()
    open_breaker(next(iter(among.members.values())))
    probes = [among.pick(5, "e") for _ in range(3)]
    with pytest.raises(Rejected, match="circuit_open"):
        among.pick(5, "e")
    probes[0].breaker.abandoned(probes[0].breaker.era)

    assert among.pick(5, "e") is probes[0]


def test_retry_takes_another_target_even_of_the_next_level() -> None:
    among = targets(target("a"), target("b"), target("c", priority=1))
    a, b, c = (member(among, n) for n in "abc")

    assert among.pick(0, "e", (a,)) is b
    assert among.pick(0, "e", (b,)) is a
    assert among.pick(0, "e", (a, b)) is c
    assert among.pick(0, "e", (a, b, c)) in {a, b}


def test_five_failures_in_a_row_eject_for_a_time_that_doubles() -> None:
    among = targets(target("a"), target("b"))
    a, now, times = member(among, "a"), 0.0, []
    fail(a, now, 4)
    assert not a.is_ejected(now)
    for _ in range(6):
        fail(a, now, 1)
        end = next(second for second in range(1, 100) if not a.is_ejected(now + second))
        times.append(end)
        assert set(picked(among, 10, now)) == {"b"}
        now += end

    assert times == [5, 10, 20, 40, 60, 60]


def test_success_begins_the_row_and_the_time_anew() -> None:
    among = targets(target("a"), target("b"))
    a = member(among, "a")
    fail(a, 0)
    a.succeeded(5, a.era("e"))
    fail(a, 5, 4)
    assert not a.is_ejected(5)
    fail(a, 5, 1)

    assert (a.is_ejected(9.9), a.is_ejected(10)) == (True, False)


def test_failures_of_requests_that_were_under_way_do_not_eject_for_longer() -> None:
    among = targets(target("a"), target("b"))
    a = member(among, "a")
    fail(a, 0, 12)

    assert (a.is_ejected(4.9), a.is_ejected(5)) == (True, False)


@pytest.mark.parametrize(("count", "most"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (9, 4)])
def test_never_more_than_half_of_a_level_is_ejected(count: int, most: int) -> None:
    among = targets(*(target(f"t{n}") for n in range(count)), target("z", priority=1))
    for failing in [found for found in among.members.values() if name(found) != "z"]:
        fail(failing, 0)

    assert sum(found.is_ejected(0) for found in among.members.values()) == most
    assert "z" not in picked(among, 20)


def test_ejected_target_is_better_than_none() -> None:
    among = targets(target("a"), target("b"))
    a, b = member(among, "a"), member(among, "b")
    fail(a, 0)
    open_breaker(b)

    assert (a.is_ejected(1), among.pick(1, "e")) == (True, a)


def test_share_of_healthy_targets_and_worst_state_are_told() -> None:
    among = targets(*(target(n) for n in "abcd"))
    assert among.condition(0) == (State.CLOSED, 1)
    fail(member(among, "a"), 0)
    assert among.condition(0) == (State.CLOSED, 0.75)
    open_breaker(member(among, "b"))

    assert among.condition(0) == (State.OPEN, 0.5)
    assert among.condition(5) == (State.HALF_OPEN, 1)


def test_single_target_is_all_or_nothing() -> None:
    among = targets()
    only = next(iter(among.members.values()))
    fail(only, 0, 19)
    assert among.condition(0) == (State.CLOSED, 1)
    fail(only, 0, 1)

    assert [among.condition(now) for now in (0, 5)] == [(State.OPEN, 0), (State.HALF_OPEN, 1)]


def test_target_that_stays_in_a_new_version_keeps_what_is_known_of_it() -> None:
    among = targets(target("a"), target("b"))
    open_breaker(member(among, "a"))
    held = among.pick(0, "e")
    new = [target("a", weight=7, priority=1), target("c")]
    among.settle(connector(BASE, targets=new, connect_timeout=1500))
    held.leave()
    a = member(among, "a")

    assert {name(found) for found in among.members.values()} == {"a", "c"}
    assert (a.breaker.state, a.weight, a.target.connect_timeout_s) == (State.OPEN, 7, 1.5)
    assert held.in_flight == 0


def test_same_origin_is_one_target_however_it_is_written() -> None:
    among = targets({"url": "https://a.example.com"}, {"url": "https://A.example.com:443"})

    assert [found.target.label for found in among.members.values()] == ["a.example.com:443"]


def idle_places() -> Iterator[tuple[str, Callable[[Member], None]]]:
    yield "in flight", lambda found: setattr(found, "in_flight", 1)
    yield "ejected", lambda found: fail(found, 100)
    yield "used", lambda found: found.succeeded(100, found.era("e"))


@pytest.mark.parametrize("why", dict(idle_places()))
def test_what_still_says_something_is_not_idle(why: str) -> None:
    among = targets(target("a"), target("b"))
    assert among.is_idle(100, 60)
    dict(idle_places())[why](member(among, "a"))

    assert not among.is_idle(100, 60)


def unwell(*given: dict[str, Any], unhealthy: str) -> Targets:
    """Targets some of which health checks speak against."""
    labels = {f"{letter}.example.com:443" for letter in unhealthy}
    among = Targets(SETTINGS, lambda: 0.0, lambda _connector: labels)
    among.settle(connector(BASE, targets=list(given)))
    return among


def test_target_that_checks_find_unhealthy_is_left_out_and_the_standing_says_so() -> None:
    among = unwell(target("a"), target("b"), target("c"), unhealthy="b")

    assert picked(among, 4) == [*"acac"]
    assert among.condition(0).healthy == pytest.approx(2 / 3)


def test_next_priority_takes_over_when_checks_speak_against_all_of_the_first() -> None:
    assert picked(unwell(target("a"), target("b"), target("c", 1, 1), unhealthy="ab"), 2) == [*"cc"]


def test_all_are_used_when_checks_speak_against_all() -> None:
    among = unwell(target("a"), target("b"), unhealthy="ab")

    assert picked(among, 4) == [*"abab"]
    assert among.condition(0).healthy == 0


def test_only_target_is_used_whatever_checks_say() -> None:
    among = unwell(target("a"), unhealthy="a")

    assert picked(among, 2) == [*"aa"]
    assert among.condition(0).healthy == 0


def test_target_that_checks_speak_against_is_used_before_none_is() -> None:
    among = unwell(target("a"), target("b"), unhealthy="a")
    open_breaker(member(among, "b"))

    assert picked(among, 2) == [*"aa"]


def refuse(refusing: Member, now: float, endpoint: str = "e", times: int = 1) -> None:
    for _ in range(times):
        refusing.refused(now, refusing.era(endpoint), endpoint)


def test_answers_that_fail_open_the_breaker_of_their_endpoint_alone() -> None:
    among = targets()
    only = next(iter(among.members.values()))
    refuse(only, 0, "bad", SETTINGS.least_attempts)

    assert (only.breaker.state, among.can_pick(0, "bad"), among.can_pick(0, "e")) == (
        State.CLOSED, False, True,
    )  # fmt: skip
    with pytest.raises(Rejected, match="circuit_open") as caught:
        among.pick(1, "bad")
    assert caught.value.headers == [(b"Retry-After", b"4")]
    assert among.pick(1, "e") is only


def test_endpoints_breaker_closes_when_its_probes_succeed() -> None:
    among = targets()
    only = next(iter(among.members.values()))
    refuse(only, 0, times=SETTINGS.least_attempts)
    for _ in range(3):
        probe = among.pick(5, "e")
        probe.succeeded(5, probe.era("e"))

    assert only.endpoints["e"].state is State.CLOSED


def test_other_target_serves_an_endpoint_that_one_fails() -> None:
    among = targets(target("a"), target("b", priority=1))
    refuse(member(among, "a"), 0, times=SETTINGS.least_attempts)

    assert (picked(among, 2), name(among.pick(0, "other"))) == (["b", "b"], "a")


def test_breakers_of_endpoints_are_bounded_and_forgotten() -> None:
    only = next(iter(targets().members.values()))
    for number in range(10_000):
        refuse(only, 0, str(number))
    assert len(only.endpoints) <= 256
    refuse(only, 100, "late")

    assert [*only.endpoints] == ["late"]
