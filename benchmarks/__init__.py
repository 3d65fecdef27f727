"""Measurements behind the figures in ``docs/benchmarks.md``; each script runs as ``python -m benchmarks.NAME``."""
