"""The way out: connections to upstreams, and which target is tried, how often and how long. Used through `attempts`."""
