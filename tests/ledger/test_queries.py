"""Reading the books: pages, one exchange, sessions, and sums that equal the rows whatever the group and the zone."""

import sqlite3
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo

import msgspec
import pytest

from claude_proxy import ids
from claude_proxy.exchange import Attempt, Failure, Kind, Outcome, Usage
from claude_proxy.ledger import periods
from claude_proxy.ledger.options import Options
from claude_proxy.ledger.queries import MAX_LIMIT, Books, NotReadable, TooSlow
from claude_proxy.ledger.record import Charge
from claude_proxy.ledger.usage import BY, DIMENSIONS, Dimension
from tests.ledger.books import NOW, WALL, entry, write_all
from tests.ledger.places import Place

QUARTER = 900_000
TOKENS = {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 3000, "cache_creation_input_tokens": 40}


@pytest.fixture
def books(place: Place) -> Books:
    place.store().close(0)
    return Books(place.engine(reading=True), timeout=20, wall=place.clock)


def at(text: str, zone: str = "UTC") -> int:
    """Unix milliseconds of a local time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def fill(place: Place, entries: list[Any]) -> list[str]:
    """Write rows; their ids as readers see them."""
    store = place.store()
    write_all(store, entries)
    store.close(0)
    return [ids.encode(item.record.id) for item in entries]


# -- exchanges


def test_the_last_exchanges_come_page_by_page_newest_first(place: Place, books: Books) -> None:
    made = fill(place, [entry(NOW + number) for number in range(25)])
    seen: list[str] = []
    before = None
    for expected in (10, 10, 5):
        page = books.exchanges(10, before)
        assert len(page["items"]) == expected
        seen += [item["id"] for item in page["items"]]
        before = page["next"]
    assert before is None
    assert seen == made[::-1]


def test_a_page_that_is_just_full_is_the_last(place: Place, books: Books) -> None:
    fill(place, [entry() for _ in range(10)])
    assert books.exchanges(10)["next"] is None


def test_rows_that_come_meanwhile_do_not_move_the_next_page(place: Place, books: Books) -> None:
    made = fill(place, [entry(NOW + number) for number in range(4)])
    page = books.exchanges(2)
    fill(place, [entry(NOW + 100)])
    assert [item["id"] for item in books.exchanges(2, page["next"])["items"]] == made[1::-1]


def test_an_item_says_what_scripts_rely_on(place: Place, books: Books) -> None:
    (made,) = fill(place, [entry(charge=Charge(1_234_567_890, None, "glm-5.3 2026-08"), agent="helper", ended=53.25)])
    (item,) = books.exchanges()["items"]
    expected = {
        "id": made,
        "started_at": "2026-09-21T14:13:20.000Z",
        "session": "session-1",
        "agent": "helper",
        "model": "glm-5.3",
        "status": 200,
        "outcome": "completed",
        "cost_usd": 1.23456789,
        "first_byte_ms": 750,
        "duration_ms": 3250,
        "price": "glm-5.3 2026-08",
        "credits": None,
        "failure": None,
    }
    assert {key: item[key] for key in expected} == expected
    assert {key: item["usage"][key] for key in TOKENS} == TOKENS


def test_an_exchange_without_a_price_has_no_cost(place: Place, books: Books) -> None:
    fill(place, [entry()])
    assert books.exchanges()["items"][0]["cost_usd"] is None


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ({"session": "one"}, [0, 3]),
        ({"session": ""}, [2]),
        ({"session": "never"}, []),
        ({"model": "glm-5.3"}, [0, 1, 3]),
        ({"model": "never"}, []),
        ({"status": "429"}, [1]),
        ({"status": "4xx"}, [1]),
        ({"status": "5xx"}, [3]),
        ({"status": "failed"}, [1, 3]),
        ({"status": "200", "session": "one"}, [0]),
        ({"session": "one", "model": "claude-opus-5-5"}, []),
    ],
)
def test_exchanges_are_chosen(place: Place, books: Books, question: dict[str, str], found: list[int]) -> None:
    made = fill(
        place,
        [
            entry(session="one"),
            entry(session="two", status=429, failure=Failure("upstream", "rate_limit_error", "Slow down", "1302")),
            entry(session=None, model="claude-opus-5-5"),
            entry(session="one", status=502, outcome=Outcome.FAILED),
        ],
    )
    assert [item["id"] for item in books.exchanges(**question)["items"]] == [made[number] for number in found][::-1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"limit": 0}, f"limit=0: expected a whole number from 1 to {MAX_LIMIT}"),
        ({"limit": MAX_LIMIT + 1}, "expected a whole number from 1"),
        ({"before": "yesterday"}, "'yesterday' is not an exchange id"),
        ({"status": "bad"}, "status='bad': expected a number such as 429, a class such as 5xx, or failed"),
        ({"status": "9xx"}, "expected a number such as 429"),
        ({"status": "２００"}, "expected a number such as 429"),
    ],
)
def test_a_question_that_means_nothing_is_a_sentence(books: Books, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        books.exchanges(**arguments)


def test_one_exchange_comes_with_its_attempts_and_its_project(place: Place, books: Books) -> None:
    refused = Attempt("default", 50.0, status=529, failure=Failure("upstream", "overloaded_error", "Overloaded", "1305"))
    attempts = [refused, Attempt("second", 51.0, reused=True, head_at=51.5, status=200)]
    row = entry(attempts=attempts)
    row.record = msgspec.structs.replace(row.record, project="claude-proxy")
    (made,) = fill(place, [row])
    found = books.exchange(made.upper().replace("0", "O"))  # as a person types it
    assert found is not None
    assert found["project"] == "claude-proxy"
    assert [(item["upstream"], item["status"], item["sent_ms"], item["head_ms"]) for item in found["attempts"]] == [
        ("default", 529, 0, None),
        ("second", 200, 1000, 1500),
    ]
    assert found["attempts"][0]["failure"] == {
        "side": None,
        "kind": "overloaded_error",
        "message": "Overloaded",
        "provider_code": "1305",
    }
    assert found["attempts"][1]["reused_connection"]


def test_an_exchange_that_is_not_there_is_none(books: Books) -> None:
    assert books.exchange("cp_0000000000000") is None


# -- sessions


def test_sessions_come_by_their_last_activity_with_their_agents(place: Place, books: Books) -> None:
    fill(
        place,
        [
            entry(NOW, session="one", charge=Charge(10**9)),
            entry(NOW + 60_000, session="two", model="claude-opus-5-5"),
            entry(NOW + 3 * QUARTER, session="one", agent="helper", charge=Charge(5 * 10**8), ended=51.0),
        ],
    )
    page = books.sessions()
    assert [item["session"] for item in page["items"]] == ["one", "two"]
    one = page["items"][0]
    assert (one["exchanges"], one["cost_usd"], one["input_tokens"]) == (2, 1.5, 200)
    assert (one["first_seen"], one["last_seen"]) == ("2026-09-21T14:13:20.000Z", "2026-09-21T14:58:21.000Z")
    assert [(agent["agent"], agent["cost_usd"]) for agent in one["agents"]] == [(None, 1.0), ("helper", 0.5)]
    assert page["items"][1]["cost_usd"] is None
    assert page["items"][1]["models"] == ["claude-opus-5-5"]
    assert books.session("one") == one
    assert books.session("never") is None


def test_sessions_come_page_by_page_also_where_times_are_equal(place: Place, books: Books) -> None:
    fill(place, [entry(NOW, session=f"session-{number}") for number in range(7)])
    seen: list[str] = []
    before = None
    for _ in range(4):
        page = books.sessions(2, before)
        seen += [item["session"] for item in page["items"]]
        before = page["next"]
    assert before is None
    assert sorted(seen) == [f"session-{number}" for number in range(7)]


@pytest.mark.parametrize("cursor", ["", "x", "1-", "-1", "1-2-3", "1-x", "9" * 40 + "-1"])
def test_a_cursor_that_is_none_is_a_sentence(books: Books, cursor: str) -> None:
    with pytest.raises(ValueError, match="expected the `next` of the page before"):
        books.sessions(before=cursor)


def test_a_sessions_sums_say_which_exchanges_are_in_them(place: Place, books: Books) -> None:
    mine = fill(place, [entry(NOW + number * QUARTER, session="mine", charge=Charge(7)) for number in range(3)])
    fill(place, [entry(NOW, session="another")])
    missing = ids.encode(ids.first_of(NOW))
    sums, present = books.session_sums("mine", [*mine[1:], missing])
    assert present == frozenset(mine[1:])
    assert [sums[key] for key in ("exchanges", "input", "output", "cache_read", "cache_write_5m")] == [3, 300, 60, 9000, 120]
    assert (sums["cost_nano"], sums["priced"], sums["unpriced"]) == (21, 3, 0)
    assert books.session_sums("mine", []) == (sums, frozenset())


def test_a_session_that_is_not_there_has_no_sums(books: Books) -> None:
    sums, present = books.session_sums("nobody", [ids.encode(ids.first_of(NOW))])
    assert set(sums.values()) == {0}
    assert present == frozenset()


# -- sums


def many(count: int = 400) -> list[Any]:
    """Rows over six days, of every sort."""
    return [
        entry(
            NOW + number * 1_260_000,
            session=f"session-{number % 7}" if number % 5 else None,
            agent="helper" if number % 3 == 0 else None,
            model=("glm-5.3", "claude-opus-5-5", "claude-haiku-5-5")[number % 3],
            client=("127.0.0.1", "10.0.0.7")[number % 2],
            kind=(Kind.MESSAGES, Kind.MESSAGES, Kind.COUNT_TOKENS, Kind.OTHER)[number % 4],
            outcome=Outcome.CANCELLED if number % 11 == 0 else Outcome.COMPLETED,
            status=529 if number % 13 == 0 else 200,
            usage=None if number % 13 == 0 else Usage(number, number * 2, number * 3, number * 5, None, number),
            charge=Charge(number * 7 if number % 6 else None, number * 3 if number % 2 else None, "p"),
        )
        for number in range(count)
    ]


def expected(entries: list[Any]) -> dict[str, Any]:
    """What the sums of these rows must be."""
    sums: Counter[str] = Counter()
    priced = credited = False
    for item in entries:
        record, price = item.record, item.charge
        if record.kind == "messages":
            sums.update(exchanges=1, failed=record.failed, cancelled=record.cancelled)
        sums.update(input=record.input or 0, output=record.output or 0, read=record.cache_read or 0)
        sums.update(write=(record.cache_write_5m or 0) + (record.cache_write_1h or 0))
        sums.update(cost=price.cost_nano or 0, credits=price.credits_micro or 0)
        sums.update(unpriced=price.cost_nano is None and record.used)
        priced |= price.cost_nano is not None
        credited |= price.credits_micro is not None
    return {
        "exchanges": sums["exchanges"],
        "failed": sums["failed"],
        "cancelled": sums["cancelled"],
        "input_tokens": sums["input"],
        "output_tokens": sums["output"],
        "cache_read_input_tokens": sums["read"],
        "cache_creation_input_tokens": sums["write"],
        "cost_usd": sums["cost"] / 1e9 if priced or not sums["unpriced"] else None,
        "unpriced_exchanges": sums["unpriced"],
        "credits": sums["credits"] / 1e6 if credited else None,
    }


def assert_sums(found: dict[str, Any], entries: list[Any]) -> None:
    wanted = expected(entries)
    assert {key: found[key] for key in wanted} == wanted


TIME_KEYS = {"hour": "%Y-%m-%dT%H:00", "day": "%Y-%m-%d", "month": "%Y-%m"}


@pytest.mark.parametrize("zone", ["UTC", "Asia/Seoul", "Asia/Kathmandu", "America/New_York"])
@pytest.mark.parametrize("by", ["hour", "day", "month"])
def test_sums_by_time_are_those_of_the_rows_of_that_local_time(place: Place, books: Books, by: Any, zone: str) -> None:
    made = many()
    fill(place, made)
    found = books.usage(by, timezone=zone)
    assert_sums(found["totals"], made)
    where = ZoneInfo(zone)
    groups: dict[str, list[Any]] = {}
    for item in made:
        local = datetime.fromtimestamp((item.record.id >> 22) / 1000, where)
        groups.setdefault(local.strftime(TIME_KEYS[by]), []).append(item)
    assert [group["key"][: len(key)] for group, key in zip(found["groups"], sorted(groups), strict=True)] == sorted(groups)
    for group, key in zip(found["groups"], sorted(groups), strict=True):
        assert_sums(group, groups[key])


@pytest.mark.parametrize("by", [by for by in get_args(Dimension) if by not in ("project", "class")])
def test_sums_by_what_is_known_of_an_exchange_are_those_of_its_rows(place: Place, books: Books, by: Any) -> None:
    made = many()
    fill(place, made)
    found = books.usage(by, breakdown=True)
    assert_sums(found["totals"], made)
    groups: dict[str | None, list[Any]] = {}
    for item in made:
        groups.setdefault(getattr(item.record, by), []).append(item)
    assert {group["key"] for group in found["groups"]} == set(groups)
    for group in found["groups"]:
        assert_sums(group, groups[group["key"]])
        assert group["models"] == sorted({item.record.model for item in groups[group["key"]]})
        assert len(group["breakdown"]) == len(group["models"])
        for part in group["breakdown"]:
            assert_sums(part, [item for item in groups[group["key"]] if item.record.model == part["model"]])
    costs = [group["cost_usd"] or 0 for group in found["groups"]]
    assert costs == sorted(costs, reverse=True)


def test_projects_are_those_of_their_sessions(place: Place, books: Books) -> None:
    made = [entry(session="one"), entry(session="two"), entry(session="three"), entry(session=None)]
    for item, project in zip(made, ["here", "here", None, None], strict=True):
        item.record = msgspec.structs.replace(item.record, project=project)
    made.append(entry(session="one"))  # a later exchange that does not say it changes nothing
    fill(place, made)
    found = books.usage("project")
    assert {group["key"]: group["exchanges"] for group in found["groups"]} == {"here": 3, None: 2}
    assert books.usage("day", filters={"project": "here"})["totals"]["exchanges"] == 3
    assert {item["session"] for item in books.sessions(project="here")["items"]} == {"one", "two"}
    assert books.sessions(project="never")["items"] == []


@pytest.mark.parametrize(
    ("filters", "keep"),
    [
        ({"session": "session-1"}, lambda record: record.session == "session-1"),
        ({"session": ""}, lambda record: record.session is None),
        ({"model": "glm-5.3"}, lambda record: record.model == "glm-5.3"),
        ({"agent": "helper", "client": "10.0.0.7"}, lambda record: record.agent == "helper" and record.client == "10.0.0.7"),
        ({"upstream": "never"}, lambda record: False),
    ],
)
@pytest.mark.parametrize("by", ["day", "model", "session"])
def test_a_filter_scopes_the_numbers_not_only_the_groups(
    place: Place, books: Books, by: Any, filters: dict[Dimension, str], keep: Any
) -> None:
    made = many()
    fill(place, made)
    found = books.usage(by, filters=filters)
    assert_sums(found["totals"], [item for item in made if keep(item.record)])


def test_a_time_is_cut_at_quarter_hours(place: Place, books: Books) -> None:
    made = [entry(at("2026-09-21T14:00") + number * QUARTER) for number in range(8)]
    fill(place, made)
    found = books.usage("day", since=at("2026-09-21T14:20") / 1000, until=at("2026-09-21T15:10") / 1000)
    assert (found["from"], found["to"]) == ("2026-09-21T14:15:00+00:00", "2026-09-21T15:15:00+00:00")
    assert found["totals"]["exchanges"] == 4


def test_a_session_is_summed_over_the_time_that_was_asked_not_over_its_life(place: Place, books: Books) -> None:
    fill(place, [entry(NOW, session="one"), entry(NOW + 86_400_000, session="one")])
    found = books.usage("session", since=WALL + 3600)
    assert found["groups"][0]["exchanges"] == 1


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [("America/New_York", "2026-03-08", 23), ("America/New_York", "2026-11-01", 25), ("UTC", "2026-03-08", 24)],
)
def test_a_day_on_which_clocks_change_has_its_exchanges_and_no_other(
    place: Place, books: Books, zone: str, day: str, hours: int
) -> None:
    start = at(day + "T00:00", zone)
    fill(place, [entry(start - 1 + number * 3_600_000) for number in range(hours + 2)])  # the first is of the day before
    groups = {group["key"]: group["exchanges"] for group in books.usage("day", timezone=zone)["groups"]}
    assert groups[day] == hours
    assert sum(groups.values()) == hours + 2


@pytest.mark.parametrize("by", BY)
def test_groups_are_the_same_with_and_without_their_breakdown(place: Place, books: Books, by: Any) -> None:
    fill(place, many())
    plain, broken_down = books.usage(by), books.usage(by, breakdown=True)
    assert all(group.pop("breakdown") for group in broken_down["groups"])
    assert plain == broken_down
    assert "more" not in plain


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 1000])
@pytest.mark.parametrize("breakdown", [False, True])
@pytest.mark.parametrize("filters", [{}, {"model": "glm-5.3"}, {"upstream": "never"}], ids=str)
@pytest.mark.parametrize("by", [by for by in BY if by != "week"])
def test_a_limit_leaves_out_the_smallest_or_oldest_groups_and_nothing_of_the_totals(
    ranked: Books, by: Any, filters: dict[Dimension, str], breakdown: bool, limit: int
) -> None:
    whole = ranked.usage(by, filters=filters, breakdown=breakdown)
    found = ranked.usage(by, filters=filters, breakdown=breakdown, limit=limit)
    groups = whole["groups"]
    assert found["groups"] == (groups[:limit] if by in DIMENSIONS else groups[-limit:])
    assert found["more"] == max(0, len(groups) - limit)
    assert found["totals"] == whole["totals"]


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Books:
    """Books in which no two groups cost the same; some have no session, no project, no price."""
    place = Place(tmp_path_factory.mktemp("ranked"), None)
    made = []
    for number in range(64):
        word = str(number % 7)
        names = {"session": word if number % 7 else None, "agent": word if number % 5 else None, "client": word}
        priced = number % 11 != 0
        item = entry(
            NOW + number * 7 * QUARTER,
            model=("glm-5.3", "glm-5.3-flash", "nobody")[number % 3],
            upstream=word,
            account=word,
            request_class=word,
            charge=Charge(2**number if number < 50 else number, None, "p") if priced else Charge(),
            **names,
        )
        item.record = msgspec.structs.replace(item.record, project=f"p{number % 7}" if number % 7 > 2 else None)
        made.append(item)
    fill(place, made)
    return Books(place.engine(reading=True), timeout=20, wall=place.clock)


@pytest.mark.parametrize("limit", [0, -1, MAX_LIMIT + 1])
def test_a_limit_that_cannot_be_used_is_a_sentence(books: Books, limit: int) -> None:
    with pytest.raises(ValueError, match="expected a whole number from 1 to 1000"):
        books.usage("session", limit=limit)


def test_the_largest_groups_are_found_in_every_database(place: Place, books: Books) -> None:
    made = [
        entry(NOW + number, session=f"s{number}", model=f"m{number % 2}", charge=Charge(number, None, "p"))
        for number in range(30)
    ]
    fill(place, made)
    for by, keys in (("session", ["s29", "s28", "s27"]), ("day", ["2026-09-21"])):
        found = books.usage(by, limit=3)  # type: ignore[arg-type]
        assert [group["key"] for group in found["groups"]] == keys
        assert found["more"] == (27 if by == "session" else 0)
        assert_sums(found["totals"], made)


@pytest.mark.parametrize("by", ["hour", "day"])
@pytest.mark.parametrize(
    ("zone", "around"),
    [
        ("Australia/Lord_Howe", "2026-10-04"),  # clocks change by half an hour, so an hour has two quarters
        ("Australia/Lord_Howe", "2026-04-05"),  # and here six
        ("America/New_York", "2026-11-01"),
        ("Asia/Kathmandu", "2026-10-04"),
        ("UTC", "2026-10-04"),
    ],
)
def test_every_quarter_hour_around_a_change_of_clocks_is_in_its_period(
    place: Place, books: Books, by: Any, zone: str, around: str
) -> None:
    start = at(around + "T00:00") - 30 * 3_600_000 + 7 * 60_000
    made = [entry(start + number * QUARTER) for number in range(60 * 4)]
    fill(place, made)
    buckets = [(item.record.id >> 22) // QUARTER for item in made]
    spans = periods.spans(by, buckets[0], buckets[-1] + 1, ZoneInfo(zone))
    wanted = {span.key: sum(span.first <= bucket < span.end for bucket in buckets) for span in spans}
    assert {group["key"]: group["exchanges"] for group in books.usage(by, timezone=zone)["groups"]} == wanted


def test_an_empty_ledger_has_empty_sums(place: Place, books: Books) -> None:
    found = books.usage("day", timezone="Asia/Seoul")
    assert found["groups"] == []
    assert found["totals"]["exchanges"] == 0
    assert found["totals"]["cost_usd"] == 0
    assert found["timezone"] == "Asia/Seoul"
    assert books.exchanges() == {"items": [], "next": None}
    assert books.sessions() == {"items": [], "next": None}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"by": "minute"}, "'minute' is nothing to group or filter by: expected one of hour, day, week, month, window, session"),
        ({"filters": {"day": "x"}}, "'day' is nothing to group or filter by: expected one of session, project"),
        ({"timezone": "Mars/Olympus"}, "is not a time zone known here"),
    ],
)
def test_sums_of_nothing_are_a_sentence(books: Books, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        books.usage(**arguments)


# -- the way there


def test_a_question_that_takes_too_long_is_stopped(place: Place) -> None:
    fill(place, many(2000))
    with pytest.raises(TooSlow, match=r"took longer than 1e-09 s. Ask for a shorter time"):
        impatient(place).usage("session")


@pytest.mark.parametrize("more", [{}, {"limit": 3}, {"breakdown": True}], ids=str)
@pytest.mark.parametrize("by", ["session", "hour", "project"])
def test_a_question_is_stopped_wherever_it_is(tmp_path: Path, by: Any, more: dict[str, Any]) -> None:
    """Also while rows are read: SQLite computes them as they are fetched."""
    place = Place(tmp_path)
    fill(place, [entry(NOW + number * QUARTER, session=f"s{number % 40}") for number in range(400)])
    left = [0]

    class Interrupted(Books):
        def _bound(self, connection: Any, deadline: float) -> None:
            def step() -> bool:
                left[0] -= 1
                return left[0] < 0

            connection.connection.driver_connection.set_progress_handler(step, 100)

    stopped, steps = 0, 0
    while True:
        steps += max(1, steps // 20)
        left[0] = steps
        try:
            Interrupted(place.engine(reading=True), wall=place.clock).usage(by, **more)
        except TooSlow:
            stopped += 1
        else:
            break
    assert stopped > 20


def impatient(place: Place) -> Books:
    class Impatient(Books):
        def _bound(self, connection: Any, deadline: float) -> None:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL statement_timeout = 1")
                connection.exec_driver_sql("SELECT pg_sleep(1)")
            else:
                connection.connection.driver_connection.set_progress_handler(lambda: True, 1)

    return Impatient(place.engine(reading=True), timeout=1e-9)


def test_a_folder_without_a_ledger_says_so_and_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(NotReadable, match="the database file cannot be opened"):
        Books.open(Options(tmp_path)).exchanges()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_no_ledger_yet(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").touch()
    with pytest.raises(NotReadable, match="no ledger here yet"):
        Books.open(Options(tmp_path)).exchanges()


def test_readers_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    place = Place(tmp_path)
    fill(place, [entry()])
    writer = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM exchange")
    assert len(Books.open(place.options()).exchanges()["items"]) == 1
    writer.close()


def test_a_reader_never_writes(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.store().close(0)
    with place.engine(reading=True).connect() as connection, pytest.raises(Exception, match="readonly"):
        connection.exec_driver_sql("DELETE FROM exchange")


def test_times_are_written_in_utc(place: Place, books: Books) -> None:
    fill(place, [entry(at("2026-09-21T23:59:59.999"))])
    assert books.exchanges()["items"][0]["started_at"] == "2026-09-21T23:59:59.999Z"
    assert datetime.fromisoformat(books.exchanges()["items"][0]["started_at"]).tzinfo is UTC


# -- by time


def test_exchanges_of_a_time(place: Place, books: Books) -> None:
    made = fill(place, [entry(NOW + number * 1000) for number in range(5)])
    found = books.exchanges(since=WALL + 1, until=WALL + 4)
    assert [item["id"] for item in found["items"]] == made[3:0:-1]
    assert books.exchanges(since=WALL + 5)["items"] == []
    assert books.exchanges(until=WALL)["items"] == []


def test_exchanges_are_found_by_their_end_in_its_order(place: Place, books: Books) -> None:
    """The first began before the others and ended after them; the last took longer than anything is looked for."""
    made = fill(
        place,
        [
            entry(NOW - 3_600_000, started=0.0, ended=3_650.0),
            entry(NOW, started=0.0, ended=2.0),
            entry(NOW + 1000, started=0.0, ended=0.5),
            entry(NOW - 60_000, started=0.0, ended=1.0),
            entry(NOW - 8 * 3_600_000, started=0.0, ended=8 * 3600 + 60.0),
        ],
    )
    assert [item["id"] for item in books.ended_since(WALL)] == [made[2], made[1], made[0]]
    assert [item["id"] for item in books.ended_since(WALL + 1.9)] == [made[1], made[0]]
    assert [item["id"] for item in books.ended_since(WALL, 2)] == [made[1], made[0]], "the latest"
    assert books.ended_since(WALL + 100) == []
