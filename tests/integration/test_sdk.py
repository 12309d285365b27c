"""The official SDK through the proxy: everything it can do, and what it makes of errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import MessageParam, ToolParam

from claude_proxy.exchange import Outcome
from claude_proxy.simulator import Scenario, Simulator, Usage, error, faults, named
from tests.integration.proxy import RunningProxy, running_proxy

HELLO: list[MessageParam] = [{"role": "user", "content": "hello"}]
ASKED: dict[str, Any] = {"model": "glm-5.3", "max_tokens": 100, "messages": HELLO}
TEXT = "This is a simulated answer. You said: hello"
WEATHER: ToolParam = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
Client = anthropic.AsyncAnthropic


@asynccontextmanager
async def client_of(base_url: str, *, retries: int = 0, **settings: Any) -> AsyncIterator[tuple[Client, RunningProxy]]:
    """A client of a proxy before `base_url`."""
    async with (
        running_proxy(base_url, **settings) as proxy,
        Client(base_url=proxy.base_url, api_key="any", max_retries=retries) as client,
    ):
        yield client, proxy


async def streamed(client: Client, **more: Any) -> anthropic.types.Message:
    """The message of a stream."""
    async with client.messages.stream(**{**ASKED, **more}) as stream:
        return await stream.get_final_message()


async def test_streamed_and_unstreamed(simulator: Simulator) -> None:
    async with client_of(simulator.base_url) as (client, proxy):
        answers = [await streamed(client), await client.messages.create(**ASKED)]
        exchanges = await proxy.recorder.wait_for(2)
    assert [answer.content[0].text for answer in answers] == [TEXT, TEXT]
    for answer, exchange in zip(answers, exchanges, strict=True):
        assert exchange.usage is not None
        assert (exchange.usage.input, exchange.usage.output) == (answer.usage.input_tokens, answer.usage.output_tokens)
        assert (exchange.model, exchange.stop_reason) == ("glm-5.3", "end_turn")
    assert [exchange.stream for exchange in exchanges] == [True, False]


async def test_the_sync_client(simulator: Simulator) -> None:
    def talk(base_url: str) -> tuple[str, str]:
        with anthropic.Anthropic(base_url=base_url, api_key="any", max_retries=0) as client:
            whole = client.messages.create(**ASKED)
            with client.messages.stream(**ASKED) as stream:
                return whole.content[0].text, "".join(stream.text_stream)

    async with running_proxy(simulator.base_url) as proxy:
        assert await asyncio.to_thread(talk, proxy.base_url) == (TEXT, TEXT)


async def test_every_event_of_a_stream_arrives_when_it_is_sent(simulator: Simulator) -> None:
    simulator.scenario = Scenario("text", text="abcd", deltas=4, fault=faults.stall("events", 5, until="release"))
    async with client_of(simulator.base_url, ping_interval=0.05) as (client, _):
        seen = []
        async with client.messages.stream(**ASKED) as stream:
            async for event in stream:
                seen.append(event.type)
                if seen.count("content_block_delta") == 2:
                    simulator.release()
    assert seen[0] == "message_start"
    assert seen[-1] == "message_stop"
    assert seen.count("content_block_delta") == 4


async def test_a_tool_loop(simulator: Simulator) -> None:
    messages: list[MessageParam] = [{"role": "user", "content": "use get_weather on Seoul"}]
    async with client_of(simulator.base_url) as (client, _):
        message = await streamed(client, messages=messages, tools=[WEATHER])
        (call,) = [block for block in message.content if block.type == "tool_use"]
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "맑음"}
        messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
        closing = await client.messages.create(**{**ASKED, "messages": messages, "tools": [WEATHER]})
    assert (message.stop_reason, closing.stop_reason) == ("tool_use", "end_turn")
    assert closing.content[0].text.endswith("맑음")


async def test_thinking_and_caching(simulator: Simulator) -> None:
    simulator.scenario = Scenario("thinking", usage=Usage(10, 20, 300, 4000, 100))
    async with client_of(simulator.base_url) as (client, proxy):
        message = await streamed(client)
        exchange = await proxy.last()
    assert [block.type for block in message.content] == ["thinking", "text"]
    used = exchange.usage
    assert used is not None
    assert (used.input, used.output, used.cache_write, used.cache_read) == (10, 20, 300, 4000)
    assert (used.cache_write_1h, used.cache_write_5m) == (100, 200)


async def test_count_tokens_and_models(simulator: Simulator) -> None:
    async with client_of(simulator.base_url) as (client, _):
        counted = await client.messages.count_tokens(model="m", messages=HELLO)
        names = [model.id async for model in client.models.list()]
        assert (await client.models.retrieve(names[0])).id == names[0]
        with pytest.raises(anthropic.NotFoundError):
            await client.models.retrieve("none")
    assert counted.input_tokens > 0


async def test_files_come_back_as_they_went(simulator: Simulator) -> None:
    content = bytes(range(256)) * 2000
    async with client_of(simulator.base_url) as (client, _):
        sent = await client.beta.files.upload(file=("a b.bin", content, "application/x-test"))
        assert [file.id async for file in client.beta.files.list()] == [sent.id]
        assert await (await client.beta.files.download(sent.id)).read() == content
        await client.beta.files.delete(sent.id)
        with pytest.raises(anthropic.NotFoundError):
            await client.beta.files.retrieve_metadata(sent.id)
    assert sent.size_bytes == len(content)


@pytest.mark.parametrize("settings", [{}, {"upstream_api_key": "held"}])
async def test_batches_from_creation_to_results(settings: dict[str, str]) -> None:
    """With a held credential the client's opens nothing upstream: the results must come through us."""
    entries: list[Any] = [{"custom_id": name, "params": ASKED} for name in "ab"]
    async with (
        Simulator(keys={settings.get("upstream_api_key", "any")}) as simulator,
        client_of(simulator.base_url, **settings) as (client, proxy),
    ):
        created = await client.messages.batches.create(requests=entries)
        ended = await client.messages.batches.retrieve(created.id)
        results = [entry async for entry in await client.messages.batches.results(created.id)]
        assert [batch.id async for batch in client.messages.batches.list()] == [created.id]
        await client.messages.batches.cancel(created.id)
        await client.messages.batches.delete(created.id)
        ours = proxy.base_url if settings else simulator.base_url
    assert ended.results_url == f"{ours}/v1/messages/batches/{created.id}/results"
    assert [entry.custom_id for entry in results] == ["a", "b"]
    assert results[0].result.message.content[0].text == TEXT


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_compressed_answers(simulator: Simulator, encoding: Any) -> None:
    simulator.scenario = Scenario(encoding=encoding)
    async with client_of(simulator.base_url) as (client, _):
        if encoding == "zstd":  # this client does not ask for it; the bytes pass all the same
            async with httpx.AsyncClient() as raw:
                reply = await raw.post(str(client.base_url) + "v1/messages", json=ASKED)
            assert reply.headers["content-encoding"] == "zstd"
        else:
            assert (await streamed(client)).content[0].text == TEXT


# -- errors


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        (error(400), anthropic.BadRequestError),
        (error(401), anthropic.AuthenticationError),
        (error(403), anthropic.PermissionDeniedError),
        (error(404), anthropic.NotFoundError),
        (error(409), anthropic.ConflictError),
        (error(422), anthropic.UnprocessableEntityError),
        (error(429), anthropic.RateLimitError),
        (error(500), anthropic.InternalServerError),
        (error(529), anthropic.InternalServerError),
        (Scenario(fault=faults.cut("head")), anthropic.InternalServerError),
        (Scenario(fault=faults.refuse()), anthropic.InternalServerError),
        (Scenario(fault=faults.error_event(0)), anthropic.APIStatusError),
        (Scenario(fault=faults.error_event(0, envelope=False)), anthropic.APIStatusError),
        (Scenario(fault=faults.error_event(5)), anthropic.APIStatusError),
        (Scenario(fault=faults.cut("events", 5)), httpx.RemoteProtocolError),
        (Scenario(fault=faults.cut("mid-event", 5)), httpx.RemoteProtocolError),
        (Scenario(fault=faults.bad_chunk(2)), httpx.RemoteProtocolError),
        (Scenario(fault=faults.stall("events", 5)), httpx.RemoteProtocolError),
        (named("zai-error-stream"), anthropic.APIStatusError),
    ],
)
async def test_what_the_sdk_takes_faults_for(simulator: Simulator, scenario: Scenario, expected: type[Exception]) -> None:
    simulator.scenario = scenario
    async with client_of(simulator.base_url, stream_idle_timeout=0.3) as (client, _):
        with pytest.raises(Exception) as caught:
            await streamed(client)
    # By name as well: the SDK may wrap a package of its own
    assert isinstance(caught.value, expected) or type(caught.value).__name__ == expected.__name__


async def test_our_own_error_is_shown_to_the_user_in_our_words(simulator: Simulator) -> None:
    async with client_of(simulator.base_url, proxy_api_key="door") as (client, proxy):
        with pytest.raises(anthropic.AuthenticationError, match="PROXY_API_KEY") as caught:
            await client.messages.create(**ASKED)
        assert caught.value.request_id == (await proxy.last()).id


@pytest.mark.parametrize("fault", [faults.cut("events", 3), faults.stall("events", 3)], ids=lambda f: f.kind)
async def test_an_error_event_in_place_of_a_cut_is_an_api_error(simulator: Simulator, fault: Any) -> None:
    simulator.scenario = Scenario(fault=fault)
    async with client_of(simulator.base_url, stream_cut="error-event", stream_idle_timeout=0.2) as (client, _):
        with pytest.raises(anthropic.APIStatusError, match="upstream"):
            await streamed(client)


async def test_the_sdks_retries_are_the_only_ones(simulator: Simulator) -> None:
    answers = iter([error(529, headers=(("retry-after-ms", "1"),)), error(429, headers=(("retry-after-ms", "1"),)), Scenario()])
    simulator.scenario = lambda _: next(answers)
    async with client_of(simulator.base_url, retries=2) as (client, proxy):
        assert (await streamed(client)).content[0].text == TEXT
        exchanges = await proxy.recorder.wait_for(3)
    assert [exchange.status for exchange in exchanges] == [529, 429, 200]
    assert [asked.header("x-stainless-retry-count") for asked in simulator.requests] == ["0", "1", "2"]


@pytest.mark.parametrize("name", ["zai-1308", "zai-1113"])
async def test_what_lasts_is_not_retried(simulator: Simulator, name: str) -> None:
    simulator.scenario = named(name)
    async with client_of(simulator.base_url, retries=2) as (client, _):
        with pytest.raises(anthropic.RateLimitError):
            await streamed(client)
    assert len(simulator.requests) == 1


async def test_a_client_that_closes_its_stream_cancels_the_upstreams(simulator: Simulator) -> None:
    simulator.scenario = Scenario("text", text="x" * 100, deltas=100, pace=0.02)
    async with client_of(simulator.base_url) as (client, proxy):
        async with client.messages.stream(**ASKED) as stream:
            async for event in stream:
                if event.type == "content_block_delta":
                    break
        await simulator.wait_for(lambda sim: sim.requests[0].left_at is not None)
        assert (await proxy.last()).outcome is Outcome.CANCELLED


async def test_a_client_that_loses_patience_cancels_the_upstreams(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("head"))
    async with client_of(simulator.base_url) as (client, proxy):
        with pytest.raises(anthropic.APITimeoutError):
            await client.messages.create(**ASKED, timeout=0.3)
        await simulator.wait_for(lambda sim: sim.requests[0].left_at is not None)
        assert (await proxy.last()).status == 499
