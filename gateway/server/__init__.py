"""Where callers come in: connections, requests read and answers written. Built by `lifecycle`; filters see nothing of it."""
