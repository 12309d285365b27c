"""What a client reads when its request was not sent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from claude_proxy.errors import render
from claude_proxy.protocol.providers import by_name
from claude_proxy.proxy.refusing import no_turn
from claude_proxy.routing.ticket import Reason, Refuse

ACCOUNT: Any = SimpleNamespace(id="zai/one", upstream=SimpleNamespace(provider=by_name("zai")))
TICKET: Any = None
EPOCH = 1_764_387_000.0  # 2025-11-29 03:30 UTC at 0 of the queue's clock


def rendered(refused: Refuse, timezone: str = "UTC") -> tuple[int, dict[str, str], str]:
    answer = render(no_turn(refused, (ACCOUNT,), timezone, EPOCH), "abc")
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return answer.status, headers, msgspec.json.decode(answer.body)["error"]["message"]


@pytest.mark.parametrize(
    ("refused", "code", "hint", "after"),
    [
        (Refuse(TICKET, Reason.DEADLINE, 5.0, kept=True), "queue_timeout", None, "5"),
        (Refuse(TICKET, Reason.DEADLINE, 5.0), "queue_timeout", None, "5"),
        (Refuse(TICKET, Reason.DEADLINE, None, retry=False), "queue_timeout", "false", None),
        (Refuse(TICKET, Reason.FULL, 45.0, kept=True), "queue_full", None, "45"),
        (Refuse(TICKET, Reason.FULL, None, retry=False), "queue_full", "false", None),
        (Refuse(TICKET, Reason.OUT, None, retry=False, until=100.0), "account_out", "false", None),
        (Refuse(TICKET, Reason.OUT, None, retry=False), "account_out", "false", None),
        (Refuse(TICKET, Reason.GONE, 5.0), "account_gone", None, "5"),
    ],
)
def test_each_reason_has_its_code_and_says_whether_to_try_again(
    refused: Refuse, code: str, hint: str | None, after: str | None
) -> None:
    """Never a 401, which is tried eleven times, nor more than 60 seconds, which means "stop" to Claude Code."""
    status, headers, message = rendered(refused)
    assert (status, headers["x-claude-proxy-error"]) == (429, code)
    assert (headers.get("x-should-retry"), headers.get("retry-after")) == (hint, after)
    assert "zai/one" in message
    assert "not sent" in message or refused.reason is Reason.GONE
    assert message.endswith(".")


@pytest.mark.parametrize(("timezone", "time"), [("UTC", "04:30 (UTC)"), ("Asia/Seoul", "13:30 (Asia/Seoul)")])
def test_the_end_of_a_used_up_window_is_told_in_the_users_zone(timezone: str, time: str) -> None:
    _, _, message = rendered(Refuse(TICKET, Reason.OUT, None, retry=False, until=3600.0), timezone)
    assert f"2025-11-29 {time}" in message


def test_only_a_place_that_is_kept_is_promised() -> None:
    assert "kept" in rendered(Refuse(TICKET, Reason.DEADLINE, 5.0, kept=True))[2]
    assert "kept" not in rendered(Refuse(TICKET, Reason.DEADLINE, None, retry=False))[2]


def test_where_several_accounts_are_out_all_are_named() -> None:
    other: Any = SimpleNamespace(id="zai/two", upstream=ACCOUNT.upstream)
    refused = Refuse(TICKET, Reason.OUT, None, retry=False, until=3600.0)
    message = no_turn(refused, (ACCOUNT, other), "UTC", EPOCH).message
    assert "zai/one, zai/two" in message
    assert "04:30 (UTC)" in message
    unknown = no_turn(Refuse(TICKET, Reason.OUT, None, retry=False), (ACCOUNT, other), "UTC", EPOCH).message
    assert "zai/one, zai/two" in unknown
