"""Versions where callers see them: what is edited, published and rolled back; tests and explanations."""

from __future__ import annotations

from collections.abc import Callable

from tests.e2e.process import Gateway, eventually

Make = Callable[..., Gateway]


def test_callers_get_what_is_published_and_what_is_rolled_back(make_gateway: Make) -> None:
    gateway = make_gateway()
    gateway.start("--demo")
    gateway.wait_for("-H 'Authorization: Bearer gw_")
    key, token = (gateway.data / "demo.key").read_text().strip(), gateway.token("demo")

    def status(path: str) -> int:
        return gateway.call(path, key).status

    first = gateway.admin("GET", "/connectors/demo", token=token)["publishedVersion"]
    listed = gateway.admin("GET", "/connectors/demo/endpoints?limit=100", token=token)["items"]
    (json,) = [entry for entry in listed if (entry["method"], entry["path"]) == ("GET", "/json")]
    moved = {"path": "/moved", "upstreamPath": "/json"}
    gateway.admin("PATCH", f"/connectors/demo/endpoints/{json['id']}", moved, token=token)
    edited = gateway.admin("GET", "/connectors/demo", token=token)

    assert edited["hasUnpublishedChanges"] is True
    assert (status("/demo/json"), status("/demo/moved")) == (200, 404)
    gateway.admin("POST", "/connectors/demo/publish", {"note": "moved"}, token=token)
    eventually(lambda: (status("/demo/json"), status("/demo/moved")) == (404, 200), gateway)
    gateway.admin("POST", "/connectors/demo/rollback", {"version": first}, token=token)
    eventually(lambda: (status("/demo/json"), status("/demo/moved")) == (200, 404), gateway)
    versions = gateway.admin("GET", "/connectors/demo/versions", token=token)["items"]
    assert [(one["restored"], one["note"]) for one in versions] == [
        (first, ""), (None, "moved"), (None, ""),
    ]  # fmt: skip


def test_connection_is_tested_and_a_request_explained(demo: Gateway) -> None:
    token = demo.token("demo")
    tested = demo.admin("POST", "/connectors/demo/test", token=token)
    assert tested["steps"][-1]["name"] == "answer", tested
    body = {"connector": "demo", "path": "/json", "caller": {"user": "uma"}}
    explained = demo.admin("POST", "/explain", body, token=token)

    assert explained["outcome"] == "forwarded", explained
    assert explained["upstream"]["url"].endswith("/json")
    assert {one["verdict"] for one in explained["filters"]} == {"passed", "skipped"}
