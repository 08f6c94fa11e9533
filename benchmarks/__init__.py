"""How fast Tallybook is, as ratios to the engines under it in one run: `python -m benchmarks`."""
