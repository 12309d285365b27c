"""The tree of errors: its docstring is the table, and one place renders it."""

import inspect
import json
import re

import pytest

from claude_proxy import errors
from claude_proxy.errors import NoTurn, ProxyError, RequestError, Unavailable, UpstreamError, render

CLASSES = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, ProxyError)}
DRAWN = re.findall(r"[├└]── (\w+)\s+(\S+)", errors.__doc__ or "")
LEAVES = re.findall(r"[├└]── (\w+)\s+(\d{3}) (\w+_\w+)", errors.__doc__ or "")
ANTHROPIC = {
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "api_error",
    "timeout_error",
    "overloaded_error",
}


def test_the_drawn_tree_names_every_class() -> None:
    assert {name for name, _ in DRAWN} | {"ProxyError"} == set(CLASSES)


@pytest.mark.parametrize(("name", "status", "kind"), LEAVES)
def test_status_and_type_are_as_drawn(name: str, status: str, kind: str) -> None:
    assert (CLASSES[name].status, CLASSES[name].type) == (int(status), kind)


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_the_side_fits_the_branch_and_the_type_is_anthropics(kind: type[ProxyError]) -> None:
    assert kind.type in ANTHROPIC
    if issubclass(kind, RequestError):
        assert (kind.side, kind.status // 100) == ("client", 4)
    else:
        # NoTurn is the upstream's limit, said in the API's own way.
        assert kind.status == 429 if kind is NoTurn else kind.status // 100 == 5
        assert kind.side in (("upstream", "proxy") if issubclass(kind, UpstreamError) else ("proxy",))


def test_codes_are_distinct_words() -> None:
    codes = [kind.code for kind in CLASSES.values()]
    assert all(re.fullmatch(r"[a-z_]+", code) for code in codes)
    assert len(set(codes)) == len(codes) - 1  # RequestError and BadRequest share one


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_every_error_renders_as_an_envelope_marked_as_ours(kind: type[ProxyError]) -> None:
    rendered = render(kind('What failed: "it". 무엇을.'), "cp_12")
    headers = dict(rendered.headers)
    assert rendered.status == kind.status
    assert json.loads(rendered.body) == {
        "type": "error",
        "error": {"type": kind.type, "message": 'What failed: "it". 무엇을.'},
        "request_id": "cp_12",
    }
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"x-claude-proxy-error"] == kind.code.encode()
    assert headers[b"request-id"] == b"cp_12"
    assert headers[b"content-length"] == b"%d" % len(rendered.body)
    hint = {None: None, True: b"true", False: b"false"}[kind.should_retry]
    assert headers.get(b"x-should-retry") == hint
    assert headers.get(b"retry-after") == (None if kind.retry_after is None else b"%d" % kind.retry_after)
    assert (headers.get(b"www-authenticate") == b'Bearer realm="claude-proxy"') is (kind.status == 401)
    assert (b"www-authenticate" in headers) is (kind.status == 401)
    assert len(headers) == len(rendered.headers)


def test_hints_can_be_switched_off() -> None:
    for error in (Unavailable("full"), RequestError("no")):
        names = {name for name, _ in render(error, hints=False).headers}
        assert names == {b"content-type", b"x-claude-proxy-error", b"content-length"}


def test_a_hint_to_try_again_is_true() -> None:
    error = ProxyError("soon")
    error.should_retry = True
    assert (b"x-should-retry", b"true") in render(error).headers


def test_without_an_id_none_is_named() -> None:
    rendered = render(ProxyError("x"))
    assert "request_id" not in json.loads(rendered.body)
    assert b"request-id" not in dict(rendered.headers)


def test_a_code_of_its_own_marks_one_error_and_not_its_class() -> None:
    error = RequestError("no", code="special")
    assert (error.code, RequestError("no").code, RequestError.code) == ("special", "bad_request", "bad_request")
    assert (error.message, str(error)) == ("no", "no")
    assert dict(render(error).headers)[b"x-claude-proxy-error"] == b"special"
