"""Where secrets from outside may go: the operator's forms, each for one scheme, host and port."""

from __future__ import annotations

import pytest

from gateway.secrets.destinations import Destinations, Origin, written


@pytest.mark.parametrize(
    ("entry", "origin"),
    [
        ("api.example.com", ("https", "api.example.com", 443)),
        ("API.Example.com", ("https", "api.example.com", 443)),
        ("api.example.com:8443", ("https", "api.example.com", 8443)),
        ("https://api.example.com", ("https", "api.example.com", 443)),
        ("http://api.example.com", ("http", "api.example.com", 80)),
        ("http://10.0.0.5:8080/", ("http", "10.0.0.5", 8080)),
        ("2001:db8::1", ("https", "2001:db8::1", 443)),
        ("[2001:db8::1]:8443", ("https", "2001:db8::1", 8443)),
    ],
)
def test_form_is_one_origin_alone(entry: str, origin: tuple[str, str, int]) -> None:
    allowed = Destinations((entry,))
    scheme, host, port = origin
    other = "http" if scheme == "https" else "https"

    assert written(entry) == origin
    assert allowed.include("red", Origin(*origin))
    for wrong in ((other, host, port), (scheme, host, port + 1), (scheme, f"x.{host}", port)):
        assert not allowed.include("red", Origin(*wrong))


@pytest.mark.parametrize("entry", ["", "ftp://a", "https://", "a/b", "https://a?b", "u@h", "a:99999", "http://u:p@h"])  # fmt: skip
def test_what_is_no_origin_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        written(entry)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_bare_address_of_loopback_is_at_any_port(host: str) -> None:
    allowed = Destinations((host,))
    assert allowed.include("red", Origin("http", host, 12_345))
    assert not allowed.include("red", Origin("http", "10.0.0.1", 12_345))
    assert not Destinations((f"http://[{host}]:80" if ":" in host else f"{host}:80",)).include(
        "red", Origin("http", host, 12_345)
    )


def test_teams_are_all_or_those_named() -> None:
    origin = written("a.example")
    assert Destinations(("a.example",)).include("any", origin)
    assert Destinations(("a.example",), ("red", "blue")).include("blue", origin)
    assert not Destinations(("a.example",), ("red",)).include("blue", origin)
