"""Tests of connections: one request through the real transport, told step by step."""
