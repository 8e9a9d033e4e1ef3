"""What `serve --demo` adds: a local upstream, and a connector, a plan and a key for it. Used by `lifecycle`."""
