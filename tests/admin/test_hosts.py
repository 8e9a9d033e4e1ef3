"""Base URLs and hosts: what is taken, what is not, and what is still to be filled in."""

from __future__ import annotations

import pytest
from marshmallow import ValidationError

from admin.hosts import (
    check_allowed_host,
    check_base_url,
    check_origin,
    host,
    is_host,
    origin,
    placeholder,
)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com",
        "http://api.example.com:8080/v1/",
        "HTTPS://API.example.com/%7Euser",
        "https://10.0.0.1",
        "https://[2001:db8::1]:8443/x",
        "https://xn--mnchen-3ya.example",
        "https://my_service.internal",
        "https://YOUR_ACCOUNT.example.com",
        "https://{{variables.region}}.example.com/v1",
        "https://<cluster>.example.com",
    ],
)
def test_web_urls_are_taken(url: str) -> None:
    check_base_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com",
        "//api.example.com",
        "ftp://api.example.com",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        "https:///v1",
        "https:///{x}",
        "https://user:password@api.example.com",
        "https://@api.example.com",
        "https://api.example.com?x=1",
        "https://api.example.com?",
        "https://api.example.com/#x",
        "https://api.example.com:0",
        "https://api.example.com:",
        "https://api.example.com:99999",
        "https://api.example.com:x",
        "https://api.example.com/a/../b",
        "https://api.example.com/%2e%2E/b",
        "https://api.example.com/a b",
        "https://api.example.com/\n",
        " https://api.example.com",
        "https://api.example.com\\@evil.example",
        "https://münchen.example",
        "https://api..example.com",
        "https://-api.example.com",
        "https://api.example.com.",
        "https://[::1",
        "https://[fe80::1%25eth0]",
        "https://::1",
        "https://" + "a" * 64 + ".example",
    ],
)
def test_everything_else_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        check_base_url(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://API.example.com", ("https", "api.example.com", 443)),
        ("http://api.example.com", ("http", "api.example.com", 80)),
        ("https://[2001:DB8::1]:8443/x", ("https", "2001:db8::1", 8443)),
    ],
)
def test_origin_is_normal(url: str, expected: tuple[str, str, int]) -> None:
    assert origin(url) == expected
    assert host(url) == expected[1]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("https://YOUR_HOST/v1", "YOUR_HOST"),
        ("https://YOUR-HOST/v1", "YOUR-HOST"),
        ("https://{{variables.region}}.x", "{{variables.region}}"),
        ("https://{region}.x", "{region}"),
        ("https://<region>.x", "<region>"),
        ("https://CHANGE_ME.x", "CHANGE_ME"),
        ("https://api.example.com/$metadata", None),
        ("https://your-host.example.com", None),
    ],
)
def test_placeholders_are_found(text: str, part: str | None) -> None:
    assert placeholder(text) == part


@pytest.mark.parametrize(
    "text", ["api.example.com", "*.example.com", "10.0.0.1", "::1", "localhost"]
)
def test_allowed_hosts_are_hosts(text: str) -> None:
    check_allowed_host(text)


@pytest.mark.parametrize(
    "text",
    ["*", "*.", "a.*.com", "API.example.com", "https://a.b", "a.b:80", "a.b/c", "[::1]", "a b", ""],
)
def test_other_patterns_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        check_allowed_host(text)


def test_an_address_with_a_zone_is_no_host() -> None:
    assert not is_host("fe80::1%eth0")


@pytest.mark.parametrize("url", ["https://a.example.com", "http://10.0.0.1:81", "http://[::1]:9"])
def test_origins_are_a_scheme_a_host_and_a_port(url: str) -> None:
    check_origin(url)


@pytest.mark.parametrize(
    "url", ["https://a.example.com/", "https://a.example.com/v1", "a", "http://"]
)
def test_origin_has_no_path(url: str) -> None:
    with pytest.raises(ValidationError):
        check_origin(url)
