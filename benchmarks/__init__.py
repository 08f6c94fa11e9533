"""Compares the speed of Tallybook with its database engines, measured in the same run: `python -m benchmarks`."""
