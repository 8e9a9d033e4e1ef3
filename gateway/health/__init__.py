"""Whether upstreams are well, found out by asking them: one check, and who makes which check when. Run by `lifecycle`."""
