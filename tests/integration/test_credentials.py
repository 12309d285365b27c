"""Whose credential goes where, who may use ours, and that no secret is ever shown (docs/design.md, "Promises")."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import Any

import pytest

from claude_proxy import logs
from claude_proxy.app import App
from claude_proxy.simulator import Recorded, Scenario, Simulator, error, faults
from tests.access.added import NAMES
from tests.integration.messages import JSON, MESSAGES, MODELS, body
from tests.integration.proxy import running_proxy
from tests.integration.wire import Header, Reply, ask, connect
from tests.notify.fake_ntfy import FakeNtfy

BEARER: Header = (b"Authorization", b"Bearer sk-client-one")
API_KEY: Header = (b"X-Api-Key", b"sk-client-two")
OURS_AS_BEARER: Header = (b"Authorization", b"Bearer sk-door")
OURS_AS_KEY: Header = (b"X-Api-Key", b"sk-door")


def shown(recorded: Recorded) -> dict[str, list[str]]:
    """The credentials that the upstream saw."""
    return {name: values for name in ("authorization", "x-api-key") if (values := recorded.header_values(name))}


async def reach(simulator: Simulator, *headers: Header, **settings: Any) -> dict[str, list[str]]:
    """What credentials arrive upstream with these of the client's."""
    async with running_proxy(simulator.base_url, **settings) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON, *headers], body())
    assert reply.status == 200
    return shown(simulator.requests[0])


@pytest.mark.parametrize("headers", [[BEARER], [API_KEY], [BEARER, API_KEY], [], [(b"Authorization", b"Basic eDp5")]])
async def test_a_clients_own_credentials_pass(simulator: Simulator, headers: list[Header]) -> None:
    seen = await reach(simulator, *headers)
    assert seen == {name.decode().lower(): [value.decode()] for name, value in headers}


@pytest.mark.parametrize("headers", [[BEARER], [API_KEY], [BEARER, API_KEY], [BEARER, BEARER], []])
@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        (None, {"authorization": ["Bearer sk-held"]}),
        ("bearer", {"authorization": ["Bearer sk-held"]}),
        ("x-api-key", {"x-api-key": ["sk-held"]}),
    ],
)
async def test_a_held_credential_goes_in_their_place(
    simulator: Simulator, headers: list[Header], auth: str | None, expected: dict[str, list[str]]
) -> None:
    assert await reach(simulator, *headers, upstream_api_key="sk-held", upstream_auth=auth) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([OURS_AS_BEARER], {}),
        ([OURS_AS_KEY], {}),
        ([OURS_AS_BEARER, API_KEY], {"x-api-key": ["sk-client-two"]}),
        ([BEARER, OURS_AS_KEY], {"authorization": ["Bearer sk-client-one"]}),
        ([OURS_AS_BEARER, OURS_AS_KEY], {}),
        ([BEARER, OURS_AS_BEARER], {}),
        ([(b"authorization", b"bearer  sk-door ")], {}),
    ],
)
async def test_the_proxys_own_key_opens_the_door_and_stays_here(
    simulator: Simulator, headers: list[Header], expected: dict[str, list[str]]
) -> None:
    assert await reach(simulator, *headers, proxy_api_key="sk-door") == expected


@pytest.mark.parametrize("headers", [[OURS_AS_BEARER], [OURS_AS_KEY], [BEARER, OURS_AS_KEY]])
async def test_with_both_keys_only_the_held_one_goes_upstream(simulator: Simulator, headers: list[Header]) -> None:
    seen = await reach(simulator, *headers, proxy_api_key="sk-door", upstream_api_key="sk-held")
    assert seen == {"authorization": ["Bearer sk-held"]}


WRONG: list[list[Header]] = [
    [],
    [BEARER],
    [API_KEY],
    [(b"X-Api-Key", b"sk-doo")],
    [(b"X-Api-Key", b"sk-door2")],
    [(b"X-Api-Key", b"")],
    [(b"Authorization", b"Basic sk-door")],
    [(b"Authorization", b"sk-door")],
    [(b"X-Api-Key", b"Bearer sk-door")],
    [(b"X-Api-Key", b"sk-d\xf6\xf6r")],
    [(b"Cookie", b"x-api-key=sk-door")],
]


@pytest.mark.parametrize("headers", WRONG)
async def test_a_wrong_key_is_told_so_once(simulator: Simulator, headers: list[Header]) -> None:
    async with running_proxy(simulator.base_url, proxy_api_key="sk-door") as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON, *headers], body())
        (exchange,) = await proxy.recorder.wait_for(1)
    refused(reply, "key_wrong", "PROXY_API_KEY")
    assert exchange.failure is not None
    assert (exchange.outcome, exchange.failure.side, simulator.connections) == ("refused", "client", 0)


def refused(reply: Reply, code: str, *words: str) -> None:
    """A 401 of ours that no client repeats."""
    envelope = json.loads(reply.body)
    assert (reply.status, reply.get("x-claude-proxy-error"), envelope["error"]["type"]) == (401, code, "authentication_error")
    assert reply.get("x-should-retry") == "false"
    assert reply.get("www-authenticate") == 'Bearer realm="claude-proxy"'
    for word in words:
        assert word in envelope["error"]["message"]


def from_afar(address: str) -> Any:
    """Make the app believe that its clients are at `address`."""

    def prepare(app: App) -> None:
        forward = app.forward

        async def elsewhere(scope: Any, receive: Any, send: Any, path: bytes) -> None:
            await forward.serve({**scope, "client": (address, 40000)}, receive, send, path)

        app.forward = SimpleNamespace(  # type: ignore[assignment]
            serve=elsewhere, close=forward.close, running=0, config=forward.config, tell_ended=forward.tell_ended
        )

    return prepare


@pytest.mark.parametrize("address", ["10.0.0.5", "192.168.1.2", "2001:db8::1", "::ffff:10.0.0.5"])
async def test_a_peer_elsewhere_is_not_served_from_a_held_credential(simulator: Simulator, address: str) -> None:
    async with running_proxy(simulator.base_url, upstream_api_key="sk-held", prepare=from_afar(address)) as proxy:
        refused(await ask(proxy.port, "POST", MESSAGES, [JSON, BEARER], body()), "key_needed", "PROXY_API_KEY")
    assert simulator.connections == 0


@pytest.mark.parametrize("settings", [{}, {"proxy_api_key": "sk-door"}, {"upstream_api_key": "u", "proxy_api_key": "sk-door"}])
async def test_a_peer_elsewhere_is_served_with_a_key_or_where_nothing_is_held(
    simulator: Simulator, settings: dict[str, str]
) -> None:
    async with running_proxy(simulator.base_url, prepare=from_afar("10.0.0.5"), **settings) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON, OURS_AS_KEY], body())
    assert reply.status == 200


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
async def test_this_machine_is_served_from_a_held_credential(simulator: Simulator, address: str) -> None:
    async with running_proxy(simulator.base_url, upstream_api_key="u", prepare=from_afar(address)) as proxy:
        assert (await ask(proxy.port, "GET", MODELS)).status == 200


async def test_a_front_on_this_machine_does_not_make_the_world_local(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url, upstream_api_key="sk-held") as proxy:
        for name in NAMES:
            header = (name.title().encode(), b"203.0.113.9")
            refused(await ask(proxy.port, "POST", MESSAGES, [JSON, header], body()), "key_needed", "reverse proxy or tunnel")
    assert simulator.connections == 0


async def test_what_a_front_says_of_the_client_does_not_go_upstream(simulator: Simulator) -> None:
    added = [(name.title().encode(), b"203.0.113.9") for name in NAMES]
    async with running_proxy(simulator.base_url) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON, API_KEY, *added, (b"Cf-Aig-Metadata", b"{}")], body())
    assert reply.status == 200
    (recorded,) = simulator.requests
    assert [name for name in NAMES if recorded.header_values(name)] == []
    assert recorded.header_values("cf-aig-metadata") == ["{}"]


@pytest.mark.parametrize("trusted", [None, "127.0.0.0/8", "*"])
async def test_a_forged_header_does_not_make_a_stranger_local(simulator: Simulator, trusted: str | None) -> None:
    """Where its peer is trusted, the server itself puts the forged 127.0.0.1 in the peer's place."""
    forged = (b"X-Forwarded-For", b"127.0.0.1")
    async with running_proxy(simulator.base_url, upstream_api_key="sk-held", trusted=trusted) as proxy:
        refused(await ask(proxy.port, "POST", MESSAGES, [JSON, forged], body()), "key_needed", "PROXY_API_KEY")
        assert (await ask(proxy.port, "GET", MODELS)).status == 200


@pytest.mark.parametrize(
    "header",
    [(b"Host", b"evil.example"), (b"Origin", b"https://evil.example"), (b"Sec-Fetch-Site", b"cross-site")],
)
async def test_a_web_page_does_not_spend_a_held_credential(simulator: Simulator, header: Header) -> None:
    async with running_proxy(simulator.base_url, upstream_api_key="sk-held") as proxy:
        lines = [b"POST " + MESSAGES.encode() + b" HTTP/1.1", header[0] + b": " + header[1], b"Content-Length: 2"]
        if header[0] != b"Host":
            lines.append(b"Host: localhost")
        async with connect(proxy.port) as wire:
            wire.send(b"\r\n".join(lines) + b"\r\n\r\n{}")
            reply = await wire.reply()
    assert (reply.status, json.loads(reply.body)["error"]["type"]) == (403, "permission_error")
    assert simulator.connections == 0


SECRETS = ["sk-client-one", "sk-client-two", "sk-door", "held.by-us", "sk-ntfy", "my private prompt"]


async def test_no_secret_and_no_prompt_is_shown_anywhere(simulator: Simulator) -> None:
    """Everything that is written, sent or printed in a bad hour, searched for every secret."""
    sink = io.TextIOWrapper(io.BytesIO(), write_through=True)
    bad = [
        error(401, message="invalid key: held.by-us for Bearer sk-client-one"),
        error(429, message="[1308][key held.by-us is used up][1]"),
        error(500, message="sk-client-two"),
        Scenario(fault=faults.cut("head")),
        Scenario(fault=faults.cut("events", 3)),
        Scenario(fault=faults.error_event(0, message="held.by-us")),
        Scenario("raw", body=b"oops", status=502, content_type="text/html"),
        Scenario(),
    ]
    turns = iter(bad)
    simulator.scenario = lambda _: next(turns)
    replies: list[Reply] = []
    exposed: list[str] = []
    async with FakeNtfy() as ntfy:
        settings = {"ntfy_topic": "t", "ntfy_server": ntfy.url, "ntfy_token": "sk-ntfy", "upstream_api_key": "held.by-us"}
        async with running_proxy(
            simulator.base_url, prepare=lambda _: logs.configure("debug", "json", sink), proxy_api_key="sk-door", **settings
        ) as proxy:
            for _ in bad:  # in turn
                replies += [await ask(proxy.port, "POST", MESSAGES, [JSON, BEARER, OURS_AS_KEY], body(text=SECRETS[-1]))]
            replies.append(await ask(proxy.port, "POST", MESSAGES, [JSON, BEARER, API_KEY], body(text=SECRETS[-1])))
            replies.append(await ask(proxy.port, "POST", MESSAGES + "/..", [JSON, BEARER, OURS_AS_KEY], body(text=SECRETS[-1])))
            ours = [reply for reply in replies if reply.get("x-claude-proxy-error")]
            ours += [await ask(proxy.port, "GET", path) for path in ("/", "/health", "/ready", "/openapi.json", "/nothing")]
            exchanges = await proxy.recorder.wait_for(len(replies))
            exposed += [repr(proxy.app.state.settings), str(proxy.app.state.settings), repr(proxy.app.forward)]
            exposed += [repr(exchange) for exchange in exchanges]
        exposed += [json.dumps(message, ensure_ascii=False) for message in ntfy.messages]
        assert ntfy.published
    log = sink.buffer.getvalue().decode()  # type: ignore[attr-defined]  # it is a BytesIO
    assert log.count('"event":"exchange"') == len(replies)
    exposed += [log, *(reply.body.decode() for reply in ours)]
    assert len(ours) == 3 + 5
    for text in exposed:
        for secret in SECRETS:
            assert secret not in text, text


@pytest.mark.parametrize("header", [(b"x-api-key", b"topsecretvalue12345"), (b"authorization", b"Bearer topsecretvalue12345")])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_clients_credential_that_an_error_quotes_is_not_recorded(
    simulator: Simulator, header: tuple[bytes, bytes], stream: bool
) -> None:
    words = "bad key topsecretvalue12345 here"
    simulator.scenario = Scenario(fault=faults.error_event(2, message=words)) if stream else error(401, message=words)
    async with running_proxy(simulator.base_url) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON, header], body(stream=stream))
        (exchange,) = await proxy.recorder.wait_for(1)
    assert b"topsecretvalue12345" in reply.body  # the client's own answer stays as it is
    assert exchange.failure is not None
    assert exchange.failure.message == "bad key [redacted] here"
