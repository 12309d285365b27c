"""Incidents of accounts: one account's used-up window is not another's, and is told once, whoever says it."""

from __future__ import annotations

from typing import Any

import pytest

from claude_proxy.exchange import Attempt, Exchange, Failure, Outcome
from claude_proxy.notify.advice import LIMIT, OWN
from claude_proxy.proxy import refusing
from tests.notify.exchanges import answered, failed, used_up
from tests.notify.test_notifier import Clock, Sent, made

WORDS = "z.ai accepts no requests of the account zai/work at the moment."


def out(at: float, **values: Any) -> Exchange:
    """Refused by the queue, because its account is out."""
    failure = Failure("upstream", "account_out", WORDS)
    return failed(at, failure=failure, outcome=Outcome.FAILED, **values)


async def told(*exchanges: Exchange, clock: Clock | None = None) -> tuple[Sent, list[Any]]:
    """What is pushed about these exchanges, ten seconds apart, and the incidents."""
    clock, sent = clock or Clock(), Sent()
    notifier = made(sent, clock)
    await notifier.start()
    for exchange in exchanges:
        exchange.started, exchange.ended = clock.now - 1, clock.now
        notifier.on_exchange_end(exchange)
        clock.now += 10
        notifier.tick()
    reports = notifier.reports()
    await notifier.aclose()
    return sent, reports


async def test_each_account_that_is_used_up_is_an_incident_of_its_own() -> None:
    sent, reports = await told(*(used_up(0, upstream="zai", account=name) for name in ("work", "spare", "work")))
    assert sorted(report.failures for report in reports) == [1, 2]
    assert len({notice.sequence for notice in sent.notices}) == 2
    assert ["Upstream zai/work" in notice.message for notice in sent.notices] == [True, False]


async def test_another_accounts_answers_do_not_end_it() -> None:
    spare = [answered(0, upstream="zai", account="spare") for _ in range(5)]
    _, reports = await told(used_up(0, upstream="zai", account="work"), *spare)
    assert [report.closed for report in reports] == [None]


async def test_its_own_answers_do() -> None:
    work = [answered(0, upstream="zai", account="work") for _ in range(5)]
    _, reports = await told(used_up(0, upstream="zai", account="work"), *work)
    assert [report.closed is None for report in reports] == [False]


async def test_an_upstreams_trouble_ends_with_any_accounts_answers() -> None:
    spare = [answered(0, upstream="zai", account="spare") for _ in range(5)]
    _, reports = await told(failed(0, upstream="zai", account="work"), *spare)
    assert [report.closed is None for report in reports] == [False]


async def test_what_the_queue_refuses_afterwards_is_counted_there_and_not_told_again() -> None:
    sent, reports = await told(
        used_up(0, upstream="zai", account="work"), *(out(0, upstream="zai", account="work") for _ in range(3))
    )
    assert [(report.code, report.failures) for report in reports] == [("1308", 4)]
    assert {notice.sequence for notice in sent.notices} == {sent.notices[0].sequence}
    assert len([notice for notice in sent.notices if notice.priority > 2]) == 1


@pytest.mark.parametrize("before", [None, "spare"])
async def test_without_a_known_cause_our_own_words_are_told(before: str | None) -> None:
    first = [] if before is None else [used_up(0, upstream="zai", account=before)]
    sent, reports = await told(*first, out(0, upstream="zai", account="work"))
    assert "account_out" in [report.code for report in reports]
    assert "usage is used up, or its key is refused" in sent.notices[-1].message


@pytest.mark.parametrize("code", refusing._CODES.values())
def test_every_refusal_of_the_queue_has_advice(code: str) -> None:
    assert code in OWN
    assert (OWN[code].group == LIMIT) is code.startswith("queue")
    assert OWN[code].do.en != OWN[code].do.ko


@pytest.mark.parametrize("account", [None, "default"])
async def test_an_only_account_needs_no_name(account: str | None) -> None:
    sent, _ = await told(used_up(0, account=account))
    assert "Upstream default," in sent.notices[0].message


async def test_refusals_that_were_hidden_are_counted() -> None:
    """A refusal that was sent again has a status, and is no failure of its attempt."""
    clock = Clock()
    attempts = [Attempt("zai", 0.0, status=429), Attempt("zai", 0.0, status=200)]
    notifier = made(Sent(), clock)
    await notifier.start()
    notifier.on_exchange_end(answered(clock.now, upstream="zai", attempts=attempts))
    notifier._flush()
    assert notifier.hidden == {"zai": 1}
    await notifier.aclose()
