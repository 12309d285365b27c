"""A link to a session leads to it, whatever its name, as browsers resolve links."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.web.pages.links import session_link

BASE = "http://proxy.example/any/prefix/exchanges/"


def followed(link: str) -> tuple[str, dict[str, list[str]]]:
    """The path below the prefix and the query, where a link in a page of `exchanges/` leads."""
    url = urlsplit(str(httpx.URL(BASE).join(f"../{link}")))
    return url.path.removeprefix("/any/prefix"), parse_qs(url.query, keep_blank_values=True)


@pytest.mark.parametrize("name", ["session-1", "0b1f2c3d-7f1b-4c8e-9a55-0123456789ab", "a.b", "a_b~c", "-", "9"])
def test_a_usual_name_is_in_the_path(name: str) -> None:
    assert followed(session_link(name)) == (f"/sessions/{name}", {})
    assert followed(session_link(name, agent="a b", before=None)) == (f"/sessions/{name}", {"agent": ["a b"]})


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "...", "/", "//", "a/b", "../../etc", "%2F", "%2e%2e", "%2E.", "?", "a?b=c#d", "#", "&id=x", "\\"),
        *("a\\b", "ä 100%", "a;b", ":", "한국", "😀", "~", ".hidden"),
    ],
)
def test_an_odd_name_is_in_the_query(name: str) -> None:
    assert followed(session_link(name)) == ("/session", {"id": [name]})
    assert followed(session_link(name, agent="..", before="cp_1")) == (
        "/session",
        {"id": [name], "agent": [".."], "before": ["cp_1"]},
    )


def test_what_has_no_session_has_an_address_too() -> None:
    assert session_link(None) == session_link("") == "session?id="


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=100))
def test_no_name_leads_elsewhere(name: str) -> None:
    path, query = followed(session_link(name))
    assert (path, query) == ("/session", {"id": [name]}) or (unquote(path), query) == (f"/sessions/{name}", {})
