# SPDX-License-Identifier: MIT
"""protocol/transcripts/worker-*.txt against asgi_worker.protocol.Session; the notation is in transcripts/README.md."""

from __future__ import annotations

from typing import Any

import pytest
from asgi_worker.io import client
from asgi_worker.protocol import codec, constants, events, frames, msgpack, session
from asgi_worker.protocol.stream import WebSocketStream
from notation import (
    ERRORS,
    FLAGS,
    LETS,
    Block,
    Frame,
    Input,
    blocks,
    flags_of,
    hex_part,
    keys_of,
    number,
    parse_frame,
    parse_input,
    show,
    split_frames,
)

NAMES = {code: name for name, code in ERRORS.items()}
BLOCKS = [block for block in blocks("transcripts/*.txt") if block.get("side") == "worker"]
# What this worker offers; blocks that need something else are skipped.
OFFERED = frozenset(client.OFFERED_FEATURES)
# Lines that are about sockets and memory, which a Session does not know; test_link.py runs those blocks.
BEYOND_A_SESSION = ("fd ", "pipe ", "nofd ")


def beyond_a_session(block: Block) -> bool:
    return any(key == "page" or (key == "->" and rest.startswith(BEYOND_A_SESSION)) for key, rest in block.lines)


class Runner:
    """One block: a Session, what it wrote and told, and what of that was not yet asked for."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.session = session.Session(codec.RequestDecoder())
        self.frames: list[Frame] = []
        self.events: list[tuple[str, dict[str, str]]] = []
        self.streams: dict[int, Any] = {}
        self.arrived: dict[int, list[int]] = {}  # costs of body frames that the application has not taken
        self.writing: dict[int, bytes] = {}
        self.written: list[Frame] = []
        self.error = ""
        self.closed = False
        self.features = [block.get("needs")] if block.get("needs") else []
        self.base = 0

    def run(self) -> None:
        self.begin(self.block.get("start", "ready"))
        for key, rest in self.block.lines:
            if key in ("name", "rule", "side", "start", "needs", "ack"):
                continue
            try:
                self.step(key, rest)
            except AssertionError as problem:
                raise AssertionError(f"{self.block.where}: {key} {rest}: {problem}") from problem

    def begin(self, start: str) -> None:
        if start == "connected":
            return
        self.do("hello", {})
        assert self.frames.pop().kind == constants.FRAME_HELLO
        if start == "hello":
            return
        feature = self.features[0] if self.features else "no-features"
        ack = self.block.get("ack", f"@ack-{feature}")
        self.receive(Input(Frame(constants.FRAME_HELLO_ACK, payload=hex_part(ack)).wire()))
        if start == "ready":
            self.do("ready", {})
            self.frames.clear()
        self.events.clear()
        self.base = self.session.dropped_frames

    def step(self, key: str, rest: str) -> None:
        if key == "->":
            self.receive(parse_input(rest))
        elif key == "<-":
            self.expect_frame(parse_frame(rest))
        elif key == "do":
            action, _, keys = rest.partition(" ")
            self.do(action, keys_of(keys))
        elif key == "event":
            kind, _, keys = rest.partition(" ")
            self.expect_event(kind, keys_of(keys))
        elif key == "no-event":
            assert rest not in [kind for kind, _ in self.events], f"{self.events}"
        elif key == "outcome":
            self.outcome(rest)
        else:
            self.check(key, keys_of(rest), rest)

    # The side under test

    def receive(self, data: Input) -> None:
        if data.close:
            self.closed = True
            return
        pieces = [data.data[i : i + 1] for i in range(len(data.data))] if data.bytewise else [data.data]
        for piece in pieces:
            if self.error or self.closed:
                return
            try:
                for event in self.session.receive_data(piece):
                    self.note(event)
            except frames.ProtocolError as problem:
                self.error = NAMES[problem.code]
                return
        self.flush()

    def flush(self) -> None:
        for stream_id in list(self.writing):
            self.write_on(stream_id)
        while self.session.wants_write:
            data = b"".join(bytes(part) for part in self.session.data_to_send())
            self.frames += split_frames(data)

    def write_on(self, stream_id: int) -> None:
        """What the application's send() does with a body: as much as credit allows."""
        stream = self.streams[stream_id]
        while self.writing[stream_id]:
            room = self.session.body_room(stream)
            if not room:
                return
            body = self.writing[stream_id][:room]
            self.writing[stream_id] = self.writing[stream_id][room:]
            self.session.send_data(stream, body, 0)

    def note(self, event: Any) -> None:
        seen: tuple[str, dict[str, str]] | None = None
        if isinstance(event, events.RequestReceived):
            self.streams[event.stream.id] = event.stream
            self.arrived[event.stream.id] = [16 + len(event.body)] if event.body else []
            seen = "request", {"stream": str(event.stream.id), "body": show(event.body), "end": yes(event.end)}
        elif isinstance(event, events.DataReceived):
            self.arrived[event.stream.id].append(16 + len(event.data))
            seen = "data", {"stream": str(event.stream.id), "bytes": show(event.data), "end": yes(event.end)}
        elif isinstance(event, events.MessageReceived):
            text = isinstance(event.data, str)
            data = event.data.encode() if isinstance(event.data, str) else event.data
            self.arrived[event.stream.id].append(event.cost)
            keys = {"bytes": show(data), "flags": "TEXT" if text else "-"}
            seen = "message", {"stream": str(event.stream.id), **keys}
        elif isinstance(event, events.CloseReceived):
            seen = "close", {"stream": str(event.stream.id), "code": str(event.code)}
        elif isinstance(event, events.CreditReceived):
            seen = "credit", {"stream": str(event.stream.id)}
        elif isinstance(event, events.StreamReset):
            seen = "reset", {"stream": str(event.stream.id), "code": NAMES[event.code]}
        elif isinstance(event, events.Disconnected):
            seen = "disconnect", {"stream": str(event.stream.id), "code": NAMES[event.code]}
        elif isinstance(event, events.FileDone):
            seen = "file-done", {"stream": str(event.stream.id), "refused": yes(event.refused)}
        elif isinstance(event, events.GoawayReceived):
            seen = "goaway", {"code": NAMES[event.code], "last": str(event.last_id)}
        elif isinstance(event, events.ChannelErrorReceived):
            self.closed = True
            seen = "error", {"code": NAMES[event.code]}
        elif isinstance(event, events.AckReceived):
            ack = event.ack
            keys = {"channels": str(ack.channels), "window": str(ack.window), "max_frame": str(ack.max_frame)}
            seen = "ack", keys
        if seen is not None:
            self.events.append(seen)

    # Stimuli

    def do(self, action: str, keys: dict[str, str]) -> None:
        if "stream" in keys:
            self.do_stream(action, self.streams[int(keys["stream"])], keys)
        else:
            self.do_link(action, keys)
        if keys.get("later") != "yes":
            self.flush()

    def do_link(self, action: str, keys: dict[str, str]) -> None:
        if action == "hello":
            hello = dict(msgpack.unpackb(LETS["hello"]))
            hello["features"] = self.features
            self.session.send_hello(hello)
        elif action == "ready":
            self.session.send_ready()
        elif action == "goaway":
            self.session.send_goaway("stopping")
        elif action == "startup-failed":
            text = hex_part(keys["text"]).decode()
            self.session.send_channel_error(constants.ERROR_STARTUP_FAILED, text)
            self.flush()
            self.closed = True
        elif action == "stats":
            self.session.send_stats(int(keys["rss"]), int(keys["in_flight"]), int(keys["tasks"]))
        else:
            raise NotImplementedError(action)

    def do_stream(self, action: str, stream: Any, keys: dict[str, str]) -> None:
        under_test = self.session
        flags = flags_of(keys.get("flags", ""))
        head = hex_part(keys.get("head", ""))
        body = hex_part(keys.get("body", ""))
        code = number(keys.get("code", "0"), ERRORS)
        if action == "respond":
            under_test.send_response(stream, int(keys["status"]), head, body, flags)
        elif action == "inform":
            under_test.send_informational(stream, int(keys["status"]), head)
        elif action == "data":
            under_test.send_data(stream, body, flags)
        elif action == "trailers":
            under_test.send_trailers(stream, head, flags)
        elif action == "reset":
            under_test.send_reset(stream, code, flags & FLAGS["DONE"] != 0)
        elif action == "refuse":
            under_test.send_refused(stream, code)
        elif action == "done":
            under_test.send_done(stream)
        elif action == "write":
            self.writing[stream.id] = body
        elif action == "file":
            under_test.send_file(stream, None, int(keys["offset"]), int(keys["count"]), flags)
        elif action == "accept":
            under_test.send_accept(stream, head)
        elif action == "message":
            under_test.send_message(stream, hex_part(keys["bytes"]), flags)
        elif action == "receive" and isinstance(stream, WebSocketStream):
            under_test.message_wanted(stream)
        elif action == "receive":
            under_test.open_window(stream)
        elif action == "consume":
            for _ in range(int(keys["frames"])):
                under_test.consumed(stream, self.arrived[stream.id].pop(0))
        else:
            raise NotImplementedError(action)

    # Checks

    def expect_frame(self, expected: Frame) -> None:
        assert self.frames, "nothing was written"
        found = self.frames.pop(0)
        assert expected.matches(found), f"was written: {found}"

    def expect_event(self, kind: str, keys: dict[str, str]) -> None:
        wanted = keys.items()
        for at, (found, values) in enumerate(self.events):
            if found == kind and wanted <= values.items():
                del self.events[: at + 1]
                return
        raise AssertionError(f"events were {self.events}")

    def check(self, key: str, keys: dict[str, str], rest: str) -> None:
        if key == "quiet":
            assert not self.frames, f"was written: {self.frames[0]}"
        elif key == "counted":
            assert self.session.dropped_frames - self.base == int(rest)
        elif key == "streams":
            assert len(self.session.streams) == int(rest)
        elif key == "credit":
            assert self.streams[int(keys["stream"])].send_credit == int(keys["send"])
        elif key == "written":
            self.check_written(int(keys["stream"]), keys)
        else:
            raise NotImplementedError(key)

    def check_written(self, stream_id: int, keys: dict[str, str]) -> None:
        """`write` went out in DATA frames of any size, and the rest waits for credit."""
        data = [f for f in self.frames if f.kind == constants.FRAME_DATA and f.stream == stream_id]
        assert self.frames == data, "something else than DATA was written"
        self.frames.clear()
        self.written += data
        seen = {
            "bytes": sum(len(f.payload) for f in self.written),
            "cost": sum(16 + len(f.payload) for f in self.written),
            "credit": self.streams[stream_id].send_credit,
        }
        assert keys.keys() - {"stream"} <= seen.keys()
        for name in keys.keys() & seen.keys():
            assert seen[name] == int(keys[name]), f"{name} is {seen[name]}"

    def outcome(self, rest: str) -> None:
        word, _, code = rest.partition(" ")
        assert not self.frames or self.error, f"was also written: {self.frames[0]}"
        if word == "link-closed":
            assert self.error == code, f"it is {self.error or 'not closed'}"
            return
        assert not self.error, f"it was closed with {self.error}"
        ended = self.closed or (self.session.going_away and not self.session.streams)
        assert ended == (word == "closed"), f"going away: {self.session.going_away}"


def yes(value: bool) -> str:
    return "yes" if value else "no"


@pytest.mark.parametrize("block", [pytest.param(b, id=b.name) for b in BLOCKS if not beyond_a_session(b)])
def test_transcript(block: Block) -> None:
    if block.get("needs") and block.get("needs") not in OFFERED:
        pytest.skip(f"the worker does not offer {block.get('needs')}")
    Runner(block).run()


def test_there_are_transcripts() -> None:
    assert len(BLOCKS) > 100
