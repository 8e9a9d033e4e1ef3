"""JSON Schemas of answers that are made by hand: a test, an explanation, a difference, a template."""

from __future__ import annotations

from typing import Any, Final

Shape = dict[str, Any]

TEXT: Final[Shape] = {"type": "string"}
NUMBER: Final[Shape] = {"type": "number"}
COUNT: Final[Shape] = {"type": "integer"}
SWITCH: Final[Shape] = {"type": "boolean"}
ANYTHING: Final[Shape] = {"description": "Whatever it is."}
OBJECT: Final[Shape] = {"type": "object"}


def record(about: str = "", may: tuple[str, ...] = (), **members: Shape) -> Shape:
    """An object that has these members; those in `may` can be missing."""
    made: Shape = {
        "type": "object",
        "required": [name for name in members if name not in may],
        "properties": members,
    }
    return {**made, "description": about} if about else made


def several(of: Shape, about: str = "") -> Shape:
    """A list."""
    return {"type": "array", "items": of, **({"description": about} if about else {})}


def perhaps(of: Shape) -> Shape:
    """This, or null."""
    return (
        {"anyOf": [of, {"type": "null"}]}
        if "properties" in of
        else {**of, "type": [of["type"], "null"]}
    )


HEADERS: Final = several(several(TEXT), "Names and values, secrets masked.")

TRIAL: Final = record(
    "What became of the request: each step, up to the first that failed.",
    ok=SWITCH,
    durationMs=NUMBER,
    steps=several(record(name=TEXT, ok=SWITCH, durationMs=NUMBER, detail=TEXT)),
    request=perhaps(record("What is sent upstream.", method=TEXT, url=TEXT, headers=ANYTHING)),
    answer=perhaps(OBJECT),
)

EXPLANATION: Final = record(
    "What the pipeline says of the request, filter by filter.",
    outcome=TEXT,
    status=perhaps(COUNT),
    problem=perhaps(record(code=TEXT, status=COUNT, detail=TEXT, errors=several(OBJECT))),
    filters=several(record(name=TEXT, verdict=TEXT, detail=ANYTHING, code=perhaps(TEXT))),
    caller=OBJECT,
    connector=perhaps(record(id=TEXT, slug=TEXT)),
    endpoint=perhaps(record(id=TEXT, name=TEXT, params=OBJECT)),
    endpoints=several(
        record(id=TEXT, name=TEXT, method=TEXT, path=TEXT, matched=SWITCH, why=TEXT),
        "Every endpoint, the nearest first, and why it is the one or is not.",
    ),
    limits=several(OBJECT, "Those in force, where each comes from, and how it stands."),
    bounds=several(record(name=TEXT, value=COUNT, source=TEXT)),
    upstream=perhaps(
        record(
            "The upstream's request, secrets masked.",
            method=TEXT,
            url=TEXT,
            origins=several(TEXT),
            headers=ANYTHING,
            body=perhaps(TEXT),
            bodyIsCallers=SWITCH,
        )
    ),
)

DIFFERENCE: Final = record(
    "What is not the same: each place with its value before and after.",
    version=COUNT,
    against={"type": ["integer", "string"]},
    items=several(
        record(
            op={"type": "string", "enum": ["add", "remove", "replace"]},
            pointer=TEXT,
            before=ANYTHING,
            after=ANYTHING,
        )
    ),
)

TEMPLATE: Final = record(
    "A template: the connector and endpoints that it makes, and what it leaves to be said.",
    may=("category", "icon", "documentationUrl"),
    id=TEXT,
    name=TEXT,
    description=TEXT,
    category=TEXT,
    icon=TEXT,
    documentationUrl=TEXT,
    connector=OBJECT,
    endpoints=several(OBJECT),
    variables=several(OBJECT),
    secrets=several(OBJECT),
)

TEMPLATE_IN_SHORT: Final = record(
    "A template without its connector and endpoints.",
    id=TEXT,
    name=TEXT,
    description=TEXT,
    category=perhaps(TEXT),
    icon=perhaps(TEXT),
    documentationUrl=perhaps(TEXT),
    slug=TEXT,
    authType=TEXT,
    upstreamBaseUrl=perhaps(TEXT),
    variables=several(OBJECT),
    secrets=several(OBJECT),
    endpointCount=COUNT,
)

OPENAPI: Final = record(
    "An OpenAPI 3.1 document.",
    may=("externalDocs",),
    openapi=TEXT,
    info=OBJECT,
    servers=several(OBJECT),
    security=several(OBJECT),
    paths=OBJECT,
    components=OBJECT,
    externalDocs=OBJECT,
)
