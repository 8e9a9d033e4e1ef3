"""Logs: one JSON object a line whatever is logged, and no secret by way of an object's repr."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from io import BufferedReader
from typing import Any, TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import Body, Exchange, Outgoing
from gateway.identity import keys
from gateway.identity.jwts import TokenRules, Tokens, TrustedKey
from gateway.logs import JsonLines, Lines, access_fields, written
from gateway.model import Caller, Plan
from gateway.secrets.vault import MasterKey, Reference, Vault
from gateway.settings import (
    AuthSettings,
    DatabaseSettings,
    MasterKeySettings,
    SecretSettings,
    Settings,
    TrustedKeySettings,
)
from gateway.transform.auth import Injection
from gateway.transform.compiling import compile_connector


def line(
    message: Any = "said", *arguments: Any, level: int = logging.INFO, **extra: Any
) -> dict[str, Any]:
    """What a record becomes."""
    record = logging.LogRecord("gateway.test", level, "path.py", 1, message, arguments, None)
    record.__dict__.update(extra)
    text = JsonLines().format(record)
    assert "\n" not in text
    made: dict[str, Any] = json.loads(text)
    return made


def test_line_says_when_how_bad_where_and_what() -> None:
    made = line("%s of %d", "one", 2, level=logging.WARNING)
    when = datetime.fromisoformat(made.pop("time"))

    assert made == {"level": "WARNING", "logger": "gateway.test", "message": "one of 2"}
    assert when.utcoffset() is not None
    assert abs(datetime.now(when.tzinfo).timestamp() - when.timestamp()) < 60  # noqa: TID251 - what is told is the machine's


def test_fields_that_are_named_are_told_and_no_others() -> None:
    made = line(team="maps", status=200, total_ms=1.5, gone=None, at=datetime(2026, 1, 2))  # noqa: DTZ001 - any

    assert made.keys() - {"time"} == {
        "level",
        "logger",
        "message",
        "team",
        "status",
        "total_ms",
        "gone",
        "at",
    }
    assert (made["team"], made["status"], made["total_ms"], made["gone"]) == (
        "maps",
        200,
        1.5,
        None,
    )


def test_exception_is_told_with_its_trace_in_the_same_line() -> None:
    def fail() -> None:
        raise ValueError("broken\nin two")

    with pytest.raises(ValueError, match="broken") as caught:
        fail()
    made = line("failed", level=logging.ERROR, exc_info=(caught.type, caught.value, caught.tb))

    assert made["exception"].startswith("Traceback")
    assert made["exception"].endswith("ValueError: broken\nin two")


@pytest.mark.parametrize(
    "value",
    [
        'a\nb\r\n{"level": "ERROR"}', "\x00\x1b[31m\u2028", "half \udcff", "\ud83d", 1 << 100, -(1 << 70),
        float("nan"), {1: 2}, {(1, 2): 3}, {"a": "\udcff"}, b"\xff", object(), {1, 2}, [object()],
    ],
    ids=lambda value: ascii(value).partition(" at 0x")[0],
)  # fmt: skip
def test_no_value_breaks_a_line_or_loses_it(value: Any) -> None:
    assert line(value=value)["message"] == "said"
    assert line(str(value))["level"] == "INFO"
    assert line("%s", value)["logger"] == "gateway.test"


def test_value_that_holds_itself_loses_no_line() -> None:
    value: list[Any] = []
    value.append(value)

    assert line(value=value)["message"] == "said"


@given(st.text(st.characters()), st.text(st.characters()))
def test_any_text_is_one_line(message: str, value: str) -> None:
    made = line("%s", message, value=value)

    assert made["level"] == "INFO"
    if not any(0xD800 <= ord(c) < 0xE000 for c in message + value):
        assert (made["message"], made["value"]) == (message, value)


def _connector() -> Any:
    own = {"id": "e", "name": "e", "method": "GET", "path": "/", "definition": {}}
    definition = {"upstream_base_url": "https://h", "auth_type": "bearer"}
    shown = {"id": "c", "slug": "c", "definition": definition, "endpoints": [own]}
    return compile_connector(shown, team="t", secrets={"token": "hush-hush"})


NEW_KEY = keys.make()
HUSH = b"hush-hush-hush-hush-hush-hush-32"
HOLDERS: dict[str, Callable[[], object]] = {
    "MasterKey": lambda: MasterKey("a", HUSH),
    "Vault": lambda: Vault([MasterKey("a", HUSH)], [Reference("N", ("h",))], {"N": "hush-hush"}),
    "TrustedKey": lambda: TrustedKey("HS256", "hush-hush"),
    "Tokens": lambda: Tokens(TokenRules("i", "a"), [TrustedKey("HS256", "hush-hush")]),
    "NewKey": lambda: NEW_KEY,
    "ParsedKey": lambda: keys.parse(NEW_KEY.value),
    "Injection": lambda: Injection((("A", "hush-hush"),), (("b", "hush-hush"),)),
    "Outgoing": lambda: Outgoing("GET", "/?k=hush-hush", [(b"A", b"hush-hush")], b"hush-hush"),
    "Connector": _connector,
    "Endpoint": lambda: _connector().router.match("GET", "/").route,
    "Mapped": lambda: _connector().router.match("GET", "/").route.mapped,
    "Body": lambda: Body.of(b"hush-hush"),
    "Exchange": lambda: Exchange(
        "GET", "/", "k=hush-hush", {"a": "hush-hush"}, ((b"a", b"hush-hush"),), Body.of(b"hush-hush"),
        client_address="", request_id="",
    ),
    "Settings": lambda: Settings(
        database=DatabaseSettings(dsn="postgresql://u:hush-hush@h/d"),
        auth=AuthSettings(keys=(TrustedKeySettings("HS256", HUSH.decode()),)),
        secrets=SecretSettings(master_keys=(MasterKeySettings("a", "hush-hush"),)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("made", HOLDERS.values(), ids=HOLDERS)
def test_object_that_holds_a_secret_shows_none_wherever_it_is_logged(
    made: Callable[[], object],
) -> None:
    held = made()
    lines = [
        line(value=held), line("%s %r", held, held), line(value=[held]), line(value={"a": (held,)}),
        line(value=held, other="half \udcff"), line(value=[held], other=1 << 80), line(held),
    ]  # fmt: skip
    lines.append(line(exc_info=(ValueError, ValueError(held), None)))

    shown = json.dumps(lines)
    assert "hush" not in shown
    assert NEW_KEY.value[12:30] not in shown


def test_caller_is_shown_by_what_may_be_shown() -> None:
    shown = json.dumps(line(caller=Caller("key", "k1", "gw_12345678", "maps", Plan("p", "p"))))

    assert "gw_12345678" in shown


def test_access_log_tells_of_an_exchange_without_its_path_query_and_headers() -> None:
    exchange: Any = HOLDERS["Exchange"]()
    exchange.path = "/maps/hush-hush"
    exchange.caller = Caller("key", "k1", "gw_12345678", "maps", Plan("p", "p"))
    exchange.connector, exchange.endpoint = _connector(), HOLDERS["Endpoint"]()
    told = line("request", **access_fields(exchange, 0.25))

    assert (told["team"], told["caller"], told["total_ms"]) == ("maps", "gw_12345678", 250)
    assert (told["connector"], told["endpoint"], told["method"]) == ("c", "e", "GET")
    assert "hush" not in json.dumps(told)


@pytest.fixture
def _root() -> Iterator[None]:
    """The logging of the process is as before afterwards."""
    loggers = [logging.getLogger(name) for name in (None, "gateway.access", "asyncio")]
    before = [logger.level for logger in loggers]
    handlers = loggers[0].handlers[:]
    yield
    loggers[0].handlers[:] = handlers
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.mark.usefixtures("_root")
@pytest.mark.parametrize(
    ("level", "access", "told"),
    [
        ("INFO", False, ["info", "warning"]), ("INFO", True, ["info", "warning", "access"]),
        ("WARNING", False, ["warning"]), ("WARNING", True, ["warning", "access"]),
        ("DEBUG", False, ["debug", "info", "warning"]),
    ],
)  # fmt: skip
def test_level_and_access_log_are_what_is_configured(
    level: str, access: bool, told: list[str]
) -> None:
    stream = io.StringIO()
    log = logging.getLogger("gateway.anything")
    with written(level, access=access, stream=stream):
        log.debug("debug")
        log.info("info")
        log.warning("warning")
        logging.getLogger("gateway.access").info("access")
        logging.getLogger("asyncio").info("chatter")

    assert [json.loads(text)["message"] for text in stream.getvalue().splitlines()] == told


@pytest.mark.usefixtures("_root")
def test_doing_so_again_repeats_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        with written("INFO", access=False):
            pass
    with written("INFO", access=False):
        logging.getLogger("gateway.anything").info("once")

    out, err = capsys.readouterr()
    assert [json.loads(text)["message"] for text in out.splitlines()] == ["once"]
    assert err == ""


@pytest.fixture
def pipe() -> Iterator[tuple[BufferedReader, TextIO]]:
    """An output, and the end that it is read from."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as writer:
        yield reader, writer


def say(output: Lines, *messages: Any) -> None:
    for message in messages:
        output.handle(logging.LogRecord("gateway.test", logging.INFO, "", 1, message, (), None))


def messages(block: bytes) -> list[Any]:
    """What whole lines say."""
    assert block.endswith(b"\n")
    return [json.loads(text)["message"] for text in block.splitlines()]


def until_full(reader: BufferedReader) -> int:
    """Wait until the pipe takes no more; answers how much is in it."""
    held = 0
    while (holds := _holds(reader)) != held or not holds:
        held = holds
        time.sleep(0.05)  # noqa: TID251 - nothing tells that a writer has to wait
    return held


def _holds(reader: BufferedReader) -> int:
    answered = fcntl.ioctl(reader, termios.FIONREAD, bytes(4))
    return int.from_bytes(answered, sys.byteorder)


def test_output_that_nobody_reads_keeps_nobody_waiting(pipe: tuple[BufferedReader, TextIO]) -> None:
    reader, writer = pipe
    output = Lines(writer, most_waiting=1000)
    texts = [f"{number} {'x' * 1000}" for number in range(3000)]
    say(output, *texts)
    held = until_full(reader)
    dropped = output.dropped
    assert 0 < dropped <= 2000
    assert held < sum(map(len, texts))

    rest = threading.Thread(target=output.stop, args=[10])
    rest.start()
    got = b""
    while not got.endswith(b'slow","lines":%d}\n' % dropped):
        got += reader.read1()
    rest.join()

    numbers = [int(message.split()[0]) for message in messages(got)[:-1]]
    assert numbers == sorted(set(numbers)), "in their order, each once"
    assert len(numbers) == 3000 - dropped
    assert output.dropped == dropped


def test_end_does_not_wait_for_a_reader_that_never_reads(
    pipe: tuple[BufferedReader, TextIO],
) -> None:
    reader, writer = pipe
    output = Lines(writer)
    say(output, *["x" * 1000] * 1000)
    until_full(reader)
    began = time.monotonic()
    output.stop(0.1)

    assert time.monotonic() - began < 5
    reader.close()  # and the thread ends: there is nobody to write to
    output.stop(10)


def test_lines_are_whole_where_several_processes_write(pipe: tuple[BufferedReader, TextIO]) -> None:
    reader, writer = pipe
    os.set_blocking(writer.fileno(), False)
    outputs = [Lines(writer) for _ in range(4)]
    for number in range(1000):
        say(outputs[number % 4], f"{number} {'é' * 300}")
    stopping = [threading.Thread(target=output.stop, args=[10]) for output in outputs]
    for each in stopping:
        each.start()
    got = b""
    while got.count(b"\n") < 1000:
        got += reader.read1()
    for each in stopping:
        each.join()

    numbers = [int(message.split()[0]) for message in messages(got)]
    assert sorted(numbers) == [*range(1000)]
    for first in range(4):
        own = [number for number in numbers if number % 4 == first]
        assert own == sorted(own)


def test_lines_that_a_broken_output_loses_are_counted(pipe: tuple[BufferedReader, TextIO]) -> None:
    reader, writer = pipe
    reader.close()
    output = Lines(writer)
    say(output, "one", "two")
    output.stop(10)

    assert output.dropped == 2
