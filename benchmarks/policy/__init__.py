"""An hour of queueing in a second: the policies of `claude_proxy.routing` against accounts whose limits are hidden and move."""
