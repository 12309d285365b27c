"""Request targets: the prefix, the root path, encodings, and what would leave the base path."""

from typing import Any

import pytest

from claude_proxy.errors import BadRequest
from claude_proxy.exchange import Kind
from claude_proxy.proxy.target import PREFIX, Target, below_prefix, is_probe, parse, raw_path


def scope(raw: bytes | None, root: str = "", path: str = "/unused") -> dict[str, Any]:
    made: dict[str, Any] = {"type": "http", "path": path, "root_path": root}
    if raw is not None:
        made["raw_path"] = raw
    return made


# -- raw_path and the prefix


@pytest.mark.parametrize(
    ("raw", "root", "expected"),
    [
        (b"/api/anthropic/v1/messages", "", b"/api/anthropic/v1/messages"),
        (b"/api/anthropic/v1/x%2Fy", "", b"/api/anthropic/v1/x%2Fy"),
        (b"/gw/api/anthropic/v1/messages", "/gw", b"/api/anthropic/v1/messages"),
        (b"/gw/gw/api/anthropic/v1/messages", "/gw", b"/api/anthropic/v1/messages"),
        (b"/gw/gw/gw/api/anthropic", "/gw/", b"/api/anthropic"),
        (b"/api/anthropic/v1/messages", "/gw", b"/api/anthropic/v1/messages"),
        (b"/api/api/anthropic/v1/messages", "/api", b"/api/anthropic/v1/messages"),
        (b"/api/anthropic/v1/messages", "/api", b"/api/anthropic/v1/messages"),
        (b"/a/b/a/b/api/anthropic", "/a/b", b"/api/anthropic"),
        (b"/api/anthropic/gw/gw", "/gw", b"/api/anthropic/gw/gw"),
        (b"/gw", "/gw", b""),
        (b"/other", "/gw", b"/other"),
        (b"/gw/docs", "/", b"/gw/docs"),
    ],
)
def test_the_root_path_is_taken_off_as_often_as_it_stands_there(raw: bytes, root: str, expected: bytes) -> None:
    assert raw_path(scope(raw, root)) == expected


def test_a_server_without_raw_path_gets_the_path_encoded_again() -> None:
    assert raw_path(scope(None, path="/api/anthropic/v1/a b/é")) == b"/api/anthropic/v1/a%20b/%C3%A9"
    assert raw_path(scope(b"", path="/api/anthropic/v1/messages:x")) == b"/api/anthropic/v1/messages:x"
    assert raw_path({"path": "/api/anthropic"}) == b"/api/anthropic"


@pytest.mark.parametrize("raw", [b"/api/anthropic", b"/api/anthropic/", b"/api/anthropic/v1/messages", b"/api/anthropic//x"])
def test_below_the_prefix(raw: bytes) -> None:
    assert below_prefix(scope(raw)) == raw[len(PREFIX) :]


@pytest.mark.parametrize(
    "raw",
    [b"", b"/", b"/api", b"/api/anthropicx", b"/api/anthropic%2Fv1", b"/API/anthropic", b"/x/api/anthropic", b"/api//anthropic"],
)
def test_beside_the_prefix(raw: bytes) -> None:
    assert below_prefix(scope(raw)) is None


def test_the_prefix_is_what_the_documents_say() -> None:
    assert PREFIX == "/api/anthropic"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("HEAD", b"", True),
        ("HEAD", b"/", True),
        ("HEAD", b"/api/hello", True),
        ("GET", b"/api/hello", True),
        ("POST", b"/api/hello", False),
        ("HEAD", b"/v1/models", False),
        ("GET", b"/api/hello/x", False),
    ],
)
def test_claude_codes_probes_are_known(method: str, path: bytes, expected: bool) -> None:
    assert is_probe(method, path) is expected


# -- parse


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/v1/messages", "messages"),
        ("GET", "/v1/messages", None),
        ("POST", "/v1/messages/", None),
        ("POST", "/v1/messages/count_tokens", "count_tokens"),
        ("GET", "/v1/messages/count_tokens", None),
        ("POST", "/v1/messages/batches", "batches"),
        ("GET", "/v1/messages/batches/b/results", "batches"),
        ("GET", "/v1/models", None),
        ("GET", "", None),
    ],
)
def test_the_kind_of_a_request_is_told_by_method_and_path(method: str, path: str, kind: str | None) -> None:
    assert parse(method, path.encode(), b"") == Target(path, path.encode(), Kind(kind or "other"))


@pytest.mark.parametrize("query", [b"beta=true", b"limit=1000&after_id=a%2Fb", b"x=../..", b"?", b"a=b?c", b"%00", b"a=%zz"])
def test_the_query_goes_on_as_it_came_and_decides_nothing(query: bytes) -> None:
    target = parse("POST", b"/v1/messages", query)
    assert target.path_and_query == b"/v1/messages?" + query
    assert (target.path, target.kind) == ("/v1/messages", Kind.MESSAGES)


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/files/a%2Fb",
        b"/v1/files/a%20b%C3%A9",
        b"/v1/files/%7euser",
        b"/v1/%6dessages",
        b"//v1//messages",
        b"/v1/files/report.v1.2.pdf",
        b"/v1/files/..hidden",
        b"/v1/files/a..b",
        b"/v1/files/...",
        b"/v1/files/.well-known",
        b"/v1/models/glm-5.3",
        b"/v1/files/%2e%2e%2e",
        b"/v1/files/a%2eb",
        b"/v1/skills/x:archive;v=1",
        b"/v1/files/%25",
        b"/v1/files/a%2Bb+c",
        b"/v1/f('x')!$&,=@[]|^`{}<>\"",
    ],
)
def test_percent_encoding_and_odd_characters_are_kept(path: bytes) -> None:
    target = parse("GET", path, b"")
    assert target.path_and_query == path
    assert target.path == path.decode()


SEPARATORS = [b"/", b"\\", b"%2f", b"%2F", b"%5c", b"%5C"]
DOTS = [b".", b"..", b"%2e", b"%2E%2e", b".%2E", b"%2e."]


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("dots", DOTS)
def test_dot_segments_are_refused_in_every_encoding(separator: bytes, dots: bytes) -> None:
    for path in (
        b"/v1" + separator + dots,
        b"/v1" + separator + dots + b"/x",
        b"/v1/" + dots + separator + b"x",
        b"/" + dots,
        dots + separator + b"x",
        b"/v1/" + dots + b";jsessionid=1/x",
        b"/v1/" + dots + b"%3B/x",
    ):
        with pytest.raises(BadRequest) as caught:
            parse("GET", path, b"")
        assert caught.value.code == "bad_path"


@pytest.mark.parametrize("bad", [b" ", b"\t", b"\r\n", b"\n", b"\0", b"\x7f", b"\x80", b"\xc3\xa9", b"\x1f"])
def test_raw_bytes_that_no_url_may_hold_are_refused(bad: bytes) -> None:
    for path, query in ((b"/v1/a" + bad + b"b", b""), (b"/v1/a", b"x=" + bad)):
        with pytest.raises(BadRequest) as caught:
            parse("GET", path, query)
        assert caught.value.code == "bad_path"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (b"/v1/a%00b", "The request path holds %00, a NUL, which no path of the API has. The client has to leave it out."),
        (b"/v1/a#b", "The request path holds characters that no URL may hold. The client has to encode them."),
    ],
)
def test_an_encoded_nul_and_a_fragment_are_refused_each_in_its_own_words(path: bytes, said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse("GET", path, b"")
    assert (caught.value.message, caught.value.code) == (said, "bad_path")
