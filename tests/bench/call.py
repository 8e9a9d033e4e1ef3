"""The one call that every proxy gets: a chat completion of 70 bytes, answered with 287 bytes."""

from __future__ import annotations

import http.client
from dataclasses import dataclass, field, replace

PATH = "/v1/chat/completions"
SECRET = "sk-bench-0123456789abcdef0123456789abcdef"
BODY = b'{"model":"bench","messages":[{"role":"user","content":"Hello there"}]}'
ANSWER = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"bench",'
    b'"choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"Hello! What are we going to measure now?"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}'
)


@dataclass(frozen=True)
class Call:
    """Where the load goes, and the headers it carries."""

    port: int
    path: str = PATH
    headers: dict[str, str] = field(default_factory=lambda: bearer(SECRET))

    def with_key(self, key: str) -> Call:
        """The same call by another caller."""
        return replace(self, headers=self.headers | bearer(key))

    def send(self) -> tuple[int, bytes]:
        """Make the call once; gives the status and the body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            sent = {"Content-Type": "application/json", **self.headers}
            connection.request("POST", self.path, BODY, sent)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def bearer(token: str) -> dict[str, str]:
    """The header that carries a key or a secret."""
    return {"Authorization": f"Bearer {token}"}
