"""Benchmarks: us and a named peer on the same work in one process, with the ratio."""
