"""The old name of `claude_proxy.protocol.judge`, until every caller has moved."""

from claude_proxy.protocol.judge import MAX_MESSAGE, code_of, judge, retry_hint, text_of

__all__ = ["MAX_MESSAGE", "code_of", "judge", "retry_hint", "text_of"]
