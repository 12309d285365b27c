import pytest

from claude_proxy.web.negotiation import language_of, prefers_html
from tests.web.serving import BROWSER


@pytest.mark.parametrize(
    "accept",
    [BROWSER, "text/html", "TEXT/HTML; charset=utf-8", "application/xhtml+xml", "application/json;q=0.5, text/html;q=0.5"],
)
def test_who_names_html_gets_the_page(accept: str) -> None:
    assert prefers_html(accept)


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "application/json", "application/json, text/html;q=0.9", "text/html;q=0", "text/plain", ",;,", "text/html;q=0.0"],
)
def test_everybody_else_gets_json(accept: str) -> None:
    assert not prefers_html(accept)


@pytest.mark.parametrize("weight", ["q=nan", "q=inf", "q=-1", "q=2", "q=", "q=1.0000", "level=1"])
def test_an_unreadable_weight_counts_as_none(weight: str) -> None:
    assert prefers_html(f"text/html;{weight}")


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("ko", "ko"),
        ("ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7", "ko"),
        ("en-US,en;q=0.9,ko;q=0.8", "en"),
        ("de-DE,de;q=0.9,ko;q=0.3,en;q=0.2", "ko"),
        ("ko;q=0", "en"),
        ("kok-IN", "en"),
        ("*", "en"),
        ("en, ko", "en"),
    ],
)
def test_the_language_is_the_better_liked_of_the_two(header: str, language: str) -> None:
    assert language_of(header) == language


def test_a_choice_made_on_the_page_beats_the_header() -> None:
    assert language_of("ko", "en") == "en"
    assert language_of("en", "ko") == "ko"
    assert language_of("ko", "tlh") == "ko"
