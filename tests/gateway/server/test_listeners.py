"""Listening sockets: a fault names the setting, and only what nobody uses is taken over."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gateway.server.listeners import ListenFault, address, bind


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name is short enough for a socket's address."""
    with TemporaryDirectory(prefix="gw-") as path:
        yield Path(path)


def refusal(listen: str) -> str:
    with pytest.raises(ListenFault) as caught:
        bind(listen, "server.listen")
    return str(caught.value)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0"])
def test_address_is_bound_and_told_with_its_real_port(listen: str) -> None:
    with bind(listen, "server.listen") as bound:
        host, _, port = address(bound).rpartition(":")
        bound.listen()

        assert host == "127.0.0.1"
        assert not bound.getblocking()
        socket.create_connection((host, int(port))).close()


def test_address_of_ip_version_6_is_told_in_brackets() -> None:
    with bind("[::]:0", "server.listen") as bound:
        assert address(bound) == f"[::]:{bound.getsockname()[1]}"


def test_taken_port_is_refused_with_its_setting() -> None:
    with bind("127.0.0.1:0", "server.listen") as first:
        first.listen()
        told = refusal(address(first))

        assert told == f"cannot listen on {address(first)} (server.listen): Address already in use"


def test_port_that_was_just_closed_can_be_taken_again() -> None:
    with bind("127.0.0.1:0", "server.listen") as first:
        first.listen()
        taken = address(first)
        host, port = first.getsockname()
        client = socket.create_connection((host, port))
        first.setblocking(True)
        server, _ = first.accept()
        server.close()  # the side that closes first keeps the address for a while
        client.close()

    bind(taken, "server.listen").close()


@pytest.mark.parametrize(
    "listen",
    [
        "127.0.0.1:65536", "127.0.0.1:99999", "192.0.2.1:0", "a..b:80", f"{'a' * 64}.example:80",
        "[::2]:0", "unix:/nowhere/at/all.sock", f"unix:/{'x' * 200}", "unix:/",
    ],
)  # fmt: skip
def test_address_that_cannot_be_had_is_refused_with_its_setting(listen: str) -> None:
    assert refusal(listen).startswith(f"cannot listen on {listen} (server.listen): ")


def test_unix_socket_is_made_and_answers(folder: Path) -> None:
    with bind(f"unix:{folder}/s", "server.listen") as bound:
        bound.listen()

        assert address(bound) == f"unix:{folder}/s"
        assert not bound.getblocking()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{folder}/s")


def test_unix_socket_that_a_killed_process_left_is_taken_over(folder: Path) -> None:
    bind(f"unix:{folder}/s", "server.listen").close()  # closing leaves the file
    with (
        bind(f"unix:{folder}/s", "server.listen") as bound,
        socket.socket(socket.AF_UNIX) as client,
    ):
        bound.listen()
        client.connect(f"{folder}/s")


def test_unix_socket_that_is_listened_on_is_not_taken_over(folder: Path) -> None:
    with bind(f"unix:{folder}/s", "server.listen") as first:
        first.listen()

        assert "(server.listen): Address already in use" in refusal(f"unix:{folder}/s")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{folder}/s")


def test_unix_socket_of_a_server_that_is_too_busy_to_answer_is_not_taken_over(folder: Path) -> None:
    with bind(f"unix:{folder}/s", "server.listen") as first, ExitStack() as clients:
        first.listen(0)
        for _ in range(8):  # more than the queue holds
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(f"{folder}/s")

        assert "Address already in use" in refusal(f"unix:{folder}/s")
        assert (folder / "s").is_socket()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_unix_socket_of_another_kind_is_not_taken_over(
    kind: socket.SocketKind, folder: Path
) -> None:
    with socket.socket(socket.AF_UNIX, kind) as other:
        other.bind(f"{folder}/s")

        assert "Address already in use" in refusal(f"unix:{folder}/s")


def test_file_that_is_no_socket_is_left_as_it_is(folder: Path) -> None:
    (folder / "s").write_text("precious", encoding="ascii")

    assert "Address already in use" in refusal(f"unix:{folder}/s")
    assert (folder / "s").read_text(encoding="ascii") == "precious"
