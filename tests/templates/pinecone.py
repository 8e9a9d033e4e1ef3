"""The data plane of a Pinecone index by its reference, version 2026-07."""

from __future__ import annotations

from aiohttp import web

from tests.templates import mock
from tests.templates.mock import Call, Operation, Seen, Stop, delete, get, reply, send, table

SECRETS = {"token": "pcsk_upstream"}
VARIABLES = {"indexHost": "docs-a1b2c3d.svc.aped-4627-b74a.pinecone.io"}
_LINES = {"Content-Type": "application/x-ndjson"}
_RECORDS = b'{"_id":"a","text":"one"}\n{"_id":"b","text":"two"}\n'
_VECTORS = {"namespace": "docs", "vectors": [{"id": "a", "values": [0.1, 0.2]}]}
_ASK = {"query": {"inputs": {"text": "one"}, "top_k": 3}}
_IDS = "ids=a&ids=b&namespace=docs"

CALLS = [
    send("upsert-vectors", "/vectors/upsert", _VECTORS, b'"upsertedCount":1'),
    send("upsert-vectors", "/vectors/upsert", {"namespace": "docs"}, b'"code":3', 400),
    send("query-vectors", "/query", {"vector": [0.1, 0.2], "topK": 3}, b'"score":0.9'),
    get("fetch-vectors", f"/vectors/fetch?{_IDS}", b'"vectors":{"a"'),
    get("list-vectors", "/vectors/list?prefix=a&namespace=docs", b'"vectors":[{"id":"a"}]'),
    send("update-vector", "/vectors/update", {"id": "a", "setMetadata": {"x": 1}}, b"{}"),
    send("delete-vectors", "/vectors/delete", {"ids": ["a"], "namespace": "docs"}, b"{}"),
    send("describe-index-stats", "/describe_index_stats", {}, b'"totalVectorCount"'),
    get("list-namespaces", "/namespaces", b'"name":"docs"'),
    delete("delete-namespace", "/namespaces/docs", b"{}"),
    delete("delete-namespace", "/namespaces/none", b'"code":5', 404),
    Call("upsert-records", "POST", "/records/namespaces/docs/upsert", _LINES, _RECORDS, status=201),
    send("search-records", "/records/namespaces/docs/search", _ASK, b'"_score"'),
]


async def start() -> tuple[str, Stop]:
    """Start the service; return its base URL and what stops it."""
    return await mock.start(table(_OPERATIONS, _allows, _fault))


def _allows(seen: Seen) -> bool:
    """The key in its own field alone, and the version that is meant."""
    key, version = seen.all("Api-Key"), seen.all("X-Pinecone-API-Version")
    is_right = (key, version) == ([SECRETS["token"]], ["2026-07"])
    return is_right and not seen.all("Authorization")


def _fetch(seen: Seen) -> web.Response:
    return reply({"vectors": {name: {"id": name} for name in seen.params("ids")}})


def _records(seen: Seen) -> web.Response:
    return web.Response(status=201) if seen.body == _RECORDS else _fault(400, "broken lines")


def _fault(status: int, message: str) -> web.Response:
    if status == 401:
        return web.Response(text="Unauthorized", status=401)
    return reply({"code": 5 if status == 404 else 3, "message": message, "details": []}, status)


_KIND = "application/json"
_STATS = {"dimension": 2, "namespaces": {"docs": {"vectorCount": 1}}, "totalVectorCount": 1}
_HIT = {"_id": "a", "_score": 0.9, "fields": {"text": "one"}}
_OPERATIONS = [
    Operation("POST", "/vectors/upsert", {"upsertedCount": 1}, _KIND, ("vectors",)),
    Operation("POST", "/query", {"matches": [{"id": "a", "score": 0.9}]}, _KIND, ("topK",)),
    Operation("GET", "/vectors/fetch", _fetch),
    Operation("GET", "/vectors/list", {"vectors": [{"id": "a"}], "namespace": "docs"}),
    Operation("POST", "/vectors/update", {}, _KIND, ("id",)),
    Operation("POST", "/vectors/delete", {}, _KIND),
    Operation("POST", "/describe_index_stats", _STATS, _KIND),
    Operation("GET", "/namespaces", {"namespaces": [{"name": "docs", "record_count": "1"}]}),
    Operation("DELETE", "/namespaces/docs", {}),
    Operation("POST", "/records/namespaces/docs/upsert", _records, _LINES["Content-Type"]),
    Operation(
        "POST", "/records/namespaces/docs/search", {"result": {"hits": [_HIT]}}, _KIND, ("query",)
    ),
]
