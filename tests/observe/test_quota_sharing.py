"""The quota among several workers: one of them asks the provider, all of them know the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from claude_proxy.exchange import Header
from claude_proxy.observe.quota import QuotaPoll
from claude_proxy.observe.quota_sharing import QuotaSharing, Wish
from claude_proxy.observe.siblings import Siblings
from tests.observe.folders import short_folder
from tests.observe.running import finished
from tests.observe.test_quota import HELD, Kept, Provider, provider, settled, watched_at

__all__ = ["provider"]  # a fixture


class Together:
    """Workers of one server; the first leads until `leader` says otherwise."""

    def __init__(self, folder: Path, provider: Provider, credential: Header | None, count: int, interval: float) -> None:
        self.leader: int | None = 0
        self.siblings = [Siblings(folder, group=lambda: "group", name=str(number), patience=20) for number in range(count)]
        self.kept = [Kept() for _ in range(count)]
        self.watched = [watched_at(provider, credential) for _ in range(count)]
        self.polls = [
            QuotaPoll(
                [self.watched[number]], self.kept[number], interval=interval, wall=lambda: 1_790_000_000.0,
                sharing=QuotaSharing(self.siblings[number], self._leads(number)),
            )
            for number in range(count)
        ]  # fmt: skip

    def _leads(self, number: int) -> Callable[[], bool]:
        return lambda: self.leader == number

    async def good(self, number: int, secret: bytes | None = None) -> None:
        """A good exchange in one worker, and all that follows."""
        if secret is None:
            self.polls[number].on_exchange_end(finished())
        else:
            self.polls[number].shown(finished(account=f"client-{secret.decode()}"), [(b"x-api-key", secret)])
        for poll in (self.polls[number], *self.polls):
            await settled(poll)


@asynccontextmanager
async def together(
    provider: Provider, credential: Header | None = HELD, *, count: int = 3, interval: float = 60.0
) -> AsyncIterator[Together]:
    with short_folder() as folder:
        found = Together(folder, provider, credential, count, interval)
        for siblings in found.siblings:
            await siblings.start()
        try:
            yield found
        finally:
            for poll, siblings, watched in zip(found.polls, found.siblings, found.watched, strict=True):
                await poll.aclose()
                await siblings.aclose()
                watched.pool.close()


@pytest.mark.parametrize("secret", [None, b"sk-client"], ids=["held", "the client's"])
async def test_of_several_workers_only_the_leader_asks_and_all_know_the_answer(provider: Provider, secret: bytes | None) -> None:
    async with together(provider, HELD if secret is None else None) as them:
        for number in (2, 1, 0, 1, 2):
            await them.good(number, secret)
        assert len(provider.requests) == 1
        assert (b"sk-held" if secret is None else b"sk-client") in provider.requests[0]
        assert [len(kept) for kept in them.kept] == [1, 0, 0]
        known = [[(window.account, window.name) for window in poll.windows()] for poll in them.polls]
        assert known == [[("default" if secret is None else "client-sk-client", "5h")]] * 3


async def test_without_a_leader_nobody_asks_and_the_next_exchange_tries_again(provider: Provider) -> None:
    async with together(provider) as them:
        them.leader = None
        await them.good(1)
        assert provider.requests == []
        them.leader = 2
        await them.good(1)
        assert [len(kept) for kept in them.kept] == [0, 0, 1]


async def test_a_worker_that_comes_later_learns_what_is_known_with_its_first_exchange(provider: Provider) -> None:
    async with together(provider) as them:
        await them.good(0)
        them.watched[1].latest, them.watched[1].asked_at = None, float("-inf")  # as in a new process
        await them.good(1)
        assert len(provider.requests) == 1
        assert [window.name for window in them.polls[1].windows()] == ["5h"]


async def test_keys_that_take_turns_in_several_workers_have_no_one_plan_either(provider: Provider) -> None:
    async with together(provider, None, interval=0.0) as them:
        for number, secret in ((0, b"one"), (1, b"two"), (2, b"one")):
            await them.good(number, secret)
        assert len(provider.requests) == 2
        assert [them.watched[number].mixed for number in (0, 2)] == [True, True]


async def test_a_new_key_of_the_clients_brings_its_own_plan_to_all(provider: Provider) -> None:
    async with together(provider, None, interval=0.0) as them:
        await them.good(1, b"old")
        await them.good(2, b"new")
        assert [[window.account for window in poll.windows()] for poll in them.polls] == [["client-new"]] * 3
        assert [sample.account for sample in them.kept[0]] == ["client-old", "client-new"]


async def test_an_upstream_that_another_worker_does_not_know_is_no_fault(provider: Provider) -> None:
    async with together(provider, count=2) as them:
        assert (await them.siblings[1].ask("quota_wish", Wish(("nobody", None), None, b""))).data == [None]
        assert (await them.siblings[1].ask("quota_wish", "nonsense")).data == []
        await them.good(1)
        assert len(provider.requests) == 1
