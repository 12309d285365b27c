"""Every fault as a raw client sees it."""

import asyncio
import json

import pytest

from claude_proxy.simulator import Scenario, Simulator, error, faults, raw
from tests.simulator.talk import HELLO, Answer, events, get, post, say, talk

TEXT = Scenario("text", text="one two three four", deltas=4)
GOOD = ["message_start", "content_block_start", "ping", *["content_block_delta"] * 4]
GOOD += ["content_block_stop", "message_delta", "message_stop"]


async def ended(sim: Simulator) -> str | None:
    """The outcome of the first request, once it is known."""
    await sim.wait_for(lambda sim: sim.requests and sim.requests[0].outcome)
    return sim.requests[0].outcome


async def test_without_a_fault_all_events_arrive_in_one_write(simulator: Simulator) -> None:
    simulator.scenario = TEXT
    async with talk(simulator) as line:
        line.say(post())
        answer = await line.answer()
    assert (answer.status, events(answer.body)) == (200, GOOD)
    assert len(answer.chunks) == len(GOOD)
    assert simulator.requests[0].outcome == "answered"


async def test_a_status_is_answered_in_the_envelope_with_the_id_of_the_header(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.status(529))
    answer = await say(simulator, post())
    assert answer.status == 529
    assert answer.json["error"]["type"] == "overloaded_error"
    assert answer.json["request_id"] == answer.header("request-id")


async def test_refuse_resets_before_any_byte(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.refuse())
    async with talk(simulator) as line:
        line.say(post())
        assert await line.end() == "rst"
    assert (line.data, simulator.requests[0].outcome) == (b"", "cut")


async def test_a_refusing_port_refuses_and_listens_again(simulator: Simulator) -> None:
    port = simulator.port
    async with talk(simulator) as before:
        await simulator.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        before.say(get("/v1/models"))
        assert (await before.answer()).status == 200
    await simulator.start()
    assert simulator.port == port
    assert (await say(simulator, get("/v1/models"))).status == 200


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_cut_before_the_head_sends_nothing(simulator: Simulator, how: str) -> None:
    simulator.scenario = Scenario(fault=faults.cut("head", how=how))
    async with talk(simulator) as line:
        line.say(post())
        assert await line.end() == how
    assert line.data == b""
    assert (simulator.requests[0].complete, simulator.requests[0].status) == (True, None)


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_cut_after_the_head_sends_only_the_head(simulator: Simulator, how: str) -> None:
    simulator.scenario = Scenario(fault=faults.cut("events", 0, how=how), delay=0)
    async with talk(simulator) as line:
        line.say(post())
        await line.until(lambda data: data.endswith(b"\r\n\r\n"))
        assert await line.end() == how
    assert line.data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert line.data.count(b"\r\n\r\n") == 1
    assert await ended(simulator) == "cut"


async def test_a_cut_after_events_sends_just_those_and_reports_just_their_usage(simulator: Simulator) -> None:
    simulator.scenario = TEXT.but(fault=faults.cut("events", 4))
    async with talk(simulator) as line:
        line.say(post())
        assert await line.end() == "fin"
    assert events(line.data) == GOOD[:4]
    assert line.data.endswith(b"\n\n\r\n")
    assert simulator.reported.output_tokens == 1
    assert simulator.requests[0].outcome == "cut"


async def test_a_cut_in_an_event_leaves_half_of_it(simulator: Simulator) -> None:
    simulator.scenario = TEXT.but(fault=faults.cut("mid-event", 4))
    async with talk(simulator) as line:
        line.say(post())
        assert await line.end() == "fin"
    last = line.data.split(b"\n\n\r\n")[-1]
    assert last
    assert b"\n\n" not in last


async def test_a_cut_beyond_the_end_is_in_the_middle_of_the_body(simulator: Simulator) -> None:
    simulator.scenario = TEXT.but(fault=faults.cut("events", 99))
    async with talk(simulator) as line:
        line.say(post(HELLO))
        assert await line.end() == "fin"
    head, _, body = line.data.partition(b"\r\n\r\n")
    announced = int(Answer(head, b"").header("content-length") or 0)
    assert 0 < len(body) < announced


@pytest.mark.parametrize("n", [0, 1000])
async def test_a_cut_while_the_body_comes_in(simulator: Simulator, n: int) -> None:
    simulator.scenario = Scenario(fault=faults.cut("request", n, how="rst"))
    async with talk(simulator) as line:
        line.say(b"POST /v1/messages HTTP/1.1\r\nHost: sim\r\nContent-Length: 5000\r\n\r\n")
        if n:
            await simulator.wait_for(lambda sim: sim.requests)
            assert simulator.requests[0].outcome is None
            line.say(b"x" * n)
        assert await line.end() == "rst"
    assert simulator.requests[0].outcome == "cut"
    assert not simulator.requests[0].complete
    assert simulator.requests[0].body_size == n


async def test_a_body_fault_of_a_scenario_known_from_the_body_acts_when_it_is_in(simulator: Simulator) -> None:
    async with talk(simulator) as line:
        line.say(post({**HELLO, "model": "sim-cut-request-how-rst"}))
        assert await line.end() == "rst"
    assert (simulator.requests[0].outcome, line.data) == ("cut", b"")


@pytest.mark.parametrize(("where", "n", "seen"), [("head", 0, 0), ("events", 0, 1), ("events", 3, 4), ("mid-event", 3, 4)])
async def test_a_stall_holds_until_released_then_goes_on_as_if_nothing_was(
    simulator: Simulator, where: faults.Where, n: int, seen: int
) -> None:
    simulator.scenario = TEXT.but(fault=faults.stall(where, n, until="release"))
    async with talk(simulator) as line:
        line.say(post())
        await simulator.hold.wait()
        assert len(events(line.data)) in (max(0, seen - 1), seen)
        assert simulator.requests[0].outcome is None
        simulator.release()
        answer = await line.answer()
    assert events(answer.body) == GOOD
    assert await ended(simulator) == "answered"
    assert simulator.reported.output_tokens > 1


async def test_a_stall_ends_when_the_client_leaves(simulator: Simulator) -> None:
    simulator.scenario = TEXT.but(fault=faults.stall("events", 2))
    async with talk(simulator) as line:
        line.say(post())
        await simulator.hold.wait()
        simulator.release()
        await line.until(lambda data: data.count(b"\n\n") == 2)
        assert simulator.requests[0].outcome is None
    await simulator.wait_for(lambda sim: sim.requests[0].outcome == "client-left")
    assert simulator.requests[0].left_at is not None
    await simulator.wait_for(lambda sim: sim.open_connections == 0)
    assert not simulator.hold.is_set()


async def test_stop_reading_pushes_back_on_the_sender_until_released(simulator: Simulator) -> None:
    simulator.scenario = Scenario("text", text="ok", fault=faults.stop_reading(10))
    size = 32 << 20
    async with talk(simulator) as line:
        line.say(b"POST /v1/files HTTP/1.1\r\nHost: sim\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        await simulator.hold.wait()
        for _ in range(500):  # turns of the loop in which all of it would have arrived
            await asyncio.sleep(0)
        assert line.transport.get_write_buffer_size() > 0
        assert simulator.requests[0].body_size < size // 2
        simulator.release()
        assert (await line.answer()).status == 200
    assert simulator.requests[0].body_size == size


async def test_an_early_answer_comes_before_the_body_and_the_connection_lives_on(simulator: Simulator) -> None:
    simulator.scenario = error(413, fault=faults.early(3))
    async with talk(simulator) as line:
        line.say(b"POST /v1/messages HTTP/1.1\r\nHost: sim\r\nContent-Length: 9\r\n\r\n")
        await simulator.wait_for(lambda sim: sim.requests)
        assert line.data == b""
        line.say(b"abc")
        assert (await line.answer()).status == 413
        assert not simulator.requests[0].complete
        line.say(b"defghi")
        await simulator.wait_for(lambda sim: sim.requests[0].complete)
        simulator.scenario = None
        line.say(get("/v1/models"))
        assert (await line.answer()).status == 200
    assert [one.connection for one in simulator.requests] == [1, 1]


@pytest.mark.parametrize(("then", "end"), [("close", "fin"), ("rst", "rst")])
async def test_an_early_answer_can_close(simulator: Simulator, then: str, end: str) -> None:
    simulator.scenario = error(413, fault=faults.early(0, then=then))
    async with talk(simulator) as line:
        line.say(b"POST /v1/messages HTTP/1.1\r\nHost: sim\r\nContent-Length: 9000\r\n\r\n")
        answer = await line.answer()
        assert (answer.status, answer.header("connection")) == (413, "close")
        assert await line.end() == end


async def test_an_early_answer_of_messages_needs_no_body(simulator: Simulator) -> None:
    simulator.scenario = Scenario("text", text="soon", fault=faults.early())
    async with talk(simulator) as line:
        line.say(b"POST /v1/messages HTTP/1.1\r\nHost: sim\r\nContent-Length: 9\r\n\r\n")
        assert (await line.answer()).json["content"][0]["text"] == "soon"


@pytest.mark.parametrize("envelope", [True, False])
@pytest.mark.parametrize("n", [0, 4])
async def test_an_error_event_ends_the_stream_cleanly(simulator: Simulator, n: int, envelope: bool) -> None:
    simulator.scenario = TEXT.but(fault=faults.error_event(n, envelope, "rate_limit_error", "[1302][slow down]"))
    answer = await say(simulator, post())
    assert (answer.status, events(answer.body)) == (200, [*GOOD[:n], "error"])
    data = json.loads(answer.body.split(b"data: ")[-1])
    inner = data["error"] if envelope else data
    assert inner == {"type": "rate_limit_error", "message": "[1302][slow down]"}
    assert ("type" in data and data["type"] == "error") == envelope
    assert simulator.reported.output_tokens == (1 if n else 0)


async def test_event_faults_leave_an_unstreamed_answer_alone(simulator: Simulator) -> None:
    for fault in (faults.error_event(0), faults.no_stop(), faults.bad_frame(0)):
        simulator.scenario = TEXT.but(fault=fault)
        assert (await say(simulator, post(HELLO))).json["content"][0]["text"] == TEXT.text


async def test_a_bad_frame_takes_the_place_of_one_event(simulator: Simulator) -> None:
    simulator.scenario = TEXT.but(fault=faults.bad_frame(3))
    answer = await say(simulator, post())
    assert answer.chunks[3] == faults.MALFORMED_FRAME
    assert events(answer.body)[-1] == "message_stop"
    assert len(answer.chunks) == len(GOOD)


async def test_a_bad_chunk_breaks_the_framing_and_closes(simulator: Simulator) -> None:
    simulator.scenario = TEXT.but(fault=faults.bad_chunk(2))
    async with talk(simulator) as line:
        line.say(post(HELLO))
        assert await line.end() == "fin"
    assert b"transfer-encoding: chunked" in line.data
    assert line.data.endswith(b"\r\nZZ\r\nthis chunk has no size\r\n")


async def test_no_stop_ends_well_without_the_last_event(simulator: Simulator) -> None:
    simulator.scenario = TEXT.but(fault=faults.no_stop())
    assert events((await say(simulator, post())).body) == GOOD[:-1]
    assert simulator.reported.output_tokens > 1


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_close_after_is_a_good_answer_that_does_not_announce_the_close(simulator: Simulator, how: str) -> None:
    simulator.scenario = TEXT.but(fault=faults.close_after(how))
    async with talk(simulator) as line:
        line.say(post(HELLO))
        answer = await line.answer()
        assert await line.end() == how
    assert (answer.status, answer.header("connection")) == (200, None)
    assert simulator.requests[0].outcome == "answered"


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_close_on_next_lets_the_next_request_run_into_the_close(simulator: Simulator, how: str) -> None:
    simulator.scenario = TEXT.but(fault=faults.close_on_next(how))
    async with talk(simulator) as line:
        line.say(post(HELLO))
        assert (await line.answer()).status == 200
        assert simulator.open_connections == 1
        line.say(post(HELLO))
        assert await line.end() == how
    assert len(simulator.requests) == 1


async def test_split_makes_every_byte_a_write_of_its_own(simulator: Simulator) -> None:
    simulator.scenario = TEXT.but(writes="byte")
    async with talk(simulator) as line:
        line.say(post(HELLO))
        await line.until(lambda data: Answer.parse(data) is not None)
        assert {len(piece) for piece in line.pieces} == {1}


async def test_writes_by_event_let_each_event_arrive_alone(simulator: Simulator) -> None:
    simulator.scenario = TEXT.but(writes="event")
    async with talk(simulator) as line:
        line.say(post())
        await line.until(lambda data: Answer.parse(data) is not None)
        assert len([piece for piece in line.pieces if b"event: " in piece]) == len(GOOD)


async def test_drip_and_slow_head_send_single_bytes(simulator: Simulator) -> None:
    for scenario, single in ((Scenario("raw", body=b"abcdef", drip=0.001), 6), (Scenario("raw", slow_head=0.0), 100)):
        simulator.scenario = scenario
        async with talk(simulator) as line:
            line.say(post(HELLO))
            await line.until(lambda data: Answer.parse(data) is not None)
            assert sum(len(piece) == 1 for piece in line.pieces) >= single


async def test_pace_and_delay_are_pauses_of_that_length(simulator: Simulator) -> None:
    simulator.scenario = TEXT.but(pace=0.01, delay=0.05)
    await say(simulator, post())
    first = simulator.requests[0]
    assert first.completed_at is not None
    assert first.ended_at is not None
    assert first.ended_at - first.completed_at >= 0.05 + 0.01 * (len(GOOD) - 1) - 0.002


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
async def test_line_ends_inside_frames_can_be_chosen(simulator: Simulator, newline: str) -> None:
    simulator.scenario = TEXT.but(newline=newline)
    body = (await say(simulator, post())).body.decode()
    frames = body.split(newline * 2)
    assert (len(frames), frames[-1]) == (len(GOOD) + 1, "")
    assert ("\r" in body) == ("\r" in newline)


async def test_interim_answers_come_before_and_trailers_after(simulator: Simulator) -> None:
    simulator.scenario = TEXT.but(interim=((103, (("link", "</a>"),)), (102, ())), trailers=(("x-sum", "1"), ("x-more", "2")))
    async with talk(simulator) as line:
        line.say(post(HELLO))
        first, second, last = [await line.answer() for _ in range(3)]
    assert [first.status, second.status, last.status] == [103, 102, 200]
    assert (first.headers, last.header("trailer")) == ([("link", "</a>")], "x-sum, x-more")
    assert last.trailers == [b"x-sum: 1", b"x-more: 2"]


async def test_an_interim_answer_can_be_all_that_comes(simulator: Simulator) -> None:
    simulator.scenario = Scenario(interim=((103, ()),), fault=faults.cut("head"))
    async with talk(simulator) as line:
        line.say(post())
        assert await line.end() == "fin"
    assert line.data == b"HTTP/1.1 103 Early Hints\r\n\r\n"


async def test_a_body_can_end_with_the_connection(simulator: Simulator) -> None:
    simulator.scenario = TEXT.but(framing="close")
    async with talk(simulator) as line:
        line.say(post())
        assert await line.end() == "fin"
    head, _, body = line.data.partition(b"\r\n\r\n")
    assert events(body) == GOOD
    assert b"connection: close" in head
    assert b"content-length" not in head
    assert b"transfer-encoding" not in head


@pytest.mark.parametrize(("then", "end"), [("close", "fin"), ("rst", "rst")])
async def test_raw_bytes_are_the_whole_answer(simulator: Simulator, then: str, end: str) -> None:
    simulator.scenario = raw(b"HTTP/1.1 200 \xffODD\nno: blank", then=then)
    async with talk(simulator) as line:
        line.say(post())
        await line.until(lambda data: data.endswith(b"blank"))
        assert await line.end() == end
    assert line.data == b"HTTP/1.1 200 \xffODD\nno: blank"


async def test_raw_bytes_can_keep_or_stall_the_connection(simulator: Simulator) -> None:
    whole = b"HTTP/1.1 204 No Content\r\n\r\n"
    simulator.scenario = raw(whole, then="keep")
    async with talk(simulator) as line:
        for count in (1, 2):
            line.say(post())
            await line.until(lambda data, count=count: data == whole * count)
        simulator.scenario = raw(b"HTTP/1.1 2", then="stall")
        line.say(post())
        await simulator.hold.wait()
        assert line.data == whole * 2 + b"HTTP/1.1 2"
        simulator.release()
        assert await line.end() == "fin"
    assert simulator.connections == 1


async def test_the_gate_closes_again_on_hold(simulator: Simulator) -> None:
    simulator.scenario = TEXT.but(fault=faults.stall("head", until="release"))
    async with talk(simulator) as line:
        simulator.release()
        line.say(post())
        await line.answer()
        simulator.hold()
        line.say(post())
        await simulator.hold.wait()
        assert line.data == b""
        simulator.release()
        await line.answer()
