"""Why a prompt was, or was not, read from the provider's cache: the verdict on one exchange.

`CacheWatch` remembers the hashes of the last prompts of each conversation (session and agent). `compare` sets a request beside
them when it has been sent; `settle` gives the verdict when the answer's usage is known, and remembers the prompt, since only what
an upstream took can be in its cache. Pure: times are passed in.

The verdict follows from the evidence, in this order:

1. nothing like it was sent before: `first`;
2. the earlier prompt is older than its markers' time to live, and the read was a miss: `expired`, which is nobody's fault;
3. the model differs, for each of which providers cache apart, and the read was a miss: `changed` (model);
4. a block that was sent before has changed, gone or moved: `changed`, with the first such block;
5. the prompt goes on from the earlier one, and the read was no miss: `grew`;
6. `thinking` or `tool_choice` differ, under which messages are cached apart: `changed` (settings);
7. none of these: `provider`, which dropped it, or routed the request past it.

A miss is a read of less than half of what could be read: what the earlier prompt had in the cache, at most as much as this prompt
is long. Where the upstream was never seen to cache (no read, no write reported), there is none.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

from claude_proxy.exchange import Usage
from claude_proxy.protocol.blocks import HASH, Prompt

MIN_CACHED = 4096
"""Tokens from which on every Anthropic model caches; below, a prompt may be too short."""
_PER_CONVERSATION = 6  # prompts: the main line, forks of it, and side calls such as titles


class Kind(enum.StrEnum):
    """What happened to the prompt's cache."""

    FIRST = "first"
    GREW = "grew"
    CHANGED = "changed"
    EXPIRED = "expired"
    PROVIDER = "provider"


class Area(enum.StrEnum):
    """Where a change is."""

    TOOLS = "tools"
    SYSTEM = "system"
    MESSAGE = "message"
    MODEL = "model"
    SETTINGS = "settings"


class Verdict(NamedTuple):
    """The verdict on one exchange. Blocks and messages are counted from 0, as the API does in its errors (`messages.3`).

    Attributes:
        area: of a change; None for the other kinds.
        block: the first changed block, counted over tools, system and messages; None if the area is not a place in the prompt.
        message: index in `messages`, for a change in the area MESSAGE.
        lost: tokens of this prompt that were in the cache before and were not read from it now.
    """

    kind: Kind
    area: Area | None = None
    block: int | None = None
    message: int | None = None
    lost: int = 0

    def __str__(self) -> str:
        if self.area is None:
            return self.kind.value
        place = self.area if self.message is None else f"{self.area} {self.message}"
        return f"{self.kind}: {place}" if self.block is None else f"{self.kind} at block {self.block} ({place})"


@dataclass(slots=True)
class _Sent:
    """A prompt that an upstream took.

    Attributes:
        at: when it was sent.
        cached: tokens that were in the cache after it, read or written.
        size: tokens of the whole prompt.
        caches: whether the upstream was ever seen to cache in this conversation.
    """

    prompt: Prompt
    at: float
    cached: int
    size: int
    caches: bool


@dataclass(slots=True)
class Comparison:
    """A request beside what was sent before; made by `compare`, used up by `settle`."""

    key: Hashable
    prompt: Prompt
    at: float
    before: _Sent | None
    same: int  # blocks that are equal from the start


@dataclass(slots=True)
class _Conversation:
    sent: list[_Sent] = field(default_factory=list)  # latest last
    caches: bool = False

    @property
    def size(self) -> int:
        return sum(one.prompt.size for one in self.sent)


class CacheWatch:
    """The last prompts of the conversations that were used last. For one thread.

    Args:
        conversations: how many are remembered.
        max_bytes: of hashes and lengths, over all of them.
    """

    def __init__(self, conversations: int = 512, max_bytes: int = 8 * 1024 * 1024) -> None:
        self._conversations: OrderedDict[Hashable, _Conversation] = OrderedDict()
        self._max = conversations
        self._max_bytes = max_bytes
        self._bytes = 0

    def __len__(self) -> int:
        """How many conversations are remembered."""
        return len(self._conversations)

    @property
    def size(self) -> int:
        """Bytes that are remembered."""
        return self._bytes

    def compare(self, key: Hashable, prompt: Prompt, now: float) -> Comparison:
        """Set a request beside those that were sent before.

        Args:
            key: the conversation: session and agent, as the client names them.
            prompt: the request, cut into blocks.
            now: seconds, of any clock that only goes forward, at which the request was sent.
        """
        conversation = self._conversations.get(key)
        if conversation is None:
            return Comparison(key, prompt, now, None, 0)
        best, same = _closest(conversation.sent, prompt)
        return Comparison(key, prompt, now, best, same)

    def settle(self, compared: Comparison, usage: Usage | None) -> Verdict | None:
        """The verdict, once the answer is there.

        Args:
            compared: from `compare`.
            usage: as the upstream reported it; None if it took nothing (an error, a failure), which is no use of the cache.

        Returns:
            None without usage.
        """
        if usage is None:
            return None
        verdict = _verdict(compared, usage)
        self._remember(compared, usage)
        return verdict

    def _remember(self, compared: Comparison, usage: Usage) -> None:
        conversation = self._conversations.setdefault(compared.key, _Conversation())
        self._conversations.move_to_end(compared.key)
        self._bytes -= conversation.size
        cached = (usage.cache_read or 0) + (usage.cache_write or 0)
        conversation.caches = conversation.caches or cached > 0
        # The same prompt again takes the place of the earlier one.
        kept = [one for one in conversation.sent if one.prompt.hashes != compared.prompt.hashes]
        kept.append(_Sent(compared.prompt, compared.at, cached, _size(usage), conversation.caches))
        conversation.sent = kept[-_PER_CONVERSATION:]
        self._bytes += conversation.size
        while len(self._conversations) > self._max or (self._bytes > self._max_bytes and len(self._conversations) > 1):
            _, dropped = self._conversations.popitem(last=False)
            self._bytes -= dropped.size


def _size(usage: Usage) -> int:
    return (usage.input or 0) + (usage.cache_read or 0) + (usage.cache_write or 0)


def _closest(sent: list[_Sent], prompt: Prompt) -> tuple[_Sent | None, int]:
    """The earlier prompt that this one goes on from, and how many blocks they share from the start.

    A session's main line, its forks and side calls come in turns. The one with the longest common start is meant; among
    equals the one that shares most blocks anywhere, then one that ends there, then the latest.
    """
    same = [common(one.prompt.hashes, prompt.hashes) for one in sent]
    longest = max(same, default=0)
    found = [one for one, count in zip(sent, same, strict=True) if count == longest]
    if len(found) > 1:
        blocks = _set(prompt.hashes)
        found.sort(key=lambda one: (len(blocks & _set(one.prompt.hashes)), len(one.prompt) == longest, one.at))
    if not found or not _related(found[-1].prompt, prompt, longest):
        return None, 0
    return found[-1], longest


def _related(before: Prompt, prompt: Prompt, same: int) -> bool:
    """Whether one prompt can be an edit of the other, given how many blocks they share from the start.

    Titles, summaries and the like are sent under the id of the session they are about. They share the client's identity with its
    main line and with one another, and no more. A compacted history, on the other hand, shares everything but the messages.
    """
    head = prompt.tools + prompt.system
    if same == min(len(before), len(prompt)) > 0 or same >= head == before.tools + before.system > 0:
        return True
    blocks, others = _set(before.hashes), _set(prompt.hashes)
    twice, smaller = 2 * len(blocks & others), min(len(blocks), len(others))
    if twice != smaller:
        return twice > smaller
    return not _set(before.messages).isdisjoint(_set(prompt.messages))


def _set(hashes: bytes) -> set[bytes]:
    return {hashes[at : at + HASH] for at in range(0, len(hashes), HASH)}


def common(one: bytes, other: bytes) -> int:
    """How many blocks two lists of hashes share from the start."""
    low, high = 0, min(len(one), len(other)) // HASH
    if one[: high * HASH] == other[: high * HASH]:
        return high
    while low < high - 1:  # the first `low` are equal, the first `high` are not
        middle = (low + high) // 2
        if one[low * HASH : middle * HASH] == other[low * HASH : middle * HASH]:
            low = middle
        else:
            high = middle
    return low


def _verdict(compared: Comparison, usage: Usage) -> Verdict:
    before, prompt = compared.before, compared.prompt
    if before is None:
        return Verdict(Kind.FIRST)
    read = usage.cache_read or 0
    on_offer = _on_offer(before, usage)
    missed = 2 * read < on_offer
    lost = max(0, on_offer - read)
    intact = compared.same == min(len(before.prompt), len(prompt))
    if compared.at - before.at > before.prompt.ttl and (missed or (not read and before.prompt.marked)):
        return Verdict(Kind.EXPIRED, lost=lost)
    if not intact:
        lost = max(0, min(on_offer, _carried(compared, before, usage)) - read)
    if missed and before.prompt.model != prompt.model:
        return Verdict(Kind.CHANGED, Area.MODEL, lost=lost)
    if not intact:
        return _changed(compared, before, lost)
    if not missed:
        return Verdict(Kind.GREW)
    if before.prompt.settings != prompt.settings:
        return Verdict(Kind.CHANGED, Area.SETTINGS, lost=lost)
    return Verdict(Kind.PROVIDER, lost=lost)


def _on_offer(before: _Sent, usage: Usage) -> int:
    """Tokens that could be read: what the earlier prompt had left in the cache, at most this prompt's size.

    Where it neither read nor wrote and the upstream is known to cache, that was all of it: providers that cache by themselves
    report no writes, and a miss no reads.
    """
    cached = before.cached
    if not cached and before.caches and before.prompt.marked and before.size >= MIN_CACHED:
        cached = before.size
    return min(cached, _size(usage))


def _carried(compared: Comparison, before: _Sent, usage: Usage) -> int:
    """Tokens of this prompt in blocks that were sent before, wherever they stood; an estimate from their bytes."""
    known = _set(before.prompt.hashes)
    hashes, lengths = compared.prompt.hashes, compared.prompt.lengths
    carried = sum(length for at, length in enumerate(lengths) if hashes[at * HASH : at * HASH + HASH] in known)
    return _size(usage) * carried // sum(lengths)


def _changed(compared: Comparison, before: _Sent, lost: int) -> Verdict:
    prompt, block = compared.prompt, compared.same
    if block < max(prompt.tools, before.prompt.tools):
        return Verdict(Kind.CHANGED, Area.TOOLS, block, None, lost)
    if block < max(prompt.tools + prompt.system, before.prompt.tools + before.prompt.system):
        return Verdict(Kind.CHANGED, Area.SYSTEM, block, None, lost)
    return Verdict(Kind.CHANGED, Area.MESSAGE, block, prompt.message_of(block), lost)
