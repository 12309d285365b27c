"""Price files: the user's own laid over ours, and what is said of one that cannot be used."""

import contextlib
import os
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.exchange import Usage
from claude_proxy.ledger.prices import PriceFileError, load, user_file
from claude_proxy.ledger.prices.read import parse

NOW = datetime.fromisoformat("2026-11-28T12:00:00+00:00").timestamp()
GLM_54 = '[[price]]\nprovider = "zai"\nmodel = "glm-5.4"\ninput = 2\noutput = 8\ncache_read = 0.4\n'
PACKAGED = load().prices


def own(folder: Path, text: str | bytes) -> Path:
    path = folder / "prices.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def cost(path: Path, usage: Usage, provider: str, model: str) -> int | None:
    loaded = load(path)
    assert loaded.problem is None
    return loaded.prices.cost(usage, provider, model, NOW).nano_dollars


def test_a_users_file_adds_a_model(tmp_path: Path) -> None:
    path = own(tmp_path, GLM_54)
    assert cost(path, Usage(1000, 1000, 1000), "zai", "glm-5.4") == 1000 * (2000 + 8000 + 400)
    assert cost(path, Usage(1000), "zai", "glm-5.3") == 1_400_000


def test_a_users_file_replaces_all_prices_of_a_model(tmp_path: Path) -> None:
    """The packaged ones with their dates are gone, and the id says whose price it is."""
    path = own(tmp_path, GLM_54.replace("glm-5.4", "GLM-5.3-Flash"))
    prices = load(path).prices
    for at in (0, NOW):
        found = prices.cost(Usage(1000), "zai", "glm-5.3-flash", at)
        assert found.nano_dollars == 2_000_000
        assert str(found.price_id).startswith("own:zai/GLM-5.3-Flash.")


def test_a_users_price_has_what_holds_for_its_provider(tmp_path: Path) -> None:
    path = own(tmp_path, '[[price]]\nprovider = "anthropic"\nmodel = "claude-next"\ninput = 1\noutput = 1\nfast = 1.5\n')
    assert cost(path, Usage(1000, web_searches=1, inference_geo="us", speed="fast"), "anthropic", "claude-next") == 11_650_000


def test_a_users_file_brings_its_own_host(tmp_path: Path) -> None:
    text = (
        '[provider.gateway]\nhosts = ["LLM.example.com"]\n[[price]]\nprovider = "gateway"\nmodel = "big"\ninput = 1\noutput = 2\n'
        '[provider.zai]\nhosts = ["open.bigmodel.cn"]\n'
    )
    prices = load(own(tmp_path, text)).prices
    hosts = ("llm.example.com", "open.bigmodel.cn", "api.z.ai")
    assert [prices.provider_of(host) for host in hosts] == ["gateway", "zai", "zai"]
    assert prices.cost(Usage(1000, 1000, 1000, 1000), "gateway", "big", NOW).nano_dollars == 1000 * (1000 + 2000 + 1000 + 1000)


def test_a_users_file_gives_credits_with_the_packaged_peak_hours(tmp_path: Path) -> None:
    text = (
        '[[credit]]\nprovider = "zai"\nmodel = "glm-5.4"\nfrom = 2026-11-24T00:00:00Z\n'
        'input = 9.2\ncached = 2.3\noutput = 32\nschedule = "zai-plan"\n'
    )
    prices = load(own(tmp_path, text)).prices
    assert prices.credits(Usage(10_000), "zai", "glm-5.4", NOW) == 4_600_000
    assert prices.credits(Usage(10_000), "zai", "glm-5.3", NOW) == 3_450_000


def test_the_latest_entry_that_has_begun_counts(tmp_path: Path) -> None:
    """In whatever order they stand."""
    rows = ""
    for moment, price in (("2026-06-01T00:00:00Z", 2), ("2026-09-01T08:00:00+08:00", 3), ("2026-01-01T00:00:00Z", 1)):
        rows += f'[[price]]\nprovider = "zai"\nmodel = "m"\nfrom = {moment}\ninput = {price}\noutput = 1\n'
    prices = load(own(tmp_path, rows)).prices
    moments = ("2025-12-31T23:59:59", "2026-01-01T00:00:00", "2026-08-31T23:59:59", "2026-09-01T00:00:00")
    stamps = [datetime.fromisoformat(moment + "+00:00").timestamp() for moment in moments]
    found = [prices.cost(Usage(1000), "zai", "m", stamp).nano_dollars for stamp in stamps]
    assert found == [None, 1_000_000, 2_000_000, 3_000_000]


def test_a_users_file_lies_in_the_configuration_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_file().name == "prices.toml"
    assert user_file().parent.name == "claude-proxy"
    assert user_file().is_relative_to(tmp_path) or os.name == "nt"


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    assert cost(own(tmp_path, b"\xef\xbb\xbf" + GLM_54.encode()), Usage(1000), "zai", "glm-5.4") == 2_000_000


def test_without_a_users_file_nothing_is_said(tmp_path: Path) -> None:
    assert load(tmp_path / "prices.toml").problem is None
    assert load(tmp_path / "nowhere" / "prices.toml").problem is None
    assert load(own(tmp_path, "")).problem is None


def row(**changes: str) -> str:
    fields = {"provider": '"zai"', "model": '"glm-5.4"', "input": "2", "output": "8", **changes}
    return "[[price]]\n" + "".join(f"{name} = {value}\n" for name, value in fields.items() if value)


CREDIT = '[[credit]]\nprovider = "zai"\nmodel = "m"\nfrom = 2026-01-01T00:00:00Z\ninput = 1\ncached = 1\noutput = 1\n'
SCHEDULE = "[schedule.own]\nhours = {hours}\npeak = {peak}\noff_peak = 1\nutc_offset = {offset}\n"


def schedule(hours: str = "[[9, 12]]", peak: str = "2", offset: str = "8") -> str:
    return SCHEDULE.format(hours=hours, peak=peak, offset=offset)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("price = [", "not valid TOML"),
        (b"\xff\xfe", "not UTF-8 text"),
        ("a = " + "[" * 5000, "not valid TOML"),
        ("prices = []", "unknown name `prices`"),
        ("price = 3", "price: expected `array`, got `int`"),
        (row(input='"two"'), "[[price]] 1 (zai/glm-5.4): input: expected a number"),
        (GLM_54 + row(model='"b"', input="true"), "[[price]] 2 (zai/b): input: expected `decimal`, got `bool`"),
        (row(input="-1"), "[[price]] 1 (zai/glm-5.4): input: expected a number from 0 to 1000000; got -1"),
        (row(input="nan"), "input: expected a number from 0 to 1000000; got NaN"),
        (row(input="inf"), "input: expected a number from 0"),
        (row(input="1e999999"), "input: expected a number from 0"),
        (row(output="0.0000001"), "output: 1E-7 has more decimal places than are counted"),
        (row(input=""), "[[price]] 1 (zai/glm-5.4): missing `input`"),
        (row(model=""), "[[price]] 1 (zai/?): missing `model`"),
        (row(cahce_read="1"), "[[price]] 1 (zai/glm-5.4): unknown name `cahce_read`"),
        (row(provider='"zia"'), "there is no provider 'zia'; describe it as [provider.zia] with its hosts"),
        (row(schedule='"night"'), "there is no schedule 'night'; describe it as [schedule.night]"),
        (CREDIT + 'schedule = "night"', "[[credit]] 1 (zai/m): there is no schedule 'night'"),
        (CREDIT.replace("input = 1", "input = 0.001") + 'schedule = "zai-plan"', "input: 0.001 has more decimal places"),
        (row(fast="-2"), "expected a factor from 0 to 1000"),
        (row(fast="1.0000001"), "expected a factor from 0 to 1000 with at most 6 decimal places"),
        (row(tiers="[{above = 5, factor = nan}]"), "expected a factor from 0 to 1000"),
        (row(tiers="[{above = 5, factor = 2}, {above = 5, factor = 3}]"), "tiers: expected each above the one before it"),
        (row(tiers="[{above = 5}]"), "[[price]] 1 (zai/glm-5.4): tiers[0]: missing `factor`"),
        (row(input="0.000001", tiers="[{above = 5, factor = 0.5}]"), "the factor leaves fractions"),
        (GLM_54 + GLM_54.replace("glm", "GLM"), "[[price]] 2 (zai/GLM-5.4): a second entry that is in force from the same time"),
        (row(**{"from": "2026-01-01"}), "[[price]] 1 (zai/glm-5.4): from: expected"),
        (row(**{"from": "2026-01-01T00:00:00"}), "from: expected a time with its zone, such as 2026-09-10T04:00:00Z"),
        ('[provider.zai]\nhost = "x"', "[provider.zai]: unknown name `host`"),
        ("provider = 3", "provider: expected `object`, got `int`"),
        ("provider.zai = 3", "[provider.zai]: expected `object`, got `int`"),
        ("[provider.zai]\nweb_search = -1", "[provider.zai]: web_search: expected a number"),
        ("[provider.zai]\ngeo = {us = inf}", "[provider.zai]: expected a factor"),
        (schedule(hours="[]"), "[schedule.own]: hours: expected spans such as [[9, 12], [14, 18]]"),
        (schedule(hours="[[14, 18], [9, 12]]"), "hours: expected spans"),
        (schedule(hours="[[9, 9]]"), "hours: expected spans"),
        (schedule(hours="[[-1, 9]]"), "hours: expected spans"),
        (schedule(hours="[[9, 25]]"), "hours: expected spans"),
        (schedule(hours="[[9]]"), "[schedule.own]: hours[0]: expected `array` of length 2, got 1"),
        (schedule(offset="24"), "utc_offset: expected hours from -23 to 23"),
        (schedule(peak="nan"), "[schedule.own]: expected a factor"),
        (schedule() + 'days = ["monday"]', "invalid enum value 'monday'"),
        (b" " * (1024 * 1024 + 1), "the file is larger than 1048576 bytes"),
    ],
)
def test_a_file_with_a_mistake_leaves_ours_in_force_and_says_where(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = own(tmp_path, text)
    loaded = load(path)
    assert loaded.problem is not None
    assert loaded.problem.startswith(f"{path}: ")
    assert words in loaded.problem
    assert loaded.problem.endswith(". The prices that come with claude-proxy stay in force.")
    assert "\n" not in loaded.problem
    assert loaded.prices.rows == PACKAGED.rows


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "prices.toml"
    folder.mkdir()
    loaded = load(folder)
    assert loaded.problem == f"{folder}: is a directory. The prices that come with claude-proxy stay in force."
    assert loaded.prices.rows == PACKAGED.rows


@pytest.mark.skipif(os.name != "posix", reason="needs a device that never ends")
def test_a_file_without_an_end_is_not_read_to_its_end() -> None:
    assert "larger than" in str(load(Path("/dev/zero")).problem)


def test_ids_differ_with_any_figure_and_stay_with_none() -> None:
    texts = [
        row(),
        row(input="3"),
        row(cache_read="1"),
        row(fast="2"),
        row(tiers="[{above = 5, factor = 2}]"),
        row(schedule='"own"') + schedule(),
        row(schedule='"own"') + schedule(peak="3"),
        row() + "[provider.zai]\nweb_search = 0.01",
    ]
    ids = [parse(text, base=PACKAGED.rows).prices["zai", "glm-5.4"][0].id for text in texts]
    assert len(set(ids)) == len(ids)
    assert ids[0] == parse(row(cache_read="2.0"), base=PACKAGED.rows).prices["zai", "glm-5.4"][0].id


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(PriceFileError):
        parse(text)
