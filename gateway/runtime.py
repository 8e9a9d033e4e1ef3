"""The record of shared objects that filters are built with: six fields at most, ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.directory import Directory
    from gateway.identity.jwts import Tokens
    from gateway.limits.contract import Limits
    from gateway.metrics import Metrics
    from gateway.upstream.attempts import Attempts
    from gateway.usage.writer import UsageWriter


@dataclass(frozen=True, slots=True)
class Runtime:
    """What belongs to one worker process; made by the composition root, closed by it."""

    directory: Directory
    tokens: Tokens
    limits: Limits
    attempts: Attempts
    usage: UsageWriter
    metrics: Metrics
