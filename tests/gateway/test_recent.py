"""Values that were used lately: how many are kept, and which give way."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from gateway.recent import ENTRY_BYTES, Recent

EACH = 1_000 + ENTRY_BYTES


def filled(names: str) -> Recent[str, str]:
    """One that is full, with values of one size."""
    made: Recent[str, str] = Recent(len(names) * EACH)
    for name in names:
        made.put(name, name.upper(), 1_000)
    return made


def names(recent: Recent[str, str]) -> str:
    return "".join(sorted(name for name, _ in recent.items()))


def test_oldest_gives_way_but_not_what_was_used_since() -> None:
    recent = filled("abc")
    assert recent.get("a") == "A"
    recent.put("d", "D", 1_000)
    assert names(recent) == "acd"
    recent.put("e", "E", 1_000)

    assert names(recent) == "ade", "c is older than the second chance of a"
    recent.put("f", "F", 1_000)
    assert names(recent) == "def", "which a has had"


def test_large_value_takes_the_room_of_several_and_too_large_a_one_is_not_kept() -> None:
    recent = filled("abcd")
    recent.put("e", "E", 3 * EACH - ENTRY_BYTES)
    assert names(recent) == "de"
    recent.put("d", "D", 4 * EACH)

    assert (names(recent), recent.get("d")) == ("e", None)


def test_what_is_put_again_counts_once_and_what_is_dropped_not_at_all() -> None:
    recent = filled("ab")
    recent.put("a", "A", 500)
    assert recent.size_bytes == 2 * EACH - 500
    recent.drop("a")
    recent.drop("a")
    assert recent.size_bytes == EACH
    recent.clear()

    assert (recent.size_bytes, [*recent.items()]) == (0, [])


def test_one_gives_way_soon_though_all_were_used() -> None:
    recent: Recent[int, int] = Recent(1_000 * EACH)
    for number in range(1_000):
        recent.put(number, number, 1_000)
        recent.get(number)
    recent.put(1_000, 1_000, 1_000)
    first = [name for name, _ in recent.items()][:2]

    assert first == [17, 18], "16 were passed over, and one was dropped"


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3_000), st.booleans())))
def test_size_is_the_sum_of_what_is_kept_and_never_too_much(
    steps: list[tuple[int, int, bool]],
) -> None:
    recent: Recent[int, int] = Recent(10_000)
    for key, size, is_put in steps:
        if is_put:
            recent.put(key, size, size)
        else:
            recent.drop(key)
            assert recent.get(key) is None

    assert recent.size_bytes == sum(size + ENTRY_BYTES for _, size in recent.items()) <= 10_000


def test_memory_stays_within_the_bound() -> None:
    tracemalloc.start()
    recent: Recent[str, bytes] = Recent(2 << 20)
    for number in range(20_000):
        name, value = f"name {number}", b"x" * (number % 500)
        recent.put(name, value, len(name) + len(value) + 82)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert 1 << 20 < grown < 2 << 20
