"""What an exchange adds to which series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from claude_proxy.exchange import Exchange, Failure, Kind, Outcome, Usage
from claude_proxy.observe.catalogue import OTHER
from claude_proxy.observe.counting import MAX_KINDS, Counting
from claude_proxy.observe.labels import MAX_MODELS
from claude_proxy.observe.sources import Sources
from claude_proxy.observe.tally import Key, Tally
from tests.observe.finished import failed, finished, values

EXCHANGES = "claude_proxy_exchanges_total"


def counted(*exchanges: Exchange, **sources: Any) -> dict[Key, Any]:
    tally = Tally()
    counting = Counting(tally, Sources(**sources))
    assert counting.add(exchanges) == []
    return values(tally)


def exchanges(found: dict[Key, Any]) -> dict[Key, Any]:
    """The series of exchanges, by their labels."""
    return {key[1:]: value for key, value in found.items() if key[0] == EXCHANGES}


def test_an_exchange_is_counted_with_its_tokens_and_times() -> None:
    found = counted(finished(), finished(usage=Usage(input=1, output=2)))
    of = ("default", "glm-5.3")
    assert found == {
        (EXCHANGES, *of, "completed", "2xx"): 2,
        ("claude_proxy_tokens_total", *of, "input"): 11,
        ("claude_proxy_tokens_total", *of, "output"): 22,
        ("claude_proxy_tokens_total", *of, "cache_read"): 30,
        ("claude_proxy_tokens_total", *of, "cache_write"): 40,
        ("claude_proxy_first_byte_seconds", *of): (2, 3.0),
        ("claude_proxy_duration_seconds", *of): (2, 8.0),
        ("claude_proxy_longest_silence_seconds", "default"): (2, 1.4),
        ("claude_proxy_overhead_seconds",): (2, pytest.approx(0.004)),
    }


@pytest.mark.parametrize("outcome", [*Outcome, None])
@pytest.mark.parametrize(
    ("status", "name"),
    [(0, "none"), (101, "1xx"), (200, "2xx"), (302, "3xx"), (499, "4xx"), (529, "5xx"), (999, "none"), (-1, "none")],
)
def test_how_it_ended_is_two_labels(outcome: Outcome | None, status: int, name: str) -> None:
    found = exchanges(counted(finished(outcome=outcome, status=status)))
    assert [key[2:] for key in found] == [((outcome or Outcome.ABORTED).value, name)]


@pytest.mark.parametrize("kind", ["input", "output", "cache_read", "cache_write"])
def test_a_nonsensical_count_is_bounded(kind: str) -> None:
    found = counted(finished(usage=Usage(**{kind: 2**53 - 1})))
    assert found["claude_proxy_tokens_total", "default", "glm-5.3", kind] == 10**9


@pytest.mark.parametrize("kind", [Kind.COUNT_TOKENS, Kind.BATCHES, Kind.OTHER])
def test_other_calls_are_counted_beside_the_exchanges(kind: Kind) -> None:
    found = counted(finished(kind=kind, usage=None))
    assert found == {("claude_proxy_other_exchanges_total", "default", kind.value, "completed", "2xx"): 1}


def test_a_refused_request_has_no_times_of_an_upstream() -> None:
    refused = finished(status=413, outcome=Outcome.REFUSED, attempts=[], usage=None, model=None, model_served=None, upstream="")
    refused.failure = Failure("client", "body_too_large", "Too large")
    assert counted(refused) == {
        (EXCHANGES, "", OTHER, "refused", "4xx"): 1,
        ("claude_proxy_failures_total", "", "client", "body_too_large"): 1,
    }


def test_an_error_is_quick_and_says_nothing_of_the_first_byte() -> None:
    assert not [key for key in counted(failed()) if "first_byte" in key[0] or "silence" in key[0]]


def test_only_streams_have_silences() -> None:
    assert not [key for key in counted(finished(stream=False)) if "silence" in key[0]]


@dataclass(slots=True)
class Queued(Exchange):
    """An exchange as a queue will leave it."""

    queue_wait: float = 0.002


def test_the_wait_in_the_queue_is_no_overhead() -> None:
    found = counted(finished(of=Queued))
    assert found["claude_proxy_queue_wait_seconds", "default"] == (1, 0.002)
    assert found["claude_proxy_overhead_seconds",] == (1, pytest.approx(0, abs=1e-9))


@pytest.mark.parametrize("broken", [{"attempts": [None]}, {"usage": Usage(input="x")}, {"ended": "x"}])
def test_one_that_cannot_be_counted_costs_and_doubles_none_of_its_series(broken: dict[str, Any]) -> None:
    tally = Tally()
    errors = Counting(tally, Sources()).add([finished(), finished(**broken), finished()])
    found, of = values(tally), ("default", "glm-5.3")
    assert len(errors) == 1
    assert found[EXCHANGES, *of, "completed", "2xx"] == 2
    assert found["claude_proxy_duration_seconds", *of][0] == 2
    assert found["claude_proxy_tokens_total", *of, "output"] == 40


# -- prices


def test_costs_are_added_as_whole_nano_dollars() -> None:
    """0.1 + 0.2 in floats is not 0.3."""
    found = counted(*(finished() for _ in range(3)), price=lambda exchange: 100_000_001)
    assert found["claude_proxy_cost_usd_total", "default", "glm-5.3"] == 300_000_003
    assert isinstance(found["claude_proxy_cost_usd_total", "default", "glm-5.3"], int)


def test_what_has_no_price_is_counted_apart_and_never_as_zero() -> None:
    found = counted(finished(), price=lambda exchange: None)
    assert found["claude_proxy_unpriced_exchanges_total", "default", "glm-5.3"] == 1
    assert not [key for key in found if "cost" in key[0]]


def test_without_usage_there_is_nothing_to_price() -> None:
    asked: list[Exchange] = []
    assert not [key for key in counted(failed(), price=asked.append) if "cost" in key[0] or "unpriced" in key[0]]
    assert asked == []


def test_without_prices_nothing_is_unpriced() -> None:
    assert not [key for key in counted(finished()) if "unpriced" in key[0]]


@pytest.mark.parametrize(("credits", "sum"), [(2_500_000, 5_000_000), (None, None)])
def test_plan_credits(credits: int | None, sum: int | None) -> None:
    found = counted(finished(), finished(), credits=lambda exchange: credits)
    assert found.get(("claude_proxy_credits_total", "default", "glm-5.3")) == sum


# -- labels that others choose


def models(*seen: Exchange) -> list[str]:
    """The model label of each, in the order in which they came."""
    tally = Tally()
    counting = Counting(tally, Sources())
    labels: list[str] = []
    for exchange in seen:
        before = exchanges(values(tally))
        counting.add([exchange])
        (changed,) = (key for key, value in exchanges(values(tally)).items() if before.get(key) != value)
        labels.append(changed[1])
    return labels


def test_the_model_is_the_one_that_the_answer_names() -> None:
    assert models(finished(model="claude-opus-5", model_served="glm-5.3")) == ["glm-5.3"]


@pytest.mark.parametrize(("sent", "label"), [(None, "m"), ("glm-5.3", "glm-5.3")])
def test_an_answer_without_a_model_has_that_of_the_request(sent: str | None, label: str) -> None:
    assert models(finished(model="m", model_sent=sent, model_served=None)) == [label]


def test_a_failure_has_the_label_that_good_answers_to_the_same_wish_have() -> None:
    good = finished(model="claude-opus-5", model_served="glm-5.3")
    assert models(failed(model="claude-opus-5"), good, failed(model="claude-opus-5")) == [OTHER, "glm-5.3", "glm-5.3"]


@pytest.mark.parametrize(
    "bad",
    [
        failed(model="made-up"),
        failed(model="made-up", model_served="made-up"),
        finished(model="made-up", model_served=None, status=499, outcome=Outcome.CANCELLED),
        finished(model="made-up", status=200, failure=Failure("upstream", "overloaded_error", "Overloaded"), model_served=None),
        finished(model=None, model_served=None),
    ],
    ids=["refused", "refused by name", "cancelled", "error in the stream", "nameless"],
)
def test_a_name_that_no_good_answer_had_gets_no_label(bad: Exchange) -> None:
    assert models(bad, bad) == [OTHER, OTHER]


def test_models_beyond_the_bound_are_other() -> None:
    names = [f"m{number}" for number in range(MAX_MODELS + 20)]
    seen = models(*(finished(model=name, model_served=name) for name in [*names, *names]))
    expected = [*names[:MAX_MODELS], *[OTHER] * 20]
    assert seen == [*expected, *expected]


def test_wishes_beyond_the_bound_are_other_too() -> None:
    wishes = [f"w{number}" for number in range(MAX_MODELS + 1)]
    good = [finished(model=wish, model_served="glm-5.3") for wish in wishes]
    assert models(*good, *(failed(model=wish) for wish in wishes))[len(good) :] == ["glm-5.3"] * MAX_MODELS + [OTHER]


def test_error_types_are_bounded_because_upstreams_write_their_own() -> None:
    found = counted(*(failed(kind=f"error_{number}") for number in range(MAX_KINDS + 7)))
    failures = {key[3]: value for key, value in found.items() if key[0] == "claude_proxy_failures_total"}
    assert len(failures) == MAX_KINDS + 1
    assert failures[OTHER] == 7


def test_no_session_agent_or_client_becomes_a_label() -> None:
    words = {"session": "s-1", "agent": "a-1", "parent_agent": "p-1", "client": "c-1", "key": "k-1", "user_agent": "u-1"}
    found = counted(finished(**words), failed(**words), finished(kind=Kind.OTHER, **words))
    assert not set(words.values()) & {label for key in found for label in key}


def test_prices_that_cannot_be_read_cost_only_the_prices() -> None:
    """Also where they cannot be read at all: a package's file may not open for want of descriptors."""

    def fails(_: object) -> bool:
        raise OSError(24, "Too many open files")

    tally = Tally()
    sources = Sources(has_prices=fails, price=lambda _: 1)
    errors = Counting(tally, sources).add([finished(model=name, model_served=name) for name in ("a", "b", "c")])
    assert len(errors) == 3
    assert sum(exchanges(values(tally)).values()) == 3
