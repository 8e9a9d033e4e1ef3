"""The API that the product was asked for, row by row, against a running gateway and an upstream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.e2e.process import Answer, Gateway, eventually, fetch
from tests.e2e.services import gateway_to_loopback, serving
from tests.templates import daydream

STREAM: Final = {"pipeline": "streamdiffusion", "params": {"prompt": "neon anime"}}


class Seed(NamedTuple):
    """A gateway with a connector from the template, and an admin of its team."""

    gateway: Gateway
    base_url: str
    token: str

    def admin(self, method: str, path: str, content: Any = None) -> Answer:
        """A call of the admin API as the document writes it: a JWT and the team."""
        headers = {"Authorization": f"Bearer {self.token}", "x-team-id": "acme"}
        url = f"{self.gateway.base}/api/v1/gw/admin{path}"
        return fetch(url, method, headers=headers, content=content)

    def made(self, path: str, content: Any) -> Any:
        """What a POST has created."""
        answer = self.admin("POST", path, content)
        assert answer.status == 201, answer.body
        return answer.json

    def connector(self, slug: str, **fields: Any) -> Any:
        """A draft of its own for a row."""
        return self.made("/connectors", {"slug": slug, "upstreamBaseUrl": self.base_url, **fields})

    def slugs(self) -> list[str]:
        """What the list of connectors holds."""
        return [item["slug"] for item in self.admin("GET", "/connectors").json["items"]]


@pytest.fixture(scope="module")
def seed(open_directory: Path) -> Iterator[Seed]:
    with serving(daydream.start) as base_url, gateway_to_loopback(open_directory) as gateway:
        seed = Seed(gateway, base_url, gateway.token("acme"))
        wanted = {
            "templateId": "daydream",
            "upstreamBaseUrl": base_url,
            "secrets": dict(daydream.SECRETS),
            "publish": True,
        }
        assert seed.made("/templates", wanted)["status"] == "published"
        yield seed


def any_call_is_proxied(seed: Seed) -> None:
    key = seed.made("/keys", {"name": "caller", "connectorId": "daydream"})["key"]
    made = seed.gateway.call("/daydream/streams", key, "POST", STREAM)
    assert (made.status, made.json["data"]["params"]) == (201, STREAM["params"])
    for method, content in (("GET", None), ("PATCH", STREAM), ("DELETE", None)):
        path = f"/daydream/streams/{daydream.STREAM}"
        answer = seed.gateway.call(path, key, method, content)
        assert answer.status == 200, (method, answer.body)
        assert answer.headers["X-Request-Id"]


def connectors_are_listed(seed: Seed) -> None:
    answer = seed.admin("GET", "/connectors")
    (found,) = (item for item in answer.json["items"] if item["slug"] == "daydream")
    assert (found["status"], found["upstreamBaseUrl"]) == ("published", seed.base_url)
    assert "sk_daydream" not in answer.body.decode()


def a_connector_is_created(seed: Seed) -> None:
    made = seed.connector("created", displayName="Created")
    assert (made["status"], made["displayName"]) == ("draft", "Created")
    assert seed.admin("POST", "/connectors", {"slug": "created"}).status == 422


def a_connector_is_shown(seed: Seed) -> None:
    made = seed.connector("shown")
    assert seed.admin("GET", f"/connectors/{made['id']}").json["slug"] == "shown"
    assert seed.admin("GET", "/connectors/shown").json["id"] == made["id"]
    assert seed.admin("GET", "/connectors/nothing").status == 404


def a_connector_is_updated(seed: Seed) -> None:
    made = seed.connector("updated")
    body = {"slug": "updated", "upstreamBaseUrl": seed.base_url, "description": "Anew"}
    answer = seed.admin("PUT", f"/connectors/{made['id']}", body)
    assert (answer.status, answer.json["description"]) == (200, "Anew")
    assert answer.json["version"] > made["version"]


def a_connector_is_archived(seed: Seed) -> None:
    made = seed.connector("archived")
    assert seed.admin("DELETE", f"/connectors/{made['id']}").status in {200, 204}
    assert "archived" not in seed.slugs()
    assert seed.admin("GET", f"/connectors/{made['id']}").json["status"] == "archived"


def connectivity_is_tested(seed: Seed) -> None:
    answer = seed.admin("POST", "/connectors/daydream/test", {})
    assert answer.status == 200, answer.body
    assert answer.json["steps"]
    seed.connector("unreachable", upstreamBaseUrl="http://127.0.0.1:1")
    failed = seed.admin("POST", "/connectors/unreachable/test", {})
    assert (failed.status, failed.json["ok"]) == (200, False)


def a_connector_is_published(seed: Seed) -> None:
    seed.connector("published", endpoints=[{"name": "s", "method": "GET", "path": "/streams"}])
    key = seed.made("/keys", {"name": "publishing", "connectorId": "published"})["key"]
    before = seed.gateway.call("/published/streams", key)
    assert (before.status, before.json["code"]) == (404, "connector_not_found")
    assert seed.admin("POST", "/connectors/published/publish").json["status"] == "published"
    # The upstream wants a token, which this connector has not: it was asked, and said so itself.
    eventually(lambda: seed.gateway.call("/published/streams", key).status == 401, seed.gateway)
    after = seed.gateway.call("/published/streams", key)
    assert after.json["code"] == "AUTH/UNAUTHORIZED"


def endpoints_are_listed(seed: Seed) -> None:
    items = seed.admin("GET", "/connectors/daydream/endpoints").json["items"]
    assert {"create-stream", "get-stream"} <= {item["name"] for item in items}


def an_endpoint_is_added(seed: Seed) -> None:
    made = seed.connector("routed")
    path = f"/connectors/{made['id']}/endpoints"
    added = seed.made(path, {"name": "find", "method": "GET", "path": "/find/:place"})
    assert seed.admin("GET", f"{path}/{added['id']}").json["path"] == "/find/:place"
    again = {"name": "again", "method": "GET", "path": "/find/:other"}
    assert seed.admin("POST", path, again).status == 409


def keys_are_listed(seed: Seed) -> None:
    made = seed.made("/keys", {"name": "listed"})
    answer = seed.admin("GET", "/keys")
    assert made["keyPrefix"] in [item["keyPrefix"] for item in answer.json["items"]]
    assert made["key"] not in answer.body.decode()


def a_key_is_created(seed: Seed) -> None:
    connector = seed.admin("GET", "/connectors/daydream").json["id"]
    made = seed.made("/keys", {"name": "my-app", "connectorId": connector})
    assert made["key"].startswith("gw_")
    assert seed.gateway.call("/daydream/streams", made["key"]).status == 200
    assert seed.gateway.call("/daydream/streams", f"{made['key'][:-1]}!").status == 401


def a_key_is_rotated(seed: Seed) -> None:
    made = seed.made("/keys", {"name": "rotated"})
    rotated = seed.admin("POST", f"/keys/{made['id']}/rotate", {"graceSeconds": 600}).json
    for value in (made["key"], rotated["key"]):
        assert seed.gateway.call("/daydream/streams", value).status == 200
    assert seed.admin("POST", f"/keys/{made['id']}/end-grace").status == 200
    eventually(
        lambda: seed.gateway.call("/daydream/streams", made["key"]).status == 401, seed.gateway
    )
    assert seed.gateway.call("/daydream/streams", rotated["key"]).status == 200


def plans_are_listed(seed: Seed) -> None:
    seed.made("/keys", {"name": "first"})
    assert "default" in [item["name"] for item in seed.admin("GET", "/plans").json["items"]]


def a_plan_is_created_and_holds(seed: Seed) -> None:
    plan = seed.made("/plans", {"name": "tight", "rateLimit": 1, "rateWindow": 600})
    key = seed.made("/keys", {"name": "limited", "planId": plan["id"]})["key"]
    assert seed.gateway.call("/daydream/streams", key).status == 200
    refused = seed.gateway.call("/daydream/streams", key)
    assert (refused.status, refused.json["code"]) == (429, "rate_limited")
    assert int(refused.headers["Retry-After"]) > 0


def called(seed: Seed, name: str) -> str:
    """Make one call with a key of its own; answers the key's id."""
    made = seed.made("/keys", {"name": name})
    assert seed.gateway.call("/daydream/streams", made["key"]).status == 200
    return str(made["id"])


def usage_is_summed_up(seed: Seed) -> None:
    before = seed.admin("GET", "/usage/summary").json["totalRequests"]
    called(seed, "summed")
    eventually(
        lambda: seed.admin("GET", "/usage/summary").json["totalRequests"] > before, seed.gateway
    )
    summary = seed.admin("GET", "/usage/summary").json
    assert "daydream" in [item["slug"] for item in summary["topConnectors"]]
    assert summary["latencyMs"]["p50"] > 0


def usage_is_told_over_time(seed: Seed) -> None:
    key = called(seed, "timed")

    def requests() -> int:
        series = seed.admin("GET", f"/usage/timeseries?keyId={key}").json
        assert (series["interval"], len(series["items"])) in {("hour", 24), ("hour", 25)}
        return sum(bucket["requests"] for bucket in series["items"])

    eventually(lambda: requests() == 1, seed.gateway)
    (record,) = seed.admin("GET", f"/usage/records?keyId={key}").json["items"]
    assert (record["connector"], record["status"], record["source"]) == (
        "daydream",
        200,
        "upstream",
    )
    shown = seed.admin("GET", f"/usage/records/{record['requestId']}")
    assert shown.json == record


def health_is_told(seed: Seed) -> None:
    answer = seed.admin("GET", "/health")
    assert answer.status == 200
    assert "daydream" in [item["slug"] for item in answer.json["items"]]


def health_is_checked_now(seed: Seed) -> None:
    made = seed.connector(
        "checked",
        healthCheckPath="/v1/streams",
        endpoints=[{"name": "s", "method": "GET", "path": "/v1/streams"}],
    )
    seed.admin("POST", f"/connectors/{made['id']}/publish")
    answer = seed.admin("POST", "/health/check", {"connector": "checked"})
    assert answer.status == 200, answer.body
    (checked,) = answer.json["items"]
    assert checked["id"] == made["id"]
    assert checked["targets"]


def templates_are_listed(seed: Seed) -> None:
    found = {item["id"] for item in seed.admin("GET", "/templates").json["items"]}
    assert {"ai-llm", "clickhouse", "daydream"} <= found


def a_template_becomes_a_connector(seed: Seed) -> None:
    wanted = {"templateId": "ai-llm", "upstreamBaseUrl": seed.base_url}
    made = seed.made("/templates", wanted)
    assert (made["status"], made["endpointCount"] > 0) == ("draft", True)
    assert seed.admin("POST", "/templates", wanted).status == 409


ROWS: Final[dict[str, Callable[[Seed], None]]] = {
    "ANY /api/v1/gw/:connector/:path": any_call_is_proxied,
    "GET /api/v1/gw/admin/connectors": connectors_are_listed,
    "POST /api/v1/gw/admin/connectors": a_connector_is_created,
    "GET /api/v1/gw/admin/connectors/:id": a_connector_is_shown,
    "PUT /api/v1/gw/admin/connectors/:id": a_connector_is_updated,
    "DELETE /api/v1/gw/admin/connectors/:id": a_connector_is_archived,
    "POST /api/v1/gw/admin/connectors/:id/test": connectivity_is_tested,
    "POST /api/v1/gw/admin/connectors/:id/publish": a_connector_is_published,
    "GET /api/v1/gw/admin/connectors/:id/endpoints": endpoints_are_listed,
    "POST /api/v1/gw/admin/connectors/:id/endpoints": an_endpoint_is_added,
    "GET /api/v1/gw/admin/keys": keys_are_listed,
    "POST /api/v1/gw/admin/keys": a_key_is_created,
    "POST /api/v1/gw/admin/keys/:id/rotate": a_key_is_rotated,
    "GET /api/v1/gw/admin/plans": plans_are_listed,
    "POST /api/v1/gw/admin/plans": a_plan_is_created_and_holds,
    "GET /api/v1/gw/admin/usage/summary": usage_is_summed_up,
    "GET /api/v1/gw/admin/usage/timeseries": usage_is_told_over_time,
    "GET /api/v1/gw/admin/health": health_is_told,
    "POST /api/v1/gw/admin/health/check": health_is_checked_now,
    "GET /api/v1/gw/admin/templates": templates_are_listed,
    "POST /api/v1/gw/admin/templates": a_template_becomes_a_connector,
}


@pytest.mark.parametrize("row", ROWS)
def test_row_does_what_the_document_says(row: str, seed: Seed) -> None:
    ROWS[row](seed)


@pytest.mark.parametrize("row", [row for row in ROWS if not row.startswith("ANY")])
def test_admin_row_needs_a_token(row: str, seed: Seed) -> None:
    method, path = row.split()
    answer = fetch(seed.gateway.base + path.replace(":id", "daydream"), method, content={})

    assert (answer.status, answer.json["code"]) == (401, "unauthenticated")
