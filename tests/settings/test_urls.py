"""A BASE_URL that cannot be one is refused at the start, with a sentence that says what is wrong with it."""

from __future__ import annotations

import contextlib
import time

import pytest

from claude_proxy.errors import SettingsError
from claude_proxy.settings import load

ONE = "expected one URL without spaces or commas"
PLACEHOLDER = "was never replaced"
SHAPE = "expected a URL such as https://"
REFUSED = [
    *((url, ONE) for url in ("https://a.example,https://b.example", "https://a.example, https://b.example")),
    *((url, ONE) for url in ("https://a.example https://b.example", "https://a.example;https://b.example", "https://a|http://b")),
    *((url, ONE) for url in ("https://a.example,b.example", "https://a.example b.example/x", "https://a.example/x y")),
    *((url, PLACEHOLDER) for url in ("${BASE_URL}", "$BASE_URL", "https://${HOST}/x", "https://$HOST/x", "https://h/$PATH")),
    *((url, PLACEHOLDER) for url in ("{{ base_url }}", "https://{{host}}/x", "%BASE_URL%", "https://<host>/x", "$(cat url)")),
    *((url, "nothing can listen on port 0") for url in ("https://h:0", "http://[::1]:0/x", "http://h:000")),
    *((url, SHAPE) for url in ("https://", "https:///x", "https://:443", "http:h", "https:/h", "//h", "h.example", "h:443")),
    *((url, SHAPE) for url in ("ftp://h", "ws://h", "http://h:99999", "http://h:x", "http://[::1", "http://[x]")),
    *((url, "it contains the scheme twice") for url in ("https://https://h", "http://https://h", "https:https://h")),
    *(
        (url, "its host is neither a host name")
        for url in ("https://.h", "https://h..example", "https://*.h", "https://!h", "http://.")
    ),
    *(
        (url, "in plain ASCII without spaces")
        for url in ("https://hö", "https://h/\\x", "https://h/{x}", 'https://h/"x', "https://h/`")
    ),
]


@pytest.mark.parametrize("name", ["BASE_URL", "NTFY_SERVER"])
@pytest.mark.parametrize(("url", "said"), REFUSED)
def test_what_cannot_be_a_url_is_refused(name: str, url: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({name: url})
    (line,) = caught.value.message.splitlines()
    assert line.startswith(f"{name}={url} (env {name}): ")
    assert said in line


@pytest.mark.parametrize(
    ("url", "short"),
    [
        ("https://h/v1", "https://h"),
        ("https://h/v1/", "https://h"),
        ("https://h/V1", "https://h"),
        ("https://h/x/v1/messages", "https://h/x"),
        ("https://h/x/v1/messages/", "https://h/x"),
        ("https://h/v1/messages/count_tokens", "https://h"),
        ("https://h/v1/messages/batches", "https://h"),
        ("https://h/v1/models", "https://h"),
        ("https://h/v1/models/glm-5.3", "https://h"),
        ("https://h/v1/files", "https://h"),
        ("https://h/v1/complete", "https://h"),
        ("https://h/v1/chat/completions", "https://h"),
    ],
)
def test_what_clients_add_themselves_is_refused_with_the_url_that_was_meant(url: str, short: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({"BASE_URL": url})
    assert caught.value.message.endswith(f"expected the URL without /v1, since clients add that themselves: {short}.")
    assert load({"BASE_URL": short}).settings.base_url == short


@pytest.mark.parametrize(
    "url",
    [
        "https://h",
        "https://h.example.",
        "http://127.0.0.1:1",
        "http://[fe80::1]:65535/x",
        "http://my_host-1/a,b;c",
        "https://h/~a/%7E@b:c",
        "https://gw.example/v1/account/anthropic",
        "https://gw.example/v1beta",
        "https://gw.example/https/h",
        "HTTPS://H",
    ],
)
def test_what_can_be_one_is_taken_as_it_is(url: str) -> None:
    assert load({"BASE_URL": url}).settings.base_url == url


@pytest.mark.parametrize(
    "url", ["https://" + "a." * 300_000, "https://h/" + "/v1" * 200_000, "https://h" + ",;| " * 200_000, "$" * 600_000]
)
def test_a_hostile_value_takes_no_time(url: str) -> None:
    started = time.process_time()
    with contextlib.suppress(SettingsError):
        load({"BASE_URL": url})
    assert time.process_time() - started < 2
