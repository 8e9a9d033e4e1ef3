"""Secrets kept out of what a person is shown of an upstream's answer, in every form they travel.

An upstream that sends back what it was sent must not tell anybody a secret, nor whether something
that the caller has typed is one: what is typed and comes back is masked, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from gateway.exchange import RawHeaders
from gateway.explain.explanation import MASK
from gateway.secrets.forms import forms

_CREDENTIALS: Final = frozenset(
    b"authorization cookie proxy-authorization set-cookie x-amz-security-token".split()
)
_RUN: Final = 8
"""How many characters that were typed are masked where they come back together."""


class Masks:
    """Puts MASK where a secret is, and where what was typed comes back."""

    def __init__(self, secrets: Iterable[str], typed: Iterable[str] = ()) -> None:
        kept = [secret for secret in secrets if secret]
        self._forms = sorted({form for secret in kept for form in forms(secret)}, key=len)
        self._run = min([_RUN, *map(len, kept)])
        self._typed = {form for text in typed if text for form in forms(text)} if kept else set()

    @property
    def longest(self) -> int:
        """How many characters the longest form of a secret has."""
        return len(self._forms[-1]) if self._forms else 0

    def text(self, text: str) -> str:
        """A text without secrets; those that meet are one MASK."""
        end, shown = 0, list[str]()
        for start, stop in _joined(self._places(text)):
            shown += (text[end:start], MASK)
            end = stop
        return "".join([*shown, text[end:]])

    def headers(self, fields: RawHeaders) -> list[dict[str, str]]:
        """Header fields without secrets; of a credential its scheme is left."""
        return [
            {"name": name.decode("latin-1"), "value": self._value(name.lower(), value)}
            for name, value in fields
        ]

    def _value(self, name: bytes, value: bytes) -> str:
        text = value.decode("utf-8", "replace")
        if name not in _CREDENTIALS:
            return self.text(text)
        scheme, space, _ = text.partition(" ")
        return f"{self.text(scheme)} {MASK}" if space and name.endswith(b"tion") else MASK

    def _places(self, text: str) -> Iterator[tuple[int, int]]:
        for form in self._forms:
            at = text.find(form)
            while at >= 0:
                yield at, at + len(form)
                at = text.find(form, at + 1)
        if not self._typed:
            return
        run, runs = self._run, dict[str, list[int]]()
        for at in range(len(text) - run + 1):
            runs.setdefault(text[at : at + run], []).append(at)
        for typed in self._typed:
            for at in range(len(typed) - run + 1):
                for start in runs.pop(typed[at : at + run], ()):
                    yield start, start + run


def _joined(places: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Places that do not meet, in their order."""
    last: tuple[int, int] | None = None
    for start, stop in sorted(places):
        if last is not None and start <= last[1]:
            last = (last[0], max(stop, last[1]))
            continue
        if last is not None:
            yield last
        last = (start, stop)
    if last is not None:
        yield last


STAND_INS: Final = Masks([MASK, f"{MASK}:{MASK}"])
"""For a request that was made with MASK for each secret: it may be encoded there, too."""


def readable(content: bytes, fields: RawHeaders) -> str | None:
    """A body as text; None for what is coded, or no UTF-8: a secret could hide in that."""
    coded = {value.lower() for name, value in fields if name.lower() == b"content-encoding"}
    if coded - {b"identity"} or b"\0" in content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(content) - 3:  # else the cut went through a character
            return None
        return content[: error.start].decode("utf-8")
