"""A secret that Kubernetes mounts: used as it is, rotated under load, and told to nobody."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from tests.e2e.process import Gateway
from tests.e2e.services import serving
from tests.templates import mock
from tests.templates.mock import Seen, Stop

Make = Callable[..., Gateway]
FORWARDED = "x-forwarded-for"


async def start() -> tuple[str, Stop]:
    """A service that answers with the credential that it got, and what it was told of the caller."""

    def answer(seen: Seen) -> web.Response:
        told = {"token": seen.headers.get("Authorization"), "for": seen.headers.get(FORWARDED)}
        return mock.reply(told)

    return await mock.start(answer)


def mount(folder: Path, version: str) -> None:
    """What the kubelet does: a directory for each version, and one link that is moved."""
    (folder / f"..{version}").mkdir()
    (folder / f"..{version}" / "token").write_text(f"hush-{version}\n")
    (folder / "..data_tmp").symlink_to(f"..{version}")
    (folder / "..data_tmp").replace(folder / "..data")


def test_mounted_secret_is_used_and_rotated_without_a_restart(
    make_gateway: Make, open_directory: Path
) -> None:
    folder = Path(tempfile.mkdtemp(dir=open_directory))
    mount(folder, "first")
    (folder / "token").symlink_to("..data/token")
    gateway = make_gateway(
        "upstream: {allow_networks: [127.0.0.0/8]}\n"
        f"secrets: {{files: [{{path: '{folder}', hosts: [127.0.0.1]}}]}}\n"
    )
    gateway.start()
    with serving(start) as base_url:
        token = gateway.token()
        connector = {
            "slug": "told", "upstreamBaseUrl": base_url, "authType": "bearer",
            "forwardedHeaders": "x-forwarded", "secrets": {"token": f"file:{folder}/token"},
            "endpoints": [{"name": "get", "method": "GET", "path": "/x"}],
        }  # fmt: skip
        gateway.admin("POST", "/connectors", connector, token=token)
        gateway.admin("POST", "/connectors/told/publish", token=token)
        key = gateway.admin("POST", "/keys", {"name": "k"}, token=token)["key"]
        got = gateway.call("/told/x", key)
        assert got.json == {"token": "Bearer hush-first", "for": "127.0.0.1"}

        mount(folder, "second")
        deadline, tokens = time.monotonic() + 60, {"Bearer hush-first"}
        while "Bearer hush-second" not in tokens:
            assert time.monotonic() < deadline, gateway.said()
            got = gateway.call("/told/x", key)
            tokens.add(got.json["token"])
            time.sleep(0.1)  # noqa: TID251 - another process has no event for us

        other = {"token": "file:/etc/hostname"}
        refused = gateway.admin("PUT", "/connectors/told/secrets", other, token=token, expect=422)
        shown = gateway.admin("GET", "/connectors/told/secrets", token=token)["items"]
    assert tokens == {"Bearer hush-first", "Bearer hush-second"}
    assert "operator has to allow" in refused["detail"]
    assert shown[0]["reference"] == f"file:{folder}/token"
    assert "hush" not in f"{shown}{gateway.said()}"
