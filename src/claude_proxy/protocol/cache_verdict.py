"""Determines why a prompt was, or was not, read from the provider's cache.

`CacheWatch` remembers the hashes of the last prompts of each conversation (session and agent). `compare` compares a request with
them once it has been sent. `settle` returns the verdict once the answer's usage is known, and remembers the prompt; a prompt that
the upstream rejected is not remembered, because it cannot be cached. Pure: times are passed in.

The first of these that applies is the verdict:

1. no similar prompt was sent before: `first`;
2. the earlier prompt is older than the time to live of its markers, and this was a miss: `expired`, which is nobody's fault;
3. the model differs, and this was a miss: `changed` (model), because providers cache per model;
4. a block of the earlier prompt was changed, removed or moved: `changed`, with the first such block;
5. the prompt continues the earlier one, and this was not a miss: `grew`;
6. `thinking` or `tool_choice` differ: `changed` (settings), because messages are cached separately for each combination;
7. otherwise `provider`: it evicted the prompt, or routed the request to a machine without it.

A miss is a read of less than half of the tokens that could be read, which are those that the earlier prompt left in the cache, at
most the size of this prompt. If the upstream never reported a cache read or write, there are no misses.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

from claude_proxy.exchange import CacheVerdict, Usage
from claude_proxy.protocol.blocks import HASH, Prompt

MIN_CACHED = 4096
"""Tokens of a prompt that is long enough for every Anthropic model to cache it."""
_PER_CONVERSATION = 6  # prompts: the main thread, its forks, and side requests such as titles


@dataclass(slots=True)
class _Sent:
    """A prompt that an upstream accepted.

    Attributes:
        at: when it was sent.
        cached: tokens that were in the cache afterwards, read or written.
        size: tokens of the whole prompt.
        caches: whether the upstream has reported any caching in this conversation.
    """

    prompt: Prompt
    at: float
    cached: int
    size: int
    caches: bool


@dataclass(slots=True)
class Comparison:
    """A request and the earlier prompt that it continues; returned by `compare`, to be passed to `settle` once."""

    key: Hashable
    prompt: Prompt
    at: float
    before: _Sent | None
    same: int  # number of equal blocks at the start


@dataclass(slots=True)
class _Conversation:
    sent: list[_Sent] = field(default_factory=list)  # latest last
    caches: bool = False

    @property
    def size(self) -> int:
        return sum(one.prompt.size for one in self.sent)


class CacheWatch:
    """Remembers the last prompts of the most recently used conversations. Not thread-safe.

    Args:
        conversations: how many are remembered.
        max_bytes: limit of all hashes and lengths together.
    """

    def __init__(self, conversations: int = 512, max_bytes: int = 8 * 1024 * 1024) -> None:
        self._conversations: OrderedDict[Hashable, _Conversation] = OrderedDict()
        self._max = conversations
        self._max_bytes = max_bytes
        self._bytes = 0

    def __len__(self) -> int:
        """Number of conversations that are remembered."""
        return len(self._conversations)

    @property
    def size(self) -> int:
        """Bytes of all hashes and lengths."""
        return self._bytes

    def compare(self, key: Hashable, prompt: Prompt, now: float) -> Comparison:
        """Compare a request with those that were sent before.

        Args:
            key: identifies the conversation, by the session and agent that the client names.
            prompt: the request, divided into blocks.
            now: monotonic seconds at which the request was sent.
        """
        conversation = self._conversations.get(key)
        if conversation is None:
            return Comparison(key, prompt, now, None, 0)
        best, same = _closest(conversation.sent, prompt)
        return Comparison(key, prompt, now, best, same)

    def settle(self, compared: Comparison, usage: Usage | None) -> CacheVerdict | None:
        """Return the verdict, once the answer's usage is known.

        Args:
            compared: returned by `compare`.
            usage: as the upstream reported it; None if it did not accept the prompt, which then says nothing about the cache.

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
        # A prompt that was sent again replaces the earlier one.
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
    """Return the earlier prompt that this one continues, and the number of blocks at the start that they share.

    Requests of a session's main thread, its forks and its side requests alternate. The prompt with the longest common start is
    chosen; of several, the one that shares the most blocks anywhere, then one that ends with the common part, then the latest.
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
    """Whether one prompt can be an edited version of the other.

    Requests for titles, summaries and so on carry the id of the session that they are about, but have nothing in common with its
    main thread, or with one another, except the client's identity. A compacted history, in contrast, changes only the messages.

    Args:
        same: the number of blocks at the start that both share.
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
    """Return how many hashes at the start of two lists are equal."""
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


def _verdict(compared: Comparison, usage: Usage) -> CacheVerdict:
    before, prompt = compared.before, compared.prompt
    if before is None:
        return CacheVerdict("first")
    read = usage.cache_read or 0
    on_offer = _on_offer(before, usage)
    missed = 2 * read < on_offer
    lost = max(0, on_offer - read)
    intact = compared.same == min(len(before.prompt), len(prompt))
    if compared.at - before.at > before.prompt.ttl and (missed or (not read and before.prompt.marked)):
        return CacheVerdict("expired", lost=lost)
    if not intact:
        lost = max(0, min(on_offer, _carried(compared, before, usage)) - read)
    if missed and before.prompt.model != prompt.model:
        return CacheVerdict("changed", "model", lost=lost)
    if not intact:
        return _changed(compared, before, lost)
    if not missed:
        return CacheVerdict("grew")
    if before.prompt.settings != prompt.settings:
        return CacheVerdict("changed", "settings", lost=lost)
    return CacheVerdict("provider", lost=lost)


def _on_offer(before: _Sent, usage: Usage) -> int:
    """Return the tokens that could be read: those that the earlier prompt left in the cache, at most this prompt's size.

    If neither reads nor writes were reported for the earlier prompt, but the upstream does cache, the whole prompt counts as
    cached: providers that cache automatically do not report writes, and after a miss there are no reads to report.
    """
    cached = before.cached
    if not cached and before.caches and before.prompt.marked and before.size >= MIN_CACHED:
        cached = before.size
    return min(cached, _size(usage))


def _carried(compared: Comparison, before: _Sent, usage: Usage) -> int:
    """Estimate, from the bytes, how many tokens of this prompt are in blocks that the earlier prompt has too, at any position."""
    known = _set(before.prompt.hashes)
    hashes, lengths = compared.prompt.hashes, compared.prompt.lengths
    carried = sum(length for at, length in enumerate(lengths) if hashes[at * HASH : at * HASH + HASH] in known)
    return _size(usage) * carried // sum(lengths)


def _changed(compared: Comparison, before: _Sent, lost: int) -> CacheVerdict:
    prompt, block = compared.prompt, compared.same
    if block < max(prompt.tools, before.prompt.tools):
        return CacheVerdict("changed", "tools", block, None, lost)
    if block < max(prompt.tools + prompt.system, before.prompt.tools + before.prompt.system):
        return CacheVerdict("changed", "system", block, None, lost)
    return CacheVerdict("changed", "message", block, prompt.message_of(block), lost)
