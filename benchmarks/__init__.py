"""Measurements: one question per module, run from the repository's root as `python -m benchmarks.titles`."""
