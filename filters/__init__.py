"""The stages of the request pipeline, one file each. How to write one:

A filter is a class with three declarations and one method. Put it into a file beside the
configuration, say `audit.py`:

    from dataclasses import dataclass
    from gateway.options import text
    from gateway.problems import Rejected

    @dataclass(frozen=True)
    class Options:
        header: str = text("X-Reason", "The field that must say why a call is made.")

    class Audit:
        options = Options                       # checked before anything listens
        needs = frozenset({"caller"})           # what earlier filters must have given …
        gives = frozenset({"audit.reason"})     # … and what it gives, to be needed by others

        def __init__(self, options, runtime):
            self.header = options.header

        async def __call__(self, exchange, proceed):
            if self.header not in exchange.headers:
                raise Rejected("forbidden", f"Say why in {self.header}.")
            response = await proceed(exchange)  # the rest of the pipeline
            response.headers.append((b"X-Audited", b"yes"))
            return response

and name it in the pipeline: `- audit:Audit: {header: X-Why}`. `needs` and `gives` are words that
`gateway/exchange.py` lists: fields of the exchange, and marks of what was done. A mark of your own has a
dot in it and begins with your package's name; any other word is refused at start. A filter sees every
request from the filters outside it and every answer from those inside. A body is bytes or an async
iterator of bytes: `gateway.http.pieces.Watched` looks at a stream as it passes. Keep nothing about a
request on `self`.
"""
