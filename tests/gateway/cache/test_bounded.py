"""A bounded store: what goes first, and that nobody pushes out what is another's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.bounded import Bounded


def kept(store: Bounded[int, str], owner: str, most: int = 200) -> list[int]:
    """The keys that an owner still has."""
    return [key for key in range(most) if store.get(owner, key) is not None]


def test_least_recently_used_goes_first() -> None:
    store: Bounded[int, str] = Bounded(30)
    for key in (1, 2, 3):
        store.put("red", key, "x", 10)
    store.get("red", 1)
    store.put("red", 4, "x", 10)

    assert kept(store, "red") == [1, 3, 4]
    assert (store.size_bytes, store.count) == (30, 3)


def test_value_takes_the_place_of_the_one_before() -> None:
    store: Bounded[str, str] = Bounded(30)
    store.put("red", "a", "old", 20)
    store.put("red", "a", "new", 30)

    assert store.get("red", "a") == "new"
    assert (store.size_bytes, store.count) == (30, 1)


def test_value_that_is_too_large_is_not_kept_and_neither_is_what_it_replaces() -> None:
    store: Bounded[str, str] = Bounded(30)
    store.put("red", "a", "old", 10)
    store.put("red", "b", "other", 10)
    store.put("red", "a", "new", 31)

    assert (store.get("red", "a"), store.get("red", "b")) == (None, "other")


def test_number_of_values_is_bounded_too() -> None:
    store: Bounded[int, str] = Bounded(1000, most_entries=2)
    for key in range(5):
        store.put("red", key, "x", 1)

    assert kept(store, "red") == [3, 4]


def test_keys_of_different_owners_are_different() -> None:
    store: Bounded[str, str] = Bounded(100)
    store.put("red", "a", "of red", 1)

    assert store.get("blue", "a") is None
    store.drop("blue", "a")
    store.drop("red", "b")
    assert store.get("red", "a") == "of red"
    store.drop("red", "a")
    assert (store.get("red", "a"), store.size_bytes, store.count) == (None, 0, 0)


def test_flood_of_one_owner_takes_nothing_from_those_within_their_share() -> None:
    store: Bounded[int, str] = Bounded(100)
    for key in range(5):
        store.put("blue", key, "x", 10)
    for key in range(200):
        store.put("red", key, "x", 10)

    assert kept(store, "blue") == [0, 1, 2, 3, 4]
    assert kept(store, "red") == [195, 196, 197, 198, 199]


def test_owner_that_comes_late_gets_its_share() -> None:
    store: Bounded[int, str] = Bounded(100)
    for key in range(10):
        store.put("red", key, "x", 10)
    for key in range(10):
        store.put("blue", key, "x", 10)

    assert kept(store, "red") == [5, 6, 7, 8, 9]
    assert kept(store, "blue") == [5, 6, 7, 8, 9]


PUTS = st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 60))


@given(st.lists(PUTS, max_size=80))
def test_bounds_hold_and_the_books_balance(puts: list[tuple[str, int, int]]) -> None:
    store: Bounded[int, int] = Bounded(100, most_entries=7)
    for owner, key, size in puts:
        store.put(owner, key, size, size)
        assert store.size_bytes <= 100
        assert store.count <= 7

    sizes = [s for o in "abc" for k in range(10) if (s := store.get(o, k)) is not None]
    assert (sum(sizes), len(sizes)) == (store.size_bytes, store.count)
