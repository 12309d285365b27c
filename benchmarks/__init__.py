"""Compares claude-proxy with nginx on one machine in one run: ``python -m benchmarks --help``."""
