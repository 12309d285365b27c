"""Incidents in the books: the last state of each, read back by any process."""

from __future__ import annotations

from typing import Any

from claude_proxy import ids
from claude_proxy.ledger.opening import Opener
from claude_proxy.ledger.options import IncidentRow
from claude_proxy.ledger.queries import Books
from claude_proxy.ledger.runs import Process, Unclean
from tests.ledger.books import NOW
from tests.ledger.places import Place


def incident(number: int, **values: Any) -> IncidentRow:
    fields = {"kind": "1305", "subject": "default", "text": "{}", "opened": NOW, "seen": NOW, "closed": None, "exchanges": 1}
    return IncidentRow(number, **(fields | values))


def read(place: Place, limit: int = 100) -> list[IncidentRow]:
    return Books(place.engine(reading=True), timeout=20, wall=place.clock).incidents(limit)


def test_the_last_state_of_each_incident_stays_and_the_newest_comes_first(place: Place) -> None:
    store = place.store()
    for row in (incident(1), incident(2), incident(1, exchanges=7, seen=NOW + 5), incident(2, closed=NOW + 9, text='{"a": 1}')):
        store.sample(row)
    store.close(0)
    assert read(place) == [incident(2, closed=NOW + 9, text='{"a": 1}'), incident(1, exchanges=7, seen=NOW + 5)]
    assert read(place, 1) == [incident(2, closed=NOW + 9, text='{"a": 1}')]


def test_a_process_that_was_found_dead_is_handed_on(place: Place) -> None:
    found: list[Unclean] = []
    place.store(Process("boot host 1", 4_000_000))
    store = Opener(
        place.options(), ids.Ids(), place.log, process=Process("boot host 1", 1), wall=place.clock, on_unclean=found.append
    )()
    store.close(0)
    assert [dead.started for dead in found] == [NOW]
