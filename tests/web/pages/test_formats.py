"""Numbers, durations, sizes and money in both languages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.web.pages import formats


@pytest.mark.parametrize(
    ("number", "english", "korean"),
    [
        (None, "–", "–"), (0, "0", "0"), (999, "999", "999"), (1000, "1k", "1,000"), (1234, "1.2k", "1,234"),
        (12_345, "12.3k", "1.2만"),
        (99_949, "99.9k", "10만"), (99_950, "100k", "10만"), (999_949, "1,000k", "100만"), (999_950, "1M", "100만"),
        (8_350_000, "8.3M", "835만"), (123_456_789, "123M", "1.2억"), (2_000_000_000, "2B", "20억"),
    ],
)  # fmt: skip
def test_a_number_in_few_characters(number: int | None, english: str, korean: str) -> None:
    assert formats.compact(number, "en") == english
    assert formats.compact(number, "ko") == korean


@pytest.mark.parametrize(
    ("ms", "english", "korean"),
    [
        (None, "–", "–"), (0, "0 ms", "0 ms"), (999, "999 ms", "999 ms"), (1000, "1.0 s", "1.0초"),
        (59_949, "59.9 s", "59.9초"),
        (59_950, "1 min", "1분"), (125_000, "2 min 5 s", "2분 5초"), (3_600_000, "1 h", "1시간"),
        (11_520_000, "3 h 12 min", "3시간 12분"),
        (187_200_000, "2 d 4 h", "2일 4시간"),
    ],
)  # fmt: skip
def test_a_duration(ms: int | None, english: str, korean: str) -> None:
    assert formats.duration(ms, "en") == english
    assert formats.duration(ms, "ko") == korean


@given(st.integers(0, 10**12))
def test_every_duration_and_number_can_be_written(number: int) -> None:
    for language in ("en", "ko"):
        assert formats.duration(number, language)
        assert len(formats.compact(number, language)) <= 8


@pytest.mark.parametrize(
    ("number", "shown"),
    [(None, "–"), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_300_000, "1.2 MiB"), (2**41, "2048.0 GiB")],
)
def test_a_size(number: int | None, shown: str) -> None:
    assert formats.size(number) == shown


@pytest.mark.parametrize(
    ("amount", "unpriced", "estimated", "shown"),
    [
        (0.0, 0, False, "$0.00"), (12.345, 0, False, "$12.35"), (1234.5, 0, False, "$1,234.50"), (0.01, 0, False, "$0.01"),
        (0.0042, 0, False, "$0.0042"), (0.000012, 0, False, "<$0.0001"), (2.5, 1, False, "≥ $2.50"), (2.5, 0, True, "~$2.50"),
        (None, 3, False, "unpriced"),
    ],
)  # fmt: skip
def test_money_is_never_a_zero_that_nobody_knows(amount: float | None, unpriced: int, estimated: bool, shown: str) -> None:
    assert formats.cost(amount, unpriced, estimated=estimated) == shown


@pytest.mark.parametrize(("ratio", "shown"), [(None, "–"), (0.0, "0%"), (0.004, "<1%"), (0.824, "82%"), (1.2, "120%")])
def test_a_share(ratio: float | None, shown: str) -> None:
    assert formats.share(ratio) == shown


@pytest.mark.parametrize(("number", "shown"), [(0, 0), (7, 7), (42, 42), (1234, 1200), (98_765, 99_000)])
def test_an_estimate_does_not_look_exact(number: int, shown: int) -> None:
    assert formats.round_off(number) == shown


def test_a_long_id_is_cut_and_a_name_is_not() -> None:
    assert formats.short("b07d1f0e2-77aa-4a5c") == "b07d1f0e…"
    assert formats.short("session-1") == "session-1"


def test_tokens_and_the_cached_share_of_a_usage() -> None:
    usage = {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 300, "cache_creation_input_tokens": None}
    assert formats.all_tokens(usage) == 420
    assert formats.cached(usage) == 0.75
    unknown = dict.fromkeys(usage)
    assert formats.all_tokens(unknown) is None
    assert formats.cached(unknown) is None
