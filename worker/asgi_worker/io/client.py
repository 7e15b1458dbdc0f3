# SPDX-License-Identifier: MIT
"""The worker's side of its registration with a gateway: all links of one instance.

Job: dial channel 0, open the others with its token, say READY on all of them once the
application has started, follow GOAWAY, and dial again with back-off when the gateway is away
or goes. A link that ends without GOAWAY takes the others of its registration with it (SPEC S8).
It logs once per change of state, not per try. It must not know applications.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..asgi.service import Service
from ..protocol.constants import (
    ERROR_DRAINING,
    ERROR_DUPLICATE,
    ERROR_RECONNECT,
    ERROR_RETIRED,
    ERROR_STARTUP_FAILED,
    ERROR_UNKNOWN_APP,
    ERROR_VERSION,
    FEATURE_FILES,
    FEATURE_WEBSOCKET,
)
from ..protocol.events import GoawayReceived
from ..protocol.frames import ProtocolError
from .handshake import Handshaken, Refused, dial
from .link import Link
from .page import Heartbeat, ProgressPage

BACKOFF_FIRST = 0.05
BACKOFF_LAST = 5.0
INSTANCE_BYTES = 16
FATAL_CODES = (ERROR_RETIRED, ERROR_VERSION, ERROR_UNKNOWN_APP)
OFFERED_FEATURES: tuple[str, ...] = (FEATURE_WEBSOCKET, FEATURE_FILES)
_DIAL_ERRORS = (OSError, TimeoutError, ProtocolError)


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the gateway wants no more of this worker."""

    retired: bool
    reason: str


class Registration:
    """The links that one token joins."""

    def __init__(self, gateway: bytes, token: bytes, channels: int) -> None:
        self.gateway = gateway
        self.token = token
        self.channels = channels
        self.links: dict[int, Link] = {}
        self.draining: set[Link] = set()  # replaced ones that still serve streams
        self.over = asyncio.Event()  # lost, ended, or another registration took its place
        self.lost = False

    def all_links(self) -> list[Link]:
        """Every link that is open."""
        return [*self.links.values(), *self.draining]


class Backoff:
    """Growing pauses with jitter, so that many workers do not dial in step."""

    def __init__(self) -> None:
        self._next = BACKOFF_FIRST

    def reset(self) -> None:
        """Begin again with a short pause."""
        self._next = BACKOFF_FIRST

    async def pause(self) -> None:
        """Wait, longer each time."""
        pause = self._next
        self._next = min(self._next * 2, BACKOFF_LAST)
        await asyncio.sleep(random.uniform(pause / 2, pause))


class GatewayClient:
    """Keeps the worker registered; run() is its task."""

    def __init__(self, path: str, hello: Mapping[str, Any], service: Service) -> None:
        self.first_try = asyncio.Event()  # the first dial has succeeded or failed
        self.registered = asyncio.Event()  # all links are open, so that READY can be said
        self.idle = asyncio.Event()  # no link is open
        self.idle.set()
        self.ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._path = path
        self._hello = dict(hello)
        self._hello["instance"] = os.urandom(INSTANCE_BYTES)
        self._hello["features"] = list(OFFERED_FEATURES)
        self._service = service
        self._log = service.log
        self._heartbeat = Heartbeat()
        self._pages: dict[Link, ProgressPage] = {}
        self._current: Registration | None = None
        self._owner: dict[Link, Registration] = {}
        self._renewals: set[asyncio.Task[None]] = set()
        self._renewing = asyncio.Lock()
        self._ready = False
        self._draining = False
        self._state = ""
        self.on_no_links: Callable[[], None] | None = None

    # The registration

    async def run(self) -> None:
        """Register and stay registered, until drain() or an ending."""
        backoff = Backoff()
        while not self._draining:
            registration = self._current
            if registration is None:
                registration = await self._register(backoff)
                if registration is None:
                    self.first_try.set()
                    await backoff.pause()
                    continue
                self._current = registration
            self.registered.set()
            self.first_try.set()
            await registration.over.wait()
            if self._current is registration:
                self._current = None
                self.registered.clear()
                if registration.lost:
                    await backoff.pause()
            elif self._current is not None:
                backoff.reset()

    async def _register(self, backoff: Backoff) -> Registration | None:
        """Try once; None means that a pause is in order."""
        try:
            registration = await self._open(b"")
        except Refused as exc:
            if exc.code in FATAL_CODES:
                self._end(exc)
            self._say("refused", "the gateway refuses this worker: %s", exc)
            return None
        except _DIAL_ERRORS as exc:
            text = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
            self._say("away", "no gateway at %s (%s); trying again", self._path, text or "timeout")
            return None
        backoff.reset()
        return registration

    async def _open(self, token: bytes, first: Handshaken | None = None) -> Registration:
        """Open all channels of a new registration, from channel 0 on."""
        if first is None:
            first = await self._dial(0, token)
        ack = first.ack
        registration = Registration(ack.gateway, ack.token, ack.channels)
        self._adopt(registration, 0, first)
        try:
            for index in range(1, ack.channels):
                self._adopt(registration, index, await self._dial(index, ack.token))
        except BaseException:
            self._lose(registration, "not all channels could be opened")
            raise
        if registration.lost:
            raise ConnectionResetError("the gateway closed a link while others were opened")
        self._say(
            "registered",
            "registered with the gateway at %s (%d channel%s)",
            self._path,
            ack.channels,
            "" if ack.channels == 1 else "s",
        )
        return registration

    async def _dial(self, index: int, token: bytes) -> Handshaken:
        hello = {**self._hello, "channel_index": index, "token": token}
        return await dial(self._loop, self._path, hello, self._service.decoder)

    def _adopt(self, registration: Registration, index: int, shaken: Handshaken) -> None:
        link = Link(
            self._loop, shaken.sock, shaken.session, self._service, shaken.page.words, self, index
        )
        old = registration.links.get(index)
        if old is not None:
            registration.draining.add(old)
        registration.links[index] = link
        self._owner[link] = registration
        self._pages[link] = shaken.page
        self._heartbeat.add(shaken.page)
        self.idle.clear()
        if self._draining:
            shaken.session.send_goaway("the worker stops")
        elif self._ready:
            shaken.session.send_ready()
        link.start(shaken.events)

    def _lose(self, registration: Registration, reason: str) -> None:
        if not registration.lost:
            registration.lost = True
            for link in registration.all_links():
                link.close(reason)
        registration.over.set()

    # What links tell

    def on_goaway(self, link: Link, event: GoawayReceived) -> None:
        """Follow the gateway's GOAWAY."""
        registration = self._owner.get(link)
        if event.code == ERROR_RETIRED:
            self._finish(Ending(True, event.text or "the gateway retired this generation"))
        elif event.code == ERROR_RECONNECT and registration is not None and not self._draining:
            task = self._loop.create_task(self._renew(registration, link))
            self._renewals.add(task)
            task.add_done_callback(self._renewals.discard)
        elif event.code == ERROR_DRAINING and registration is self._current:
            self._say("draining", "the gateway is going away: %s", event.text or "it stops")

    def on_link_end(self, link: Link, code: int, reason: str) -> None:
        """Take a link out of its registration; the others follow when it ended badly."""
        registration = self._owner.pop(link, None)
        page = self._pages.pop(link, None)
        if page is not None:
            self._heartbeat.remove(page)
        if not self._owner:
            self.idle.set()
        if registration is None:
            return
        if registration.links.get(link.index) is link:
            del registration.links[link.index]
        registration.draining.discard(link)
        if code in FATAL_CODES:
            self._finish(Ending(code == ERROR_RETIRED, reason))
        if reason and not registration.lost:
            if not self._draining:
                self._say("lost", "lost the gateway: %s", reason)
            self._lose(registration, reason)
        elif not registration.links:
            registration.over.set()

    async def _renew(self, registration: Registration, link: Link) -> None:
        """Dial a channel again after GOAWAY(RECONNECT) (SPEC R96, R31, R30)."""
        async with self._renewing:
            index = link.index
            if self._current is not registration or registration.links.get(index) is not link:
                return  # channel 0 has led to a new gateway already
            try:
                shaken = await self._dial(index, registration.token)
                if shaken.ack.token == registration.token:
                    self._adopt(registration, index, shaken)
                    return
                self._replace(registration, await self._open(b"", shaken))
            except Refused as exc:
                if exc.code in FATAL_CODES:
                    self._end(exc)
                elif exc.code == ERROR_RECONNECT:
                    await self._begin_again(registration)
                elif exc.code == ERROR_DUPLICATE:
                    self._log.warning("the gateway has channel %d already: %s", index, exc)
            except _DIAL_ERRORS as exc:
                # The old links serve their streams; run() dials when the last one has ended.
                self._log.warning("channel %d could not be dialled again: %s", index, exc)

    async def _begin_again(self, registration: Registration) -> None:
        try:
            self._replace(registration, await self._open(b""))
        except Refused as exc:
            if exc.code in FATAL_CODES:
                self._end(exc)
        except _DIAL_ERRORS as exc:
            self._log.warning("the new gateway could not be dialled: %s", exc)

    def _replace(self, old: Registration, new: Registration) -> None:
        self._current = new
        old.over.set()

    def _end(self, exc: Refused) -> None:
        self._finish(Ending(exc.code == ERROR_RETIRED, str(exc)))

    def _finish(self, ending: Ending) -> None:
        if not self.ending.done():
            self.ending.set_result(ending)

    def _say(self, state: str, message: str, *args: object) -> None:
        """Log a change of state, once."""
        if state != self._state:
            self._state = state
            (self._log.info if state == "registered" else self._log.warning)(message, *args)

    # What the process tells

    def set_ready(self) -> None:
        """Say READY on all links, and on those to come."""
        self._ready = True
        for link in list(self._owner):
            link.session.send_ready()
            link.flush()

    def announce_concurrency(self, count: int) -> None:
        """Register anew with another max_concurrency; only before set_ready()."""
        if self._hello["max_concurrency"] == count:
            return
        self._hello["max_concurrency"] = count
        self.registered.clear()
        for link in list(self._owner):
            link.session.send_goaway("registering again: the application is WSGI")
            link.flush()

    def startup_failed(self, text: str) -> None:
        """Tell the gateway why the application did not start, and close everything."""
        self._draining = True
        links = list(self._owner)
        for link in links[:1]:
            link.fail(ERROR_STARTUP_FAILED, text)
        for link in links[1:]:
            link.close("the application did not start")

    def drain(self) -> None:
        """Say GOAWAY on all links; each closes when its last stream has ended."""
        self._draining = True
        for link in list(self._owner):
            link.session.send_goaway("the worker stops")
            link.flush()
            link.close_if_done()

    def send_stats(self, rss: int, in_flight: int, tasks: int) -> None:
        """Send STATS on channel 0; called once a second."""
        link = self._current.links.get(0) if self._current is not None else None
        if link is not None:
            link.session.send_stats(rss, in_flight, tasks)
            link.flush()

    def close(self) -> None:
        """Close what is left."""
        for task in self._renewals:
            task.cancel()
        for link in list(self._owner):
            link.close("the worker ends")
        self._heartbeat.stop()
