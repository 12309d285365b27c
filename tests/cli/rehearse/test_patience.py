"""When a scripted client tries again: Claude Code's measured behaviour, as a table."""

from __future__ import annotations

import pytest

from claude_proxy.cli.rehearse.patience import Next, Role, Seen, next_try

GLM, OPUS = "glm-5.3", "claude-opus-5-5"


def tries(seen: Seen, role: Role = "main", model: str = GLM, *, stream: bool = True) -> tuple[int, float, list[bool]]:
    """How many attempts a client makes if it always sees this, how long that takes, and which were streamed."""
    streamed, total = [stream], 0.0
    while (following := next_try(seen, len(streamed), role, model, stream=streamed[-1], uniform=lambda: 1.0)) is not None:
        total += following.wait
        streamed.append(following.stream)
        assert len(streamed) < 50
    return len(streamed), total, streamed


def error(status: int, kind: str = "api_error", **more: float | bool | None) -> Seen:
    return Seen("error", status, kind, **more)  # type: ignore[arg-type] # a table


@pytest.mark.parametrize(
    ("seen", "count"),
    [
        (Seen("answered", 200), 1),
        *((error(status), 11) for status in (401, 408, 409, 429, 500, 502, 503, 504, 529)),
        *((error(status), 1) for status in (400, 402, 403, 404, 413)),
        (error(429, should_retry=False), 1),
        (error(401, should_retry=False), 1),
        (error(429, retry_after=60.0), 11),
        (error(429, retry_after=61.0), 1),
        (error(429, retry_after=61.0, should_retry=True), 1),
        (error(503, retry_after=120.0), 1),
        (Seen("silent"), 11),
        (Seen("refused"), 11),
        (Seen("cut", 200), 11),
        (Seen("unfinished", 200), 11),
    ],
)
def test_how_often_a_client_tries(seen: Seen, count: int) -> None:
    assert tries(seen)[0] == count


@pytest.mark.parametrize(
    ("seen", "seconds"),
    [(error(429), 159.5), (error(429, retry_after=1.0), 160.0), (error(429, retry_after=30.0), 308.0), (error(529), 159.5)],
)
def test_how_long_it_tries_without_stretching(seen: Seen, seconds: float) -> None:
    """Measured: 178 to 188 s without retry-after, 343 s with 30; a pause is stretched by up to a quarter."""
    assert tries(seen)[1] == seconds


def test_a_pause_is_stretched() -> None:
    assert next_try(error(429), 1, "main", GLM, stream=True, uniform=lambda: 1.25) == Next(0.625, True)
    assert next_try(error(429, retry_after=5.0), 1, "main", GLM, stream=True, uniform=lambda: 1.2) == Next(6.0, True)


@pytest.mark.parametrize(
    ("role", "model", "seen", "count"),
    [
        ("main", OPUS, error(529, "overloaded_error"), 3),
        ("main", OPUS, error(503, "overloaded_error"), 3),
        ("main", OPUS, error(503), 11),
        ("subagent", "claude-fable-1", error(529, "overloaded_error"), 3),
        ("title", GLM, error(529, "overloaded_error"), 1),
        ("title", GLM, error(429), 11),
        ("classifier", GLM, error(429), 10),
        ("classifier", GLM, error(529, "overloaded_error"), 10),
        ("classifier", GLM, Seen("silent"), 2),
    ],
)
def test_models_and_kinds_of_calls_differ(role: Role, model: str, seen: Seen, count: int) -> None:
    assert tries(seen, role, model)[0] == count


@pytest.mark.parametrize(
    ("seen", "streamed"),
    [
        (Seen("unfinished", 200), [True, False, False]),
        (Seen("error-event", 200, "api_error"), [True, False, False]),
        (Seen("error-event", 200, "overloaded_error"), [True, True, True, False]),
        (Seen("silent", 200), [True, True, False]),
        (Seen("cut", 200), [True, True, True]),
        (error(529), [True, True, True]),
    ],
)
def test_some_faults_make_it_stop_streaming(seen: Seen, streamed: list[bool]) -> None:
    assert tries(seen)[2][: len(streamed)] == streamed
