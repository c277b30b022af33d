"""Measurements of what the engine costs. Run from the checkout: `python -m benchmarks.costs --help`."""
