"""The opt-in rewrite of a request's model (`map` of `[[upstream]]`): the only change that the proxy makes to a request body."""

from __future__ import annotations

from claude_proxy.errors import BodyTooLarge, ProxyError, Unavailable
from claude_proxy.exchange import Kind
from claude_proxy.protocol.model_map import remap
from claude_proxy.proxy.call import Call
from claude_proxy.proxy.request import KEEP


def remapped(call: Call) -> bytes | None:
    """Return the body that goes to `call.upstream` in place of the client's; None if the client's goes as it is.

    Raises:
        BodyTooLarge, Unavailable: the model would have to be replaced, but the body is not kept whole.
    """
    exchange, request = call.exchange, call.request
    exchange.model_sent = None
    if request.target.kind not in (Kind.MESSAGES, Kind.COUNT_TOKENS):
        return None
    target = call.upstream.target(exchange.model)
    if target is None:
        return None
    if not call.client.done or request.kept != call.client.size:
        raise _not_whole(call, target)
    body = remap(request.whole(), target)
    exchange.model_sent = target
    return body


def _not_whole(call: Call, target: str) -> ProxyError:
    rule = f'the map of [[upstream]] "{call.upstream.name}" would have to put {target} in place of {call.exchange.model}'
    if call.request.kept >= KEEP:
        return BodyTooLarge(
            f"The request body has more than the {KEEP >> 20} MiB that the proxy keeps, and {rule}, which it can only do in a "
            f"whole body. Send less, or ask for {target} itself.",
            code="map_too_large",
        )
    return Unavailable(f"All memory for request bodies is in use (MAX_KEPT), and {rule} in this one. Try again soon.")
