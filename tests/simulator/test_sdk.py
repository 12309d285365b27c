"""The official SDK against the simulator: what it makes of answers, streams and faults."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import MessageParam, ToolParam

from claude_proxy.simulator import Scenario, Simulator, ToolCall, Usage, error, faults

HELLO: list[MessageParam] = [{"role": "user", "content": "hello"}]
WEATHER: ToolParam = {
    "name": "get_weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    },
}
CLOCK: ToolParam = {"name": "clock", "input_schema": {"type": "object", "properties": {"zone": {"type": "string"}}}}


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=simulator.base_url, api_key="any", max_retries=0) as client:
        yield client


async def final(client: anthropic.AsyncAnthropic, model: str = "glm-5.3", **more: Any) -> anthropic.types.Message:
    """The message of a stream."""
    more.setdefault("messages", HELLO)
    async with client.messages.stream(model=model, max_tokens=100, **more) as stream:
        return await stream.get_final_message()


async def create(client: anthropic.AsyncAnthropic, model: str = "glm-5.3", **more: Any) -> anthropic.types.Message:
    """The message of an unstreamed request."""
    more.setdefault("messages", HELLO)
    message: anthropic.types.Message = await client.messages.create(model=model, max_tokens=100, **more)
    return message


async def test_streamed_and_unstreamed_answers_are_the_same(client: anthropic.AsyncAnthropic) -> None:
    streamed, whole = await final(client), await create(client)
    assert streamed.content[0].text == whole.content[0].text == "This is a simulated answer. You said: hello"
    assert streamed.usage.input_tokens == whole.usage.input_tokens
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert (streamed.stop_reason, whole.stop_reason) == ("end_turn", "end_turn")


async def test_the_sync_client_works_too(simulator: Simulator) -> None:
    def talk() -> tuple[str, str]:
        with anthropic.Anthropic(base_url=simulator.base_url, api_key="any", max_retries=0) as client:
            whole = client.messages.create(model="glm-5.3", max_tokens=10, messages=HELLO)
            with client.messages.stream(model="glm-5.3", max_tokens=10, messages=HELLO) as stream:
                return whole.content[0].text, "".join(stream.text_stream)

    whole, streamed = await asyncio.to_thread(talk)
    assert whole == streamed == "This is a simulated answer. You said: hello"
    assert [one.stream for one in simulator.requests] == [False, True]


async def test_what_was_reported_is_what_the_client_read(simulator: Simulator, client: anthropic.AsyncAnthropic) -> None:
    usage = Usage(10, 20, 300, 4000, 100)
    simulator.scenario = Scenario("text", text="x", usage=usage)
    for message in (await final(client), await create(client)):
        assert message.usage.input_tokens == 10
        assert message.usage.output_tokens == 20
        assert message.usage.cache_creation_input_tokens == 300
        assert message.usage.cache_read_input_tokens == 4000
        assert message.usage.cache_creation is not None
        assert message.usage.cache_creation.ephemeral_1h_input_tokens == 100
        assert message.usage.cache_creation.ephemeral_5m_input_tokens == 200
    assert simulator.reported == usage + usage


async def test_zero_start_reports_all_in_the_end(simulator: Simulator, client: anthropic.AsyncAnthropic) -> None:
    simulator.scenario = Scenario(zero_start=True)
    seen = []
    async with client.messages.stream(model="m", max_tokens=10, messages=HELLO) as stream:
        async for event in stream:
            if event.type == "message_start":
                seen.append(event.message.usage.model_copy())
            if event.type == "message_delta":
                seen.append(event.usage)
    start, end = seen
    assert (start.input_tokens, start.output_tokens) == (0, 0)
    assert (end.input_tokens, end.output_tokens) == (simulator.reported.input_tokens, simulator.reported.output_tokens)
    assert end.input_tokens > 0


async def test_thinking_arrives_with_its_signature(client: anthropic.AsyncAnthropic) -> None:
    for message in (await final(client, "sim-thinking"), await create(client, "sim-thinking")):
        thinking, text = message.content
        assert (thinking.type, thinking.thinking, bool(thinking.signature)) == ("thinking", "Let me think about this.", True)
        assert text.type == "text"


@pytest.mark.parametrize("model", ["glm-5.3", "sim-tool", "sim-tools"])
async def test_a_tool_loop_ends_with_a_quote_of_the_result(client: anthropic.AsyncAnthropic, model: str) -> None:
    messages: list[MessageParam] = [{"role": "user", "content": "use get_weather on Seoul"}]
    message = await final(client, model, messages=messages, tools=[WEATHER, CLOCK])
    calls = [block for block in message.content if block.type == "tool_use"]
    assert message.stop_reason == "tool_use"
    assert len(calls) == (2 if model == "sim-tools" else 1)
    assert calls[0].name == "get_weather"
    assert set(calls[0].input) == {"city", "days"}
    assert len({call.id for call in calls}) == len(calls)
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"} for call in calls]
    messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    closing = await create(client, model, messages=messages, tools=[WEATHER, CLOCK])
    assert closing.stop_reason == "end_turn"
    assert closing.content[0].text == "Done. The tools said:" + "\nsunny" * len(calls)


async def test_a_scenario_can_name_its_tool_calls(simulator: Simulator, client: anthropic.AsyncAnthropic) -> None:
    calls = (ToolCall("clock", {"zone": "서울", "deep": {"list": [1, None]}}), ToolCall("clock"))
    simulator.scenario = Scenario("tools", text="Let me see.", tools=calls)
    for message in (await final(client), await create(client)):
        text, first, second = message.content
        assert (text.text, first.input, second.input) == ("Let me see.", calls[0].input, {})


async def test_tool_choice_forces_a_call(client: anthropic.AsyncAnthropic) -> None:
    choices = ({"type": "tool", "name": "clock"}, {"type": "any"}, {"type": "auto"})
    messages = [await create(client, tools=[WEATHER, CLOCK], tool_choice=choice) for choice in choices]
    assert [message.content[0].type for message in messages] == ["tool_use", "tool_use", "text"]
    assert messages[0].content[0].name == "clock"


async def test_images_are_taken_and_counted(client: anthropic.AsyncAnthropic) -> None:
    def asked(size: int) -> list[MessageParam]:
        source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(b"x" * size).decode()}
        return [{"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": "what is it"}]}]

    small, large = [await create(client, messages=asked(size)) for size in (30, 30_000)]
    assert small.content[0].text == "This is a simulated answer with 1 image. You said: what is it"
    assert small.usage.input_tokens == large.usage.input_tokens > 1500


async def test_count_tokens_agrees_with_the_answers_usage(client: anthropic.AsyncAnthropic) -> None:
    system = "Be brief. " * 50
    counted = await client.messages.count_tokens(model="m", messages=HELLO, system=system, tools=[WEATHER])
    answered = await create(client, system=system, tools=[WEATHER])
    assert counted.input_tokens == answered.usage.input_tokens > 100


async def test_models_are_listed_and_found(client: anthropic.AsyncAnthropic) -> None:
    names = [model.id async for model in client.models.list()]
    assert any(name.startswith("claude-") for name in names)
    assert any(name.startswith("glm-") for name in names)
    assert (await client.models.retrieve(names[0])).id == names[0]
    with pytest.raises(anthropic.NotFoundError):
        await client.models.retrieve("gpt")


async def test_batches_run_from_creation_to_results(simulator: Simulator, client: anthropic.AsyncAnthropic) -> None:
    params = {"model": "glm-5.3", "max_tokens": 10, "messages": HELLO}
    created = await client.messages.batches.create(requests=[{"custom_id": name, "params": params} for name in "ab"])
    assert (created.processing_status, created.request_counts.processing) == ("in_progress", 2)
    ended = await client.messages.batches.retrieve(created.id)
    assert (ended.processing_status, ended.request_counts.succeeded) == ("ended", 2)
    assert ended.results_url == f"{simulator.base_url}/v1/messages/batches/{created.id}/results"
    results = [entry async for entry in await client.messages.batches.results(created.id)]
    assert [entry.custom_id for entry in results] == ["a", "b"]
    assert results[0].result.message.content[0].text.endswith("hello")
    assert results[0].result.message.id != results[1].result.message.id
    assert [batch.id async for batch in client.messages.batches.list()] == [created.id]
    assert (await client.messages.batches.cancel(created.id)).processing_status == "canceling"
    await client.messages.batches.delete(created.id)
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.batches.retrieve(created.id)


async def test_a_batch_that_is_none_is_refused(simulator: Simulator) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(simulator.base_url + "/v1/messages/batches", json={"requests": 5})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_files_come_back_as_they_went(client: anthropic.AsyncAnthropic) -> None:
    content = bytes(range(256)) + b"\r\n--not a boundary\r\n"
    sent = await client.beta.files.upload(file=("a b.bin", content, "application/x-test"))
    assert (sent.filename, sent.mime_type, sent.size_bytes) == ("a b.bin", "application/x-test", len(content))
    assert [file.id async for file in client.beta.files.list()] == [sent.id]
    assert await (await client.beta.files.download(sent.id)).read() == content
    assert (await client.beta.files.retrieve_metadata(sent.id)).id == sent.id
    await client.beta.files.delete(sent.id)
    with pytest.raises(anthropic.NotFoundError):
        await client.beta.files.retrieve_metadata(sent.id)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
async def test_encoded_answers_are_read(client: anthropic.AsyncAnthropic, encoding: str) -> None:
    text = "This is a simulated answer. You said: hello"
    assert (await final(client, f"sim-{encoding}")).content[0].text == text
    assert (await create(client, f"sim-{encoding}")).content[0].text == text


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        (error(400), anthropic.BadRequestError),
        (error(401), anthropic.AuthenticationError),
        (error(404), anthropic.NotFoundError),
        (error(429), anthropic.RateLimitError),
        (error(500), anthropic.InternalServerError),
        (error(529), anthropic.APIStatusError),
        (Scenario(fault=faults.status(503)), anthropic.InternalServerError),
        (Scenario(fault=faults.cut("head")), anthropic.APIConnectionError),
        (Scenario(fault=faults.refuse()), anthropic.APIConnectionError),
        (Scenario(fault=faults.error_event(0)), anthropic.APIStatusError),
        (Scenario(fault=faults.error_event(0, envelope=False)), anthropic.APIStatusError),
        (Scenario(fault=faults.error_event(5)), anthropic.APIStatusError),
        (Scenario(fault=faults.cut("events", 5)), httpx.RemoteProtocolError),
        (Scenario(fault=faults.bad_chunk(2)), httpx.RemoteProtocolError),
        (Scenario(fault=faults.bad_frame(4)), ValueError),
    ],
)
async def test_faults_are_what_the_sdk_takes_them_for(
    simulator: Simulator, client: anthropic.AsyncAnthropic, scenario: Scenario, expected: type[Exception]
) -> None:
    simulator.scenario = scenario
    with pytest.raises(Exception) as caught:
        await final(client)
    assert isinstance(caught.value, expected) or type(caught.value).__name__ == expected.__name__


async def test_a_clean_end_without_message_stop_goes_unnoticed(client: anthropic.AsyncAnthropic) -> None:
    assert (await final(client, "sim-no-stop")).stop_reason == "end_turn"


async def test_only_the_keys_given_are_accepted() -> None:
    async with Simulator(keys={"right"}) as sim:
        async with anthropic.AsyncAnthropic(base_url=sim.base_url, api_key="right") as client:
            await create(client)
        async with anthropic.AsyncAnthropic(base_url=sim.base_url, auth_token="right", api_key=None) as client:
            await create(client)
        async with anthropic.AsyncAnthropic(base_url=sim.base_url, api_key="wrong") as client:
            with pytest.raises(anthropic.AuthenticationError, match="invalid x-api-key"):
                await create(client)
        async with httpx.AsyncClient() as probe:
            assert (await probe.head(sim.base_url + "/api/hello")).status_code == 200
            assert (await probe.get(sim.base_url + "/v1/models")).status_code == 401
