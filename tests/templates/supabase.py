"""The APIs of a Supabase project by their reference; its keys are no JWTs and go into `apikey`."""

from __future__ import annotations

from aiohttp import web

from tests.templates import mock
from tests.templates.mock import JSON, Call, Operation, Seen, Stop, delete, get, reply, send, table

SECRETS = {"token": "sb_secret_upstream"}
VARIABLES = {"project": "abcdefghijklmnopqrst"}
PICTURE = b"\x89PNG\r\n\x1a\n\x00"
_PNG = {"Content-Type": "image/png"}
_OBJECT = "/storage/v1/object/avatars/team/a%20b.png"
_READ = "/storage/v1/object/authenticated/avatars/team/a%20b.png"
_BACK = {**JSON, "Prefer": "return=representation"}
_ROW = b'{"name":"Ada"}'

CALLS = [
    get("select-rows", "/rest/v1/users?select=id,name&age=gte.18&order=id.desc", b'"name":"Ada"'),
    get("select-rows", "/rest/v1/nowhere", b"PGRST205", 404),
    Call("insert-rows", "POST", "/rest/v1/users", _BACK, _ROW, 201, b'"name":"Ada"'),
    Call("insert-rows", "POST", "/rest/v1/users", JSON, _ROW, 201),
    send("update-rows", "/rest/v1/users?id=eq.1", {"name": "B"}, b"", 204, "PATCH"),
    delete("delete-rows", "/rest/v1/users?id=eq.1", b"", 204),
    send("call-function", "/rest/v1/rpc/add_them", {"a": 1, "b": 2}, b"3"),
    send("invoke-function", "/functions/v1/hello", {"name": "Ada"}, b"Hello Ada"),
    get("list-buckets", "/storage/v1/bucket", b'"avatars"'),
    send("list-objects", "/storage/v1/object/list/avatars", {"prefix": ""}, b"a b.png"),
    Call("upload-object", "POST", _OBJECT, _PNG, PICTURE, 200, b'"Key"'),
    Call("replace-object", "PUT", _OBJECT, _PNG, PICTURE, 200, b'"Key"'),
    get("download-object", _READ, PICTURE),
    delete("delete-object", _OBJECT, b"Successfully deleted"),
]


async def start() -> tuple[str, Stop]:
    """Start the service; return its base URL and what stops it."""
    return await mock.start(table(_OPERATIONS, _allows, _fault))


def _allows(seen: Seen) -> bool:
    return seen.all("apikey") == [SECRETS["token"]] and not seen.all("Authorization")


def _insert(seen: Seen) -> web.Response:
    if seen.all("Prefer") == ["return=representation"]:
        return reply([{"id": 1, **seen.said()}], 201)
    return web.Response(status=201)


def _filtered(seen: Seen) -> web.Response:
    return web.Response(status=204 if seen.params("id") == ["eq.1"] else 400)


def _hello(seen: Seen) -> web.Response:
    return reply({"message": f"Hello {seen.said()['name']}"})


def _store(seen: Seen) -> web.Response:
    if seen.body != PICTURE:
        return _fault(400, "the object is broken")
    return reply({"Id": "1", "Key": "avatars/team/a b.png"})


def _picture(seen: Seen) -> web.Response:
    return web.Response(body=PICTURE, content_type="image/png")


def _fault(status: int, message: str) -> web.Response:
    code = "PGRST205" if status == 404 else "PGRST000"
    return reply({"code": code, "message": message, "hint": None}, status)


_KIND = "application/json"
_OPERATIONS = [
    Operation("GET", "/rest/v1/users", [{"id": 1, "name": "Ada"}]),
    Operation("POST", "/rest/v1/users", _insert, _KIND, ("name",)),
    Operation("PATCH", "/rest/v1/users", _filtered, _KIND),
    Operation("DELETE", "/rest/v1/users", _filtered),
    Operation("POST", "/rest/v1/rpc/add_them", 3, _KIND, ("a", "b")),
    Operation("POST", "/functions/v1/hello", _hello, _KIND),
    Operation("GET", "/storage/v1/bucket", [{"id": "avatars", "public": False}]),
    Operation("POST", "/storage/v1/object/list/avatars", [{"name": "a b.png"}], _KIND, ("prefix",)),
    Operation("POST", _OBJECT, _store, "image/png"),
    Operation("PUT", _OBJECT, _store, "image/png"),
    Operation("GET", _READ, _picture),
    Operation("DELETE", _OBJECT, {"message": "Successfully deleted"}),
]
