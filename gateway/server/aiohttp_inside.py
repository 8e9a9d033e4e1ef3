"""The inside of aiohttp's server: the one door to what it does not document, with the reasons.

aiohttp is pinned to a minor version for this. Each name below is compared with what the modules
beside this one use, and each method that is rebuilt or overridden with its source as it was read.
"""

from __future__ import annotations

from typing import Final

from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import HttpVersion10, HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler

__all__ = [
    "EMPTY_PAYLOAD",
    "FOLLOWED",
    "PRIVATE",
    "TOO_MANY_FIELDS",
    "BadHttpMessage",
    "HttpVersion10",
    "HttpVersion11",
    "LineTooLong",
    "RawRequestMessage",
    "RequestHandler",
    "StreamReader",
]

TOO_MANY_FIELDS: Final = "Too many headers received"
"""What the parser's BadHttpMessage says of more fields than it may take."""

PRIVATE: Final = {
    "_buffer_paused": "reading has paused, as more requests have come than the queue may hold",
    "_cancel": "called on a request whose client is gone",
    "_close": "the connection ends after this request",
    "_current_request": "None between requests; aiohttp cancels it when the client is gone",
    "_drain_helper": "waits until the client has taken what was written",
    "_finish": "called on a request whose answer is complete",
    "_force_close": "the connection has ended, or is to end at once",
    "_handler_waiter": "who shuts down waits here for the request in progress",
    "_keepalive_handle": "the timer that closes a connection without a request",
    "_loop": "the event loop, kept by the protocol and by the server",
    "_messages": "the requests that have come, with their bodies",
    "_msg_queue_resume_size": "reading goes on when the queue is as short as this",
    "_next_keepalive_close_time": "when the timer is to close it, by the loop's clock",
    "_parser": "is told of each message that leaves the queue; None when the client is gone",
    "_process_keepalive": "what the timer calls",
    "_reading_paused": "reading has paused, as a body is not read as fast as it comes",
    "_replace": "a parsed message is a tuple: its copy with another target",
    "_request_in_progress": "who shuts down waits for it",
    "_resume_reading_if_drained": "parses what waits, and reads on",
    "_task": "set on a request, and taken from it",
    "_task_handler": "the connection's task; None where it has ended by itself",
    "_upgraded": "the parser has stopped: what follows is no HTTP",
    "_waiter": "set while the connection waits for its next request",
}
"""Names that begin with an underscore, and what each is to us."""

FOLLOWED: Final = {
    "RequestHandler.start": "Connection.start and _serve do the same in one task",
    "RequestHandler._handle_request": "calls what `_receive` and `_handle` of the server give it",
    "RequestHandler.finish_response": "uses of an answer what Done has",
    "RequestHandler.connection_lost": "uses of a request what Inbound has",
    "RequestHandler.shutdown": "waits for the request in progress by what _serve sets",
    "RequestHandler.data_received": "Connection.data_received looks at what it left",
    "RequestHandler.handle_error": "Connection.handle_error answers in its place",
    "RequestHandler._process_keepalive": "closes by what _serve and data_received set",
    "RequestHandler._resume_reading_if_drained": "Connection.start calls it as start does",
    "BaseProtocol.resume_reading": "Connection.resume_reading leaves it out where nothing paused",
    "BaseProtocol._drain_helper": "Inbound.drain calls it while writing is paused",
}
"""Methods that ours rebuild, override or rely on, and how."""
