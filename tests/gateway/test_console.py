"""What a person sees: progress at a terminal, nothing in a pipe, one line for an error in both."""

from __future__ import annotations

import io
import os
import pty
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import pytest

from gateway.console import Output, Screen, complain


@contextmanager
def terminal() -> Iterator[int]:
    """Standard error is a terminal; what is written there can be read here."""
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w", encoding="utf-8") as stream, redirect_stderr(stream):
        yield reader
    os.close(reader)


def test_screen_shows_steps_and_lines_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    line = "done: [bold]http://127.0.0.1:8080/ui/[/bold] " + "x" * 200
    with terminal() as reader:
        screen = Screen()
        with screen.step("making something"):
            pass
        screen.tell(line)
        shown = ""
        while line not in shown:
            shown += os.read(reader, 65536).decode()

    assert "making something" in shown


def test_screen_is_silent_in_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    with screen.step("making something"):
        screen.tell("done")

    assert capfd.readouterr() == ("", "")


def test_step_lets_failures_through(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), Screen().step("making something"):
        raise ValueError("broken")
    assert capfd.readouterr() == ("", "")


def test_complaint_is_one_line_on_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    complain("the port is taken: set server.listen")

    assert out.getvalue() == ""
    assert err.getvalue() == "service-gateway: the port is taken: set server.listen\n"


def test_output_is_plain_in_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    Output().line("[b]changed[/b] :smile: " + "x" * 200, "green")

    assert capfd.readouterr() == ("[b]changed[/b] :smile: " + "x" * 200 + "\n", "")


def test_output_has_colours_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w", encoding="utf-8") as stream, redirect_stdout(stream):
        Output().line("changed", "green")
        stream.flush()
        shown = os.read(reader, 65536).decode()
    os.close(reader)

    assert shown == "\x1b[32mchanged\x1b[0m\r\n"
