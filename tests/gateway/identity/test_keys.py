"""Gateway keys: the format of the contract, and that nothing close to a key is taken for one."""

from __future__ import annotations

import hashlib
import re
import string
import zlib

import pytest

from gateway.identity import keys
from gateway.ids import BASE62, base62


def taken(value: str) -> bool:
    """Whether a value would be looked up."""
    parsed = keys.parse(value)
    return parsed is not None and parsed.is_intact


def with_checksum(body: str) -> str:
    return body + base62(zlib.crc32(body.encode()), 6)


def test_new_keys_have_the_format_of_the_contract() -> None:
    made = keys.make()

    match = re.fullmatch(
        r"gw_(?P<id>[0-9A-Za-z]{8})_(?P<secret>[0-9A-Za-z]{43})(?P<check>[0-9A-Za-z]{6})",
        made.value,
    )
    assert match is not None
    assert match["id"] == made.public_id
    assert made.value == with_checksum(made.value[:-6])
    assert made.digest == hashlib.sha256((match["secret"] + match["check"]).encode()).digest()


def test_checksum_of_a_known_key_stays_the_same() -> None:
    """Keys that were given out must work with every later version."""
    parsed = keys.parse(f"gw_00000000_{'0' * 43}4JUIqw")

    assert parsed is not None
    assert parsed.is_intact
    assert parsed.digest == hashlib.sha256(b"0" * 43 + b"4JUIqw").digest()


def test_keys_are_taken_apart_into_what_is_stored() -> None:
    made = keys.make()
    parsed = keys.parse(made.value)

    assert parsed is not None
    assert parsed.is_intact
    assert (parsed.public_id, parsed.digest) == (made.public_id, made.digest)
    assert keys.same(parsed.digest, made.digest)


def test_rotation_keeps_the_id_and_changes_the_secret() -> None:
    first = keys.make()
    second = keys.make(first.public_id)

    assert second.public_id == first.public_id
    assert second.value != first.value
    assert not keys.same(first.digest, second.digest)


def test_new_keys_differ() -> None:
    made = [keys.make() for _ in range(1000)]

    assert len({key.value for key in made}) == len({key.public_id for key in made}) == len(made)


def test_typing_error_in_any_single_character_is_refused() -> None:
    value = keys.make().value
    mistyped = [
        value[:place] + other + value[place + 1 :]
        for place in range(len(value))
        for other in string.digits + string.ascii_letters + "_- "
        if other != value[place]
    ]

    assert len(mistyped) > 3800
    assert [text for text in mistyped if taken(text)] == []


def test_swapped_and_lost_and_doubled_characters_are_refused() -> None:
    value = keys.make().value
    swapped = {
        value[:place] + value[place + 1] + value[place] + value[place + 2 :]
        for place in range(len(value) - 1)
    }
    lost = {value[:place] + value[place + 1 :] for place in range(len(value))}
    doubled = {value[:place] + value[place - 1] + value[place:] for place in range(1, len(value))}

    assert [text for text in (swapped | lost | doubled) - {value} if taken(text)] == []


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param("gw_", id="prefix alone"),
        pytest.param(with_checksum(f"sk_{'a' * 8}_{'b' * 43}"), id="another prefix"),
        pytest.param(with_checksum(f"GW_{'a' * 8}_{'b' * 43}"), id="upper case prefix"),
        pytest.param(with_checksum(f"gw_{'a' * 8}-{'b' * 43}"), id="another separator"),
        pytest.param(with_checksum(f"gw_{'a' * 7}._{'b' * 43}"), id="id outside base62"),
        pytest.param(with_checksum(f"gw_{'a' * 7}\x00_{'b' * 43}"), id="id with a NUL"),
        pytest.param(with_checksum(f"gw_{'a' * 8}_{'b' * 42}'"), id="secret outside base62"),
        pytest.param(with_checksum(f"gw_{'a' * 8}_{'b' * 42}"), id="shorter"),
        pytest.param(with_checksum(f"gw_{'a' * 8}_{'b' * 44}"), id="longer"),
        pytest.param(with_checksum(f"gw_{'a' * 8}_{'b' * 43}") + "\n", id="line end"),
        pytest.param(" " + with_checksum(f"gw_{'a' * 8}_{'b' * 43}"), id="space"),
        pytest.param(f"gw_{'é' * 8}_{'b' * 49}", id="not ASCII"),
        pytest.param(f"gw_{'a' * 8}_{chr(0x661) * 49}", id="foreign digits"),
        pytest.param(f"gw_{'a' * 8}_{'b' * 43}\udcff{'c' * 5}", id="half a surrogate pair"),
    ],
)
def test_malformed_values_are_no_keys(value: str) -> None:
    assert keys.parse(value) is None


def test_unknown_keys_are_compared_with_a_digest_that_no_secret_has() -> None:
    made = keys.make()

    assert len(keys.NO_DIGEST) == len(made.digest)
    assert not keys.same(made.digest, keys.NO_DIGEST)


def test_no_repr_shows_the_secret() -> None:
    made = keys.make()
    parsed = keys.parse(made.value)

    for shown in (repr(made), str(made), f"{parsed}", repr([made, parsed])):
        assert made.public_id in shown
        assert made.value[12:30] not in shown


def test_ids_and_secrets_use_all_of_base62() -> None:
    seen = set("".join(keys.make().value[3:] for _ in range(200))) - {"_"}

    assert seen == set(BASE62)
