"""How fast Tallybook is, as ratios to raw SQLite in one run: `python -m benchmarks`."""
