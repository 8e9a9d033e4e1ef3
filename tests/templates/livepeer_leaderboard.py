"""The Livepeer leaderboard's read API, by its published source and reference."""

from __future__ import annotations

from aiohttp import web

from tests.templates import mock
from tests.templates.mock import Call, Seen, Stop, reply

SECRETS: dict[str, str] = {}
ORCHESTRATOR = "0x10742714f33f3d804e3fa489618b5c3ca12a6df7"
_PIPELINE = {"id": "text-to-image", "models": ["SG161222/RealVisXL_V4.0"]}

CALLS = [
    Call("list-pipelines", "GET", "/pipelines", holds=b'"pipelines":[{"id":"text-to-image"'),
    Call("aggregated-stats", "GET", "/stats?region=FRA&pipeline=Text+to+image&model=SG161222%2Fx", holds=b'"score"'),
    Call("raw-stats", "GET", f"/stats/raw?orchestrator={ORCHESTRATOR}", holds=b'"round_trip_time"'),
    Call("raw-stats", "GET", "/stats/raw", status=400, holds=b"orchestrator is a required parameter"),
]  # fmt: skip


async def start() -> tuple[str, Stop]:
    """Start the service; return its base URL and what stops it."""
    return await mock.start(_answer)


def _answer(seen: Seen) -> web.Response:
    if seen.method != "GET" or seen.all("Authorization"):
        return web.Response(text="bad request\n", status=400)
    match seen.path:
        case "/api/pipelines":
            return reply({"pipelines": [_PIPELINE]})
        case "/api/aggregated_stats" if seen.params("model") == ["SG161222/x"]:
            score = {"success_rate": 1, "round_trip_score": 0.74, "score": 0.91}
            return reply({ORCHESTRATOR: {seen.params("region")[0]: score}})
        case "/api/raw_stats" if seen.params("orchestrator"):
            result = {"region": "FRA", "success_rate": 1, "round_trip_time": 7.2, "errors": []}
            return reply({"FRA": [result]})
        case "/api/raw_stats":
            return web.Response(text="orchestrator is a required parameter\n", status=400)
    return web.Response(text="404 page not found\n", status=404)
