"""What is measured: a name, the call it takes, and the processes that it consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from call import ANSWER
from cpu import tree, used_s

if TYPE_CHECKING:
    from call import Call


class WrongAnswer(Exception):
    """A proxy does not do what it is compared for; the message says what came instead."""


@dataclass(frozen=True)
class Target:
    """A running proxy. `pid` is None where the load goes straight to the upstream."""

    name: str
    call: Call
    pid: int | None
    database_pid: int | None = None
    checks_keys: bool = False
    same_bytes: bool = True
    status: int = 200

    def used_s(self) -> tuple[float, float]:
        """CPU seconds so far: of the proxy's own processes, and of the database under it."""
        database = tree(self.database_pid)
        return used_s(tree(self.pid) - database), used_s(database)

    def check(self) -> None:
        """See that it answers as it should, and refuses a wrong key where it should."""
        status, answer = self.call.send()
        if status != self.status or (self.same_bytes and answer != ANSWER):
            said = answer[:300].decode(errors="replace")
            raise WrongAnswer(f"{self.name} answers {status} {said}")
        if self.checks_keys and (status := self.call.with_key("gw_wrong").send()[0]) != 401:
            raise WrongAnswer(f"{self.name} answers {status} to a wrong key")
