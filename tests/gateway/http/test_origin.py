"""The session's cookie among others, however it is spelled; fields that act on an origin."""

from __future__ import annotations

import pytest

from gateway.http.origin import ACTING, is_session, without_session

SPELLINGS = [
    b"gateway_session=x", b"__Secure-gateway_session=x", b"GATEWAY_SESSION=x", b" gateway_session =x",
    b"=gateway_session=x", b" = gateway_session=x", b"gateway_session", b"gateway_session=",
    b"__secure-Gateway_Session=x", b"__Host-gateway_session=x", b"\tgateway_session\t= x",
]  # fmt: skip
OTHERS = [b"a=1", b"a=gateway_session=x", b"my_gateway_session=x", b"gateway_session2=x", b"", b"="]


@pytest.mark.parametrize("pair", SPELLINGS)
def test_session_is_known_however_a_browser_may_read_it(pair: bytes) -> None:
    assert is_session(pair)
    assert is_session(pair + b"; Path=/; gateway=1")
    assert without_session([(b"Cookie", b"a=1; " + pair + b";b=2")]) == [(b"Cookie", b"a=1;b=2")]
    assert without_session([(b"X", b"y"), (b"cookie", pair)]) == [(b"X", b"y")]


@pytest.mark.parametrize("pair", OTHERS)
def test_other_cookies_stay_as_they_are(pair: bytes) -> None:
    fields = [(b"Cookie", pair + b";  c=3 ")]

    assert not is_session(pair + b"; Path=gateway_session=x")
    assert without_session(fields) == fields


def test_names_are_as_fields_are_compared() -> None:
    assert all(name == name.lower() and b"_" not in name for name in ACTING)
