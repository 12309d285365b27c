"""Measures claude-proxy against nginx on one machine in one run: ``python -m benchmarks --help``."""
