"""claude-proxy: a self-hosted proxy for the Anthropic API."""

__version__ = "0.1.0"
