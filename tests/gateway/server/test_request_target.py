"""What a request is for: the forms of a target, and the one host."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import HttpVersion11
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.server.request_target import settle


def asked(target: str, host: str | None) -> Any:
    fields = [] if host is None else [("Host", host)]
    raw = tuple((name.encode(), value.encode()) for name, value in fields)
    headers = CIMultiDictProxy(CIMultiDict(fields))
    return RawRequestMessage(
        "GET", target, HttpVersion11, headers, raw, False, None, False, False, URL("/")
    )


@pytest.mark.parametrize("host", ["a", "a:80", "a:", "[::1]:8080", "a_b.example", "%41", "", None])
def test_usual_request_stays_what_it_is(host: str | None) -> None:
    message = asked("/x?a=http://b", host)

    assert settle(message) is message


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        ("http://b/x?c", "/x?c", "b"),
        ("HTTP://b:1", "/", "b:1"),
        ("https://[::1]?c", "/?c", "[::1]"),
        ("*", "/", "a"),
        ("b:443", "/", "a"),
    ],
)
def test_other_forms_become_origin_form_and_an_authority_the_host(
    target: str, path: str, host: str
) -> None:
    settled: Any = settle(asked(target, "a"))

    assert (settled.path, settled.headers.getall("host")) == (path, [host])
    assert settled.raw_headers == ((b"Host", host.encode()),)


@pytest.mark.parametrize(
    ("target", "host"),
    [("/", "a, b"), ("/", "a b"), ("/", "a/b"), ("/", "a@b"), ("/", "a:b"), ("*", "a@b"),
     ("http://b/", ""), ("http://b/", "a b"), ("http://u@b/", "b"), ("http://b#c/", "b")],
)  # fmt: skip
def test_what_does_not_name_one_host_is_none(target: str, host: str) -> None:
    assert settle(asked(target, host)) is None
