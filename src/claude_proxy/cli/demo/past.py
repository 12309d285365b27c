"""The demo's past: two weeks of invented work in the ledger, so that the views of days and weeks have something to show."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from claude_proxy import ids
from claude_proxy.cli.demo.life import JOBS, Job
from claude_proxy.exchange import CacheVerdict, Exchange, Failure, Kind, Outcome, Usage
from claude_proxy.ledger.charging import Charging
from claude_proxy.ledger.opening import Opener
from claude_proxy.ledger.options import Entry, Options
from claude_proxy.ledger.prices import load
from claude_proxy.ledger.record import record
from claude_proxy.ledger.runs import Process

DAYS = 14
HOSTS = {"zai": "api.z.ai", "anthropic": "api.anthropic.com"}
BUSY = Failure("upstream", "overloaded_error", "The service may be temporarily overloaded", "1305", "zai")


def write(folder: Path, now: datetime, *, seed: int = 0) -> int:
    """Write the days before `now` into the ledger of `folder`; returns the number of exchanges."""
    price = Charging(lambda: load(None).prices, HOSTS)
    entries = [Entry(kept, price(kept)) for kept in map(record, exchanges(now, random.Random(seed)))]  # noqa: S311 - a story
    store = Opener(Options(folder), ids.Ids(), lambda *_, **__: None, process=Process("demo", 1))()
    try:
        for start in range(0, len(entries), 500):
            store.write(entries[start : start + 500], 0)
    finally:
        store.close(0)
    return len(entries)


def exchanges(now: datetime, dice: random.Random) -> Iterator[Exchange]:
    """Yield what was sent, day by day: less at weekends, nothing at night."""
    for back in range(DAYS, 0, -1):
        day = (now - timedelta(days=back)).replace(hour=9, minute=0, second=0, microsecond=0)
        for number, job in enumerate(JOBS):
            if dice.random() < (0.25 if day.weekday() > 4 else 0.9):
                yield from session(job, f"{dice.getrandbits(32):08x}-{job.project}", day + timedelta(hours=2 * number), dice)


def session(job: Job, name: str, at: datetime, dice: random.Random) -> Iterator[Exchange]:
    """Yield one session, whose prompt grows until it is compacted."""
    prompt = 24_000
    for turn in range(dice.randrange(12, 50)):
        at += timedelta(seconds=dice.uniform(15, 150))
        new, output = dice.randrange(400, 6_000), dice.randrange(60, 1_800)
        agent = f"{job.agents[0].lower()}-{turn // 6}" if job.agents and turn % 6 > 3 else None
        broken = turn > 0 and dice.random() < 0.04
        yield exchange(job, name, agent, at, usage_of(job, 0 if broken or not turn else prompt, new + broken * prompt, output), dice)
        prompt = 24_000 if prompt > 160_000 else prompt + new + output


def usage_of(job: Job, read: int, new: int, output: int) -> Usage:
    """Return the usage as the model's provider reports it: Anthropic counts what it writes to the cache."""
    if job.model.startswith("claude"):
        return Usage(input=4, output=output, cache_read=read, cache_write=new)
    return Usage(input=new, output=output, cache_read=read)


def exchange(job: Job, name: str, agent: str | None, at: datetime, usage: Usage, dice: random.Random) -> Exchange:
    """Return one exchange, which in one case of fifty failed."""
    zai = job.model.startswith("glm")
    failed = zai and dice.random() < 0.02
    took = usage.output / dice.uniform(40, 90) + 1
    number = ids.first_of(int(at.timestamp() * 1000)) | dice.getrandbits(20)
    ended: dict[str, Any] = {"status": 529, "failure": BUSY} if failed else {"status": 200, "usage": usage, "stop_reason": "tool_use"}
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
        stream=True,
        first_byte=dice.uniform(0.4, 2.5),
        ended=took,
        outcome=Outcome.COMPLETED,
        cache=None if failed else CacheVerdict("grew"),
        bytes_in=usage.input * 4,
        bytes_out=usage.output * 30,
        number=number,
        **ended,
    )
