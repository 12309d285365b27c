"""The path of a request: read `forward.py` from top to bottom."""
