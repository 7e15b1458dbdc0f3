# SPDX-License-Identifier: MIT
"""The transcripts about descriptors and the progress page, against the worker's handshake and link on real sockets."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from asgi_worker.asgi.service import Service
from asgi_worker.config import Settings
from asgi_worker.io.handshake import dial
from asgi_worker.io.link import Link
from asgi_worker.protocol import msgpack
from notation import ERRORS, LETS, TYPES, Block, Frame, Input, keys_of, parse_frame, parse_input, split_frames
from test_transcripts import BLOCKS, beyond_a_session

CASES = [pytest.param(block, id=block.name) for block in BLOCKS if beyond_a_session(block)]
NAMES = {code: name for name, code in ERRORS.items()}


class Gateway:
    """The gateway's end of one link, and the worker behind the other."""

    def __init__(self, block: Block, folder: Path) -> None:
        self.block = block
        self.path = str(folder / "gateway")
        self.page = os.memfd_create("page")
        os.ftruncate(self.page, 4096)
        self.link: Link | None = None
        self.peer: socket.socket
        self.started: asyncio.Queue[int] = asyncio.Queue()  # what word 0 held
        self.ended = ""
        self.handshaken: Any = None

    # What a Link tells its owner.
    def on_goaway(self, link: Link, event: object) -> None: ...
    def on_link_end(self, link: Link, code: int, reason: str) -> None:
        self.ended = reason

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        assert self.link is not None
        self.started.put_nowait(self.link.words[0])
        await receive()
        await asyncio.Event().wait()  # until the test cancels it

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self.path)
            listener.listen()
            listener.setblocking(False)
            hello = dict(msgpack.unpackb(LETS["hello-no-features"]))
            service = Service(Settings(app="test:app"), logging.getLogger("transcripts"))
            service.app = self.application
            dialled = asyncio.ensure_future(dial(loop, self.path, hello, service.decoder))
            self.peer, _ = await loop.sock_accept(listener)
            self.peer.setblocking(False)
            assert await self.frame() == parse_frame("HELLO payload=@hello-no-features")
            with self.peer:
                await self.go_on(dialled, service)

    async def go_on(self, dialled: asyncio.Future[Any], service: Service) -> None:
        if self.block.get("start") != "hello":
            self.write(parse_input("HELLO_ACK payload=@ack-no-features"), self.page)
            await self.connect(dialled, service)
        try:
            for key, rest in self.block.lines:
                await self.step(key, rest, dialled)
        finally:
            for cycle in list(service.active):
                if cycle.task is not None:
                    cycle.task.cancel()
            if self.link is not None and not self.link.closed:
                self.link.close("the test is over")
            os.close(self.page)

    async def connect(self, dialled: asyncio.Future[Any], service: Service) -> None:
        self.handshaken = await dialled
        made = self.handshaken
        loop = asyncio.get_running_loop()
        self.link = Link(loop, made.sock, made.session, service, made.page.words, self)
        made.session.send_ready()
        self.link.start(made.events)
        assert (await self.frame()).kind == TYPES["READY"]

    def write(self, data: Input, page: int | None = None) -> None:
        descriptors = [page] if page is not None else []
        opened = os.open(__file__, os.O_RDONLY) if data.descriptor == "fd" else None
        if opened is not None:
            descriptors.append(opened)
        socket.send_fds(self.peer, [data.data], descriptors)
        if opened is not None:
            os.close(opened)

    async def frame(self) -> Frame:
        """The next frame of the worker, which writes only one at a time here."""
        data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.peer, 65536), 10)
        assert data, "the worker closed the link"
        (frame,) = split_frames(data)
        return frame

    async def step(self, key: str, rest: str, dialled: asyncio.Future[Any]) -> None:
        keys = keys_of(rest)
        if key == "->":
            self.write(parse_input(rest))
        elif key == "<-":
            expected, found = parse_frame(rest), await self.frame()
            assert expected.matches(found), f"was written: {found}"
        elif key == "event" and rest.startswith("start "):
            assert await asyncio.wait_for(self.started.get(), 10) == int(keys["value"])
        elif key == "page":
            at = 4 * int(keys["word"])
            assert os.pread(self.page, 4, at) == int(keys["value"]).to_bytes(4, "little"), rest
        elif key == "do" and rest == "heartbeat":
            self.handshaken.page.beat()
        elif key == "outcome" and rest == "open":
            assert not self.ended
            assert self.started.empty()
        elif key == "outcome":
            found = await self.frame()
            assert found.kind == TYPES["CHANNEL_ERROR"]
            assert f"link-closed {NAMES[found.code]}" == rest
            if self.link is None:
                with pytest.raises(Exception, match="PROTOCOL"):
                    await dialled
        else:
            assert key in ("name", "rule", "side", "start"), f"{key}: {rest}"


@pytest.mark.parametrize("block", CASES)
def test_transcript_on_sockets(block: Block, tmp_path: Path) -> None:
    asyncio.run(Gateway(block, tmp_path).run())


def test_there_are_such_transcripts() -> None:
    assert len(CASES) == 3
