"""Which exchanges open, continue and close an incident, and when a person hears of it."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.exchange import Exchange, Failure, Outcome
from claude_proxy.notify.notice import Notice
from claude_proxy.notify.rules import MAX_INCIDENTS, STORM, Rules
from tests.notify.exchanges import WALL, answered, exchange, failed

MINUTE = 60.0


def rules() -> Rules:
    return Rules(lambda upstream: upstream)


def end(subject: Rules, *exchanges: Exchange) -> list[Notice]:
    return [notice for one in exchanges for notice in subject.ended(one, one.ended or 0.0)]


def titles(notices: list[Notice]) -> list[str]:
    return [notice.title for notice in notices]


def test_the_first_failure_is_told_at_once() -> None:
    (notice,) = end(rules(), failed(100))
    assert notice.title == "default: concurrency limit (1302)"
    assert notice.priority == 3
    assert "model glm-5.3" in notice.message


def test_300_failures_and_a_recovery_are_two_messages_and_one_recovery() -> None:
    subject = rules()
    said = end(subject, *(failed(100 + n) for n in range(300)))
    said += subject.due(700)
    said += end(subject, answered(800))
    assert titles(said) == [
        "default: concurrency limit (1302)",
        "default: concurrency limit (1302), 299 more",
        "default: works again",
    ]
    assert "299 more in 10 min" in said[1].message
    assert "after 12 min; 300 requests failed" in said[2].message
    assert subject.due(100_000) == []


def test_300_failures_within_seconds_and_a_recovery_are_the_same_three() -> None:
    said = end(rules(), *(failed(100 + n / 100, took=0.001) for n in range(300)), answered(110))
    assert titles(said) == [
        "default: concurrency limit (1302)",
        "default: concurrency limit (1302), 299 more",
        "default: works again",
    ]
    assert said[1].priority == 1  # its recovery comes right behind it
    assert "300 requests failed" in said[2].message


def test_the_retries_of_one_client_are_told_by_the_recovery_alone() -> None:
    said = end(rules(), *(failed(100 + n) for n in range(1 + STORM)), answered(120))
    assert titles(said) == ["default: concurrency limit (1302)", "default: works again"]
    assert f"{1 + STORM} requests failed" in said[1].message
    assert len(end(rules(), *(failed(100 + n) for n in range(2 + STORM)), answered(120))) == 3


def test_nothing_is_due_before_ten_minutes_are_over() -> None:
    subject = rules()
    end(subject, failed(100), failed(101))
    assert subject.next_due() == 700
    assert subject.due(699.9) == []
    assert len(subject.due(700)) == 1


def test_a_single_failure_has_no_follow_up() -> None:
    subject = rules()
    end(subject, failed(100))
    assert subject.next_due() is None
    assert subject.due(100_000) == []


def test_an_outage_of_hours_is_told_after_10_then_30_then_every_60_minutes() -> None:
    subject = rules()
    told = []
    for minute in range(5 * 60):
        now = minute * MINUTE
        told += [minute for _ in subject.due(now)]
        told += [minute for _ in end(subject, failed(now, took=0))]
    assert told == [0, 10, 40, 100, 160, 220, 280]


def test_a_failure_long_after_the_last_message_is_told_at_once() -> None:
    subject = rules()
    end(subject, failed(100))
    (notice,) = end(subject, failed(8 * 3600))
    assert "1 more in 7 h 58 min" in notice.message


def test_two_classes_are_two_incidents_and_close_together() -> None:
    subject = rules()
    said = end(subject, failed(100), failed(101, None, "connect_failed"), answered(110))
    assert titles(said) == [
        "default: concurrency limit (1302)",
        "default: not reachable",
        "default: works again",
        "default: works again",
    ]
    assert said[0].sequence == said[2].sequence != said[1].sequence == said[3].sequence


def test_upstreams_do_not_recover_for_one_another() -> None:
    subject = rules()
    end(subject, failed(100, upstream="a"), failed(101, upstream="b"))
    (notice,) = end(subject, answered(110, upstream="b"))
    assert notice.title == "b: works again"


def test_follow_up_and_recovery_replace_the_first_notice() -> None:
    subject = rules()
    said = end(subject, failed(100), failed(101)) + subject.due(700) + end(subject, answered(710))
    assert len(said) == 3
    assert len({notice.sequence for notice in said}) == 1
    assert re.fullmatch(r"[-_A-Za-z0-9]{1,64}", said[0].sequence)


def test_a_new_incident_does_not_replace_an_old_one() -> None:
    subject = rules()
    first, *_ = end(subject, failed(100), answered(110))
    (second,) = end(subject, failed(5000))
    assert second.title == first.title
    assert second.sequence != first.sequence


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.CUT, Outcome.STALLED, Outcome.COMPLETED])
@pytest.mark.parametrize("side", ["upstream", "proxy"])
def test_failures_of_the_upstream_and_of_ours_are_told(outcome: Outcome, side: str) -> None:
    assert len(end(rules(), failed(100, outcome=outcome, side=side))) == 1


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.CANCELLED, Outcome.CLIENT_STALLED, Outcome.ABORTED])
def test_what_a_client_ends_is_never_told(outcome: Outcome) -> None:
    assert end(rules(), failed(100, outcome=outcome)) == []


BROKEN = ["cut", "stalled", "unfinished", "completed"]  # "unfinished": the stream ended cleanly before its end


@pytest.mark.parametrize("outcome", BROKEN)
@pytest.mark.parametrize("kind", ["stream_cut", "stream_idle", "stream_unfinished", "overloaded_error"])
def test_an_answer_that_broke_off_is_told(outcome: str, kind: str) -> None:
    (notice,) = end(rules(), failed(100, None, kind, outcome=outcome, status=200))
    assert notice.title.startswith("default: ")


@pytest.mark.parametrize("outcome", BROKEN)
@pytest.mark.parametrize("stop_reason", ["end_turn", "tool_use", "max_tokens", "refusal"])
def test_an_answer_that_said_everything_is_not_told_however_it_ended(outcome: str, stop_reason: str) -> None:
    subject = rules()
    kinds = ("stream_cut", "stream_idle", "stream_unfinished", "api_error")
    broken = [failed(100, None, kind, outcome=outcome, stop_reason=stop_reason, status=200) for kind in kinds]
    assert end(subject, *broken) == []
    assert subject.next_due() is None


@pytest.mark.parametrize("kind", ["unavailable", "out_of_descriptors", "out_of_memory", "out_of_threads", "internal"])
def test_a_failure_of_our_own_opens_and_closes_under_our_own_name(kind: str) -> None:
    ours = failed(100, None, kind, side="proxy", outcome=Outcome.FAILED, status=503)
    first, over = end(rules(), ours, answered(110))
    assert first.title.startswith("claude-proxy: ")
    assert over.title == "claude-proxy: works again"
    assert "default" not in first.message + over.message


def test_an_upstream_that_redirects_is_told_once() -> None:
    many = [failed(100 + n, None, "upstream_redirect", side="proxy", outcome=Outcome.FAILED, status=502) for n in range(50)]
    (notice,) = end(rules(), *many)
    assert notice.title == "claude-proxy: BASE_URL redirects"
    assert "Set BASE_URL to the address that" in notice.message


def test_each_providers_code_is_explained_by_its_own_table() -> None:
    def opened(provider: str) -> str:
        failure = Failure("upstream", "rate_limit_error", "words", "1002", provider)
        return titles(end(rules(), exchange(100, status=429, failure=failure)))[0]

    assert opened("minimax") == "default: rate limit (1002)"
    assert opened("zai") == "default: credential not valid (1002)"


def test_a_clients_mistake_is_never_told() -> None:
    assert end(rules(), failed(100, "1210", "invalid_request_error", side="client", status=400)) == []


def test_a_refusal_while_we_stop_is_never_told() -> None:
    assert end(rules(), failed(100, None, "draining", side="proxy", outcome=Outcome.FAILED, status=503)) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", "/api/hello"),
        ("HEAD", ""),
        ("GET", "/"),
        ("POST", "/v1/messages/count_tokens"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/glm-5.3"),
        ("OPTIONS", "/v1/messages"),
    ],
)
def test_probes_token_counts_and_model_lists_neither_open_nor_close(method: str, path: str) -> None:
    subject = rules()
    assert end(subject, failed(100, method=method, path=path)) == []
    end(subject, failed(101))
    assert end(subject, answered(110, method=method, path=path)) == []
    assert len(end(subject, answered(111))) == 1


def test_other_endpoints_count() -> None:
    assert len(end(rules(), failed(100, path="/v1/messages/batches"))) == 1
    assert len(end(rules(), failed(100, path="/v1/files"))) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"status": 400},
        {"outcome": Outcome.CANCELLED},
        {"outcome": Outcome.CLIENT_STALLED},
        {"status": 0, "outcome": Outcome.ABORTED},
        {"took": 30.0},  # it was under way when the failure came
    ],
)
def test_what_proves_nothing_is_no_recovery(values: dict[str, object]) -> None:
    subject = rules()
    end(subject, failed(100))
    assert end(subject, answered(110, **values)) == []


def test_a_busy_model_recovers_by_its_own_answer_only() -> None:
    subject = rules()
    end(subject, failed(100, "1312", model="glm-5.3"), failed(101, "1312", model="glm-5.2"))
    assert end(subject, answered(110, model="glm-4.7")) == []
    assert end(subject, answered(120, model="glm-5.3")) == []
    assert len(end(subject, answered(130, model="glm-5.2"))) == 1


def test_one_that_comes_and_goes_does_not_push_each_time() -> None:
    subject = rules()
    said = []
    for n in range(100):
        said += end(subject, failed(100 + 4 * n), answered(102 + 4 * n))
    assert titles(said) == ["default: concurrency limit (1302)", "default: works again"]
    (later,) = subject.due(700)
    assert later.title == "default: concurrency limit (1302), 99 more"
    assert "It works at the moment." in later.message
    assert end(subject, answered(800)) == []  # it has been told
    assert end(subject, failed(810), answered(820)) == []  # nobody has heard of this one yet


def test_one_that_fails_again_and_stays_so_is_told_and_recovers() -> None:
    subject = rules()
    end(subject, failed(100), answered(110), failed(200), failed(300))
    (again,) = subject.due(700)
    assert "2 more" in again.message
    assert "at the moment" not in again.message
    (over,) = end(subject, answered(800))
    assert "after 10 min; 2 requests failed" in over.message


def test_an_incident_that_is_over_and_quiet_starts_afresh() -> None:
    subject = rules()
    end(subject, failed(100), answered(110))
    (notice,) = end(subject, failed(701))
    assert notice.title == "default: concurrency limit (1302)"
    (over,) = end(subject, answered(710))
    assert "1 request failed" in over.message


def test_invented_error_types_share_one_incident() -> None:
    subject = rules()
    said = end(subject, *(failed(100 + n / 10, None, f"odd_{n}_error") for n in range(500)))
    assert len(said) == MAX_INCIDENTS + 1
    assert len(end(subject, answered(200))) == MAX_INCIDENTS + 2  # the shared one was a storm


def test_what_is_counted_is_told_at_the_stop() -> None:
    subject = rules()
    end(subject, failed(100), failed(101), failed(102))
    (notice,) = subject.flush(110)
    assert "2 more in 10 s" in notice.message
    assert subject.flush(111) == []


def test_an_ejection_is_told_and_closed() -> None:
    subject = rules()
    (gone,) = subject.state("b", "ejected", 100, WALL)
    (back,) = subject.state("b", "healthy", 160, WALL + 60)
    assert gone.title == "b: taken out of rotation"
    assert back.title == "b: works again"
    assert subject.state("b", "healthy", 170, WALL + 70) == []


def test_an_ejection_behind_told_failures_is_no_news() -> None:
    subject = rules()
    end(subject, failed(100, upstream="b"))
    assert subject.state("b", "ejected", 101, WALL) == []
    assert len(subject.state("c", "ejected", 102, WALL)) == 1


EVENTS = st.lists(st.tuples(st.floats(0.01, 2000), st.booleans()), max_size=200)


@given(EVENTS)
def test_whatever_happens_failures_are_told_ten_minutes_apart_and_recoveries_follow_them(
    events: list[tuple[float, bool]],
) -> None:
    subject = rules()
    now, loud, told, recovered, failures = 0.0, [], 0, 0, 0
    for wait, good in events:
        now += wait
        said = subject.due(now) + end(subject, answered(now, took=0) if good else failed(now, took=0))
        failures += not good
        for notice in said:
            if notice.title.endswith("works again"):
                recovered += 1
            else:
                told += 1 if "more" not in notice.title else int(notice.title.split()[-2])
                loud += [now] if notice.priority > 1 else []
    assert all(later - earlier >= 600 for earlier, later in itertools.pairwise(loud))
    assert recovered <= len(loud)
    assert told <= failures
