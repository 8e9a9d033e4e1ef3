"""The README's troubleshooting list: what a caller sees tells the cause."""

from __future__ import annotations

from tests.e2e.process import Gateway


def test_draft_answers_404_and_says_why(demo: Gateway) -> None:
    token = demo.token("demo")
    draft = {"slug": "not-yet", "upstreamBaseUrl": "https://api.example.com"}
    demo.admin("POST", "/connectors", draft, token=token)
    key = demo.admin("POST", "/keys", {"name": "drafts"}, token=token)["key"]

    answer = demo.call("/not-yet/anything", key)

    assert answer.status == 404
    assert answer.json["code"] == "connector_not_found"
    assert "draft" in answer.json["detail"]
    assert "publish" in answer.json["detail"]
