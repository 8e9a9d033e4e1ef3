"""Secrets in files: whose they are, what a file may hold, and links that lead elsewhere."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from gateway.secrets.destinations import written as to
from gateway.secrets.files import MOST_BYTES, Permitted, SecretFiles, check_path, differ, stamps

HOST = "api.example.com"


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """A directory of secrets as Kubernetes mounts one, and something beside it."""
    made = tmp_path / "mount"
    (made / "..first").mkdir(parents=True)
    (made / "..first" / "key").write_text("hush\n")
    (made / "..data").symlink_to("..first")
    (made / "key").symlink_to("..data/key")
    (tmp_path / "mount-of-others").write_text("not yours")
    return made


def read(path: object, permitted: object, host: str = HOST) -> str | None:
    return SecretFiles([Permitted(str(permitted), (HOST,))]).read(str(path), "red", to(host))


def swap(mount: Path, content: str) -> None:
    """Rotate as Kubernetes does: a new directory, and one link that is moved over the old one."""
    (mount / "..second").mkdir()
    (mount / "..second" / "key").write_text(content)
    (mount / "..new").symlink_to("..second")
    (mount / "..new").replace(mount / "..data")


@pytest.mark.parametrize("entry", ["", "key", "..first"])
def test_secret_is_read_where_the_operator_permits_it(mount: Path, entry: str) -> None:
    path = mount / ("..first/key" if entry == "..first" else "key")

    assert read(path, mount / entry if entry else mount) == "hush"
    assert read(path, mount / entry if entry else mount, "API.Example.com") == "hush"


@pytest.mark.parametrize("host", ["evil.example.com", "x.api.example.com", "api.example.com."])
def test_secret_is_for_the_hosts_that_the_operator_names(mount: Path, host: str) -> None:
    assert read(mount / "key", mount, host) is None


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "{mount}-of-others", "{mount}/../mount-of-others", "{mount}/./key",
        "{mount}//key", "/{mount}/key", "{mount}/", "{mount}/key/", "{mount}/..data/../key",
        "mount/key", "key", "", "/", "{mount}/key\x00", "{mount}/key\n", "{mount}/" + "k" * 2000,
        "{mount}", "{mount}/nothing", "{mount}/..data", "~/key",
    ],
)  # fmt: skip
def test_nothing_else_is_read(mount: Path, path: str) -> None:
    assert read(path.replace("{mount}", str(mount)), mount) is None


@pytest.mark.parametrize("how", ["file", "directory", "chain", "up"])
def test_link_that_leads_out_of_what_is_permitted_is_not_followed(
    mount: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    outside = mount.parent / "outside"
    outside.mkdir()
    (outside / "key").write_text("the operator's own")
    path = mount / "link"
    if how == "directory":
        (mount / "way").symlink_to(outside)
        path = mount / "way" / "key"
    elif how == "chain":
        (mount / "hop").symlink_to(outside / "key")
        path.symlink_to("hop")
    else:
        path.symlink_to(outside / "key" if how == "file" else "../outside/key")

    assert read(path, mount) is None
    assert [record.__dict__["reason"] for record in caplog.records] == [f"it leads out of {mount}"]


def test_operator_may_name_a_link(mount: Path) -> None:
    named = mount.parent / "named"
    named.symlink_to(mount)

    assert read(named / "key", named) == "hush"
    assert read(named / "key", mount) is None


def test_link_that_leads_to_itself_is_no_secret(mount: Path) -> None:
    (mount / "round").symlink_to("round")

    assert read(mount / "round", mount) is None


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"hush", "hush"), (b"hush\n", "hush"), (b"hush\r\n\n", "hush"), (b" h u s h ", " h u s h "),
        ("h\u00fcsh".encode(), "h\u00fcsh"), (b"x" * MOST_BYTES, "x" * MOST_BYTES),
    ],
)  # fmt: skip
def test_secret_is_the_text_without_the_line_ends_after_it(
    mount: Path, content: bytes, value: str
) -> None:
    (mount / "other").write_bytes(content)

    assert read(mount / "other", mount) == value


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"), (b"\n", "empty"), (b"hush\nhush", "several lines"), (b"hu\x00sh", "control"),
        (b"hu\tsh", "control"), (b"\xff\xfehush", "not UTF-8"), (b"hush" * 4097, "more than 16384"),
    ],
)  # fmt: skip
def test_file_that_holds_no_secret_is_told_to_the_operator_without_what_is_in_it(
    mount: Path, content: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    (mount / "other").write_bytes(content)
    caplog.set_level(logging.WARNING)

    assert read(mount / "other", mount) is None
    (record,) = caplog.records
    assert reason in record.__dict__["reason"]
    assert record.__dict__["path"] == str(mount / "other")
    assert "hush" not in str(record.__dict__["reason"])


def test_what_is_no_regular_file_is_not_waited_for(mount: Path) -> None:
    os.mkfifo(mount / "pipe")

    assert read(mount / "pipe", mount) is None


def test_nothing_is_said_of_a_file_that_is_not_permitted(
    mount: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("/etc/passwd", "/nowhere", f"{mount}/../mount-of-others"):
        assert read(path, mount) is None
    assert caplog.records == []


def test_rotated_secret_is_read_and_its_stamp_is_another_one(mount: Path) -> None:
    paths = [str(mount / "key"), str(mount / "nothing")]
    before = stamps(paths)
    assert not differ(before, stamps(paths))

    swap(mount, "new")

    assert read(mount / "key", mount) == "new"
    assert differ(before, stamps(paths))
    assert not differ({paths[1]: None}, stamps(paths))


@pytest.mark.parametrize("change", ["written", "gone", "come"])
def test_every_change_of_a_file_is_seen(mount: Path, change: str) -> None:
    path = mount / "..first" / ("other" if change == "come" else "key")
    before = stamps([str(path)])
    if change == "gone":
        path.unlink()
    else:
        path.write_text("another one")

    assert differ(before, stamps([str(path)]))
    assert not differ(before, {})


@pytest.mark.parametrize(
    "path",
    ["", "a", "a/b", "/", "/a/", "//a", "/a//b", "/a/../b", "/./a", "/a\n", "/" + "a" * 1024],
)
def test_path_that_could_be_read_in_two_ways_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        check_path(path)


def test_without_files_nothing_is_read(mount: Path) -> None:
    files = SecretFiles()

    assert not files
    assert files.read(str(mount / "key"), "red", to(HOST)) is None
