"""What both sides of the gateway share of HTTP, without I/O: heads, fields, framing, bodies in pieces. Any room may use it."""
