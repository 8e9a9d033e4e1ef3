"""Names to addresses: one that is never answered holds up nobody else's, and changes are followed."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest

from gateway.upstream.resolver import Found, NotResolved, Resolver, look_up

Eventually = Callable[[Callable[[], Any]], Awaitable[None]]


class Names:
    """A name server that the test is; `hung` names are answered when the test ends."""

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}
        self.error: OSError | None = None
        self.asked: Counter[str] = Counter()
        self.now = self.most = 0
        self.over = threading.Event()
        self._lock = threading.Lock()

    def ask(self, host: str) -> Sequence[Found]:
        with self._lock:
            self.asked[host] += 1
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            if "hung" in host:
                self.over.wait()
            if self.error is not None:
                raise self.error
            return [(socket.AF_INET, 6, (self.addresses.get(host, "192.0.2.1"), 0))]
        finally:
            with self._lock:
                self.now -= 1


@pytest.fixture
def names() -> Iterator[Names]:
    made = Names()
    yield made
    made.over.set()


async def test_names_that_are_never_answered_hold_up_no_other_team(names: Names) -> None:
    resolver = Resolver(timeout_s=0.2, ask=names.ask)
    loop = asyncio.get_running_loop()
    hung = [loop.create_task(resolver.resolve(f"hung-{n}", "red")) for n in range(40)]
    await asyncio.sleep(0)
    name = await resolver.resolve("good", "blue")

    assert name.addresses == {"192.0.2.1"}
    ends = await asyncio.gather(*hung, return_exceptions=True)
    assert {type(end) for end in ends} == {NotResolved}
    assert names.most <= 4 + 1
    assert (await resolver.resolve("also-good", "blue")).found


async def test_one_name_is_looked_up_once_for_all_who_wait(names: Names) -> None:
    resolver = Resolver(ask=names.ask)
    await asyncio.gather(*(resolver.resolve("a", f"team {n}") for n in range(50)))

    assert names.asked == {"a": 1}


async def test_waiting_is_called_off_alone(names: Names, eventually: Eventually) -> None:
    resolver = Resolver(ask=names.ask)
    task = asyncio.get_running_loop().create_task(resolver.resolve("hung", "red"))
    await eventually(lambda: names.now)
    task.cancel()
    names.over.set()

    assert (await resolver.resolve("hung", "red")).found
    assert names.asked == {"hung": 1}


async def test_answer_is_believed_for_its_time_and_renewed_for_kept_connections(
    names: Names, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = Resolver(ttl_s=3600, ask=names.ask)
    name = await resolver.resolve("a", "red")
    names.addresses["a"] = "192.0.2.2"
    resolver.renew(name, "red")
    assert (await resolver.resolve("a", "red")) is name
    assert names.asked == {"a": 1}
    monkeypatch.setattr("gateway.upstream.resolver._LEAST_AGE_S", 0)
    name.fresh_until = 0
    resolver.renew(name, "red")

    await eventually(lambda: name.addresses == {"192.0.2.2"})


@pytest.mark.parametrize(
    ("errno", "is_stale"), [(socket.EAI_AGAIN, True), (socket.EAI_NONAME, False)]
)
async def test_old_addresses_are_used_while_the_name_server_is_away(
    names: Names, errno: int, is_stale: bool
) -> None:
    """That there is no such name is an answer, and it counts."""
    resolver = Resolver(ttl_s=0, ask=names.ask)
    await resolver.resolve("a", "red")
    names.error = socket.gaierror(errno, "as the test wants it")
    if is_stale:
        assert (await resolver.resolve("a", "red")).addresses == {"192.0.2.1"}
    else:
        with pytest.raises(NotResolved):
            await resolver.resolve("a", "red")


async def test_old_addresses_are_not_used_for_ever(names: Names) -> None:
    resolver = Resolver(ttl_s=0, ask=names.ask)
    name = await resolver.resolve("a", "red")
    name.fresh_until = asyncio.get_running_loop().time() - 601
    names.error = socket.gaierror(socket.EAI_AGAIN, "away")
    with pytest.raises(NotResolved):
        await resolver.resolve("a", "red")


async def test_names_are_bounded(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.upstream.resolver._MOST_NAMES", 3)
    resolver = Resolver(ask=names.ask)
    for number in range(10):
        await resolver.resolve(str(number), "red")

    assert [*resolver._names] == ["7", "8", "9"]  # noqa: SLF001 - what is kept is the promise


def test_hosts_of_this_machine_are_known() -> None:
    assert {"127.0.0.1", "::1"} & {address[0] for _, _, address in look_up("localhost")}
    with pytest.raises(OSError, match=r"\S"):
        look_up("nobody.invalid")
