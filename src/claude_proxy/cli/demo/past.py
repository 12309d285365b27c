"""The demo's past: two weeks of invented work in the ledger, so that the views of days and weeks have something to show."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from claude_proxy import ids
from claude_proxy.cli.demo.life import JOBS, Job
from claude_proxy.exchange import CacheVerdict, Exchange, Failure, Kind, Outcome, Usage
from claude_proxy.ledger.charging import Charging
from claude_proxy.ledger.opening import Opener
from claude_proxy.ledger.options import Entry, Options
from claude_proxy.ledger.prices import load
from claude_proxy.ledger.record import record
from claude_proxy.ledger.runs import Process
from claude_proxy.simulator import refusal

DAYS = 14
LATELY = (58, 46, 35, 20)  # minutes ago at which a session of each job began
USUAL, LATELY_PACE = (6.0, 45.0), (4.0, 18.0)  # seconds from one request to the next: least and most
OVERLOAD = refusal("overload", "zai", 0.0)
BUSY = Failure("upstream", OVERLOAD.error_type, "The service may be temporarily overloaded", OVERLOAD.error_code, "zai")


def write(folder: Path, now: datetime, *, seed: int = 0) -> int:
    """Write the days before `now` into the ledger of `folder`; returns the number of exchanges."""
    prices = load(None).prices
    price = Charging(lambda: prices, {provider: host for host, provider in prices.rows.hosts.items()})
    entries = [Entry(kept, price(kept)) for kept in map(record, exchanges(now, random.Random(seed)))]  # noqa: S311 - a story
    store = Opener(Options(folder), ids.Ids(), lambda *_, **__: None, process=Process("demo", 1))()
    try:
        for start in range(0, len(entries), 500):
            store.write(entries[start : start + 500], 0)
    finally:
        store.close(0)
    return len(entries)


def exchanges(now: datetime, dice: random.Random) -> Iterator[Exchange]:
    """Yield what was sent, day by day (less at weekends), and in the last hours."""
    for back in range(DAYS, 0, -1):
        day = (now - timedelta(days=back)).replace(hour=9, minute=0, second=0, microsecond=0)
        for number, job in enumerate(JOBS):
            if dice.random() < (0.25 if day.weekday() > 4 else 0.9):
                at = day + timedelta(hours=2 * number)
                yield from session(job, at, at + timedelta(minutes=dice.uniform(20, 80)), USUAL, dice)
    for job, ago in zip(JOBS, LATELY, strict=True):
        yield from session(job, now - timedelta(minutes=ago), now - timedelta(seconds=20), LATELY_PACE, dice)


def session(job: Job, at: datetime, until: datetime, pause: tuple[float, float], dice: random.Random) -> Iterator[Exchange]:
    """Yield one session, whose prompt grows until it is compacted."""
    prompt, name = 24_000, f"{dice.getrandbits(32):08x}-{job.project}"
    for turn in itertools.count():
        at += timedelta(seconds=dice.uniform(*pause))
        if at > until:
            return
        new, output = dice.randrange(400, 6_000), dice.randrange(60, 1_800)
        agent = f"{job.agents[0].lower()}-{turn // 6}" if job.agents and turn % 6 > 3 else None
        broken = turn > 0 and dice.random() < 0.04
        missed = broken or not turn
        tokens = Tokens(0 if missed else prompt, new + missed * prompt, output)
        yield exchange(job, name, agent, at, tokens, dice)
        prompt = 24_000 if prompt > 160_000 else prompt + new + output


class Tokens(NamedTuple):
    """Of one exchange: read from the cache, not in the cache, and of the answer."""

    read: int
    fresh: int
    output: int

    def usage(self, model: str) -> Usage:
        """Return the usage as the model's provider reports it: Anthropic counts what it writes to the cache."""
        if model.startswith("claude"):
            return Usage(input=4, output=self.output, cache_read=self.read, cache_write=self.fresh)
        return Usage(input=self.fresh, output=self.output, cache_read=self.read)


def exchange(job: Job, name: str, agent: str | None, at: datetime, tokens: Tokens, dice: random.Random) -> Exchange:
    """Return one exchange, which in one case of fifty failed."""
    zai = job.model.startswith("glm")
    failed = zai and dice.random() < 0.02
    first = dice.uniform(0.4, 2.5)
    took = first + (0.01 if failed else tokens.output / dice.uniform(40, 90))
    number = ids.first_of(int(at.timestamp() * 1000)) | dice.getrandbits(20)
    ended: dict[str, Any] = (
        {"status": 529, "failure": BUSY}
        if failed
        else {"status": 200, "usage": tokens.usage(job.model), "stop_reason": "tool_use"}
    )
    return Exchange(
        id=ids.encode(number),
        method="POST",
        path="/v1/messages",
        client="127.0.0.1",
        started=0.0,
        started_at=at.timestamp(),
        kind=Kind.MESSAGES,
        upstream="zai" if zai else "anthropic",
        account=("work" if dice.random() < 0.7 else "spare") if zai else "console",
        session=name,
        project=job.project,
        agent=agent,
        request_class="subagent" if agent else "main",
        model=job.model,
        stream=not failed,
        first_byte=first,
        ended=took,
        outcome=Outcome.COMPLETED,
        cache=None if failed else CacheVerdict("grew"),
        bytes_in=(tokens.read + tokens.fresh) * 4,
        bytes_out=tokens.output * 30,
        number=number,
        **ended,
    )
