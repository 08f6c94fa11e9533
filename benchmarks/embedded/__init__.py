"""Benchmarks of the embedded library. Each is a function that takes a Bench and yields measurements."""
