# SPDX-License-Identifier: MIT
"""What the machine refuses: memory, one allocation after the other; room for logs."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.gateway import VARIANT, Gateway
from harness.http1 import Client, Closed
from harness.load import Load
from harness.process import Failed, wait_for
from harness.scripted_worker import Echoing

Maker = Callable[..., Gateway]

# --- memory -----------------------------------------------------------------------------------------------------------

# A start, one worker and the requests below make some 800 allocations of our own. Every run fails another one; the
# steps are such that the parameters together reach all phases, and prime to each other.
STEPS = {"release": 5, "asan": 13}.get(VARIANT, 29)
RANGES = [(first, first + 200) for first in range(1, 1000, 200)]


def start_without_memory(directory: Path, failing: str) -> Gateway | None:
    """A gateway whose allocation number `failing` fails ("7+": all from the 7th on); None: it ended in order."""
    wait = "50ms" if failing.endswith("+") else "200ms"
    gateway = Gateway(directory, app={"queue_timeout": wait}, limits={"keep_alive": "2s"}, ipc={"death_wait": "1ms"})
    gateway.write_config()
    gateway.process.environment.update({"GATEWAYD_FAIL_ALLOC": failing, "GATEWAYD_STRICT_EXIT": "1"})
    gateway.process.start()

    def settled() -> bool:
        return not gateway.process.alive or "serving: " in gateway.process.output

    wait_for(settled, "gatewayd to serve or to end")
    if gateway.process.alive:
        return gateway
    code = gateway.process.wait()
    assert code in (1, 2), f"{failing}: gatewayd ended with {code}\n{gateway.process.tail()}"
    assert gateway.process.output.strip(), f"{failing}: it ended without a word"
    gateway.process.assert_no_report()
    return None


def exchange(gateway: Gateway, request: bytes) -> int:
    """The status of the answer; 0: the connection was closed instead."""
    try:
        with Client(("127.0.0.1", gateway.port), timeout=20) as client:
            client.send(request)
            return client.response().status
    except (Closed, ConnectionResetError, BrokenPipeError):
        return 0


REQUESTS = [
    b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000,
    b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET /" + b"d" * 3000 + b"%41?q HTTP/1.1\r\nHost: x\r\n" + b"X-Y: z\r\n" * 60 + b"\r\n",
    b"GET /bad HTTP/1.1\r\n\r\n",
]
WELL = [200, 200, 200, 200, 400]


def live_with(gateway: Gateway) -> list[int]:
    """A worker, requests, a client that leaves; gives the statuses."""
    statuses = []
    worker: Echoing | None = None
    for _ in range(2):  # a refused link is dialled again
        with contextlib.suppress(Failed, OSError, AssertionError):
            worker = Echoing(gateway.app_socket)
            break
    for request in REQUESTS:
        statuses.append(exchange(gateway, request))
    with contextlib.suppress(OSError):
        client = gateway.client()
        client.request("POST", "/leaves", {"content-length": "100"})
        client.reset()
    if worker is not None:
        worker.stop()
    return statuses


def end(gateway: Gateway, failing: str, codes: set[int]) -> None:
    assert gateway.process.alive, f"{failing}: gatewayd ended\n{gateway.process.tail()}"
    code = gateway.process.stop()
    assert code in codes, f"{failing}: gatewayd ended with {code}\n{gateway.process.tail()}"
    gateway.process.assert_no_report()
    assert "was killed" not in gateway.process.output, f"{failing}\n{gateway.process.tail()}"


@pytest.mark.parametrize(("first", "last"), RANGES)
def test_one_allocation_fails(tmp_path: Path, first: int, last: int) -> None:
    """It costs at most what it was for: a request, a link, or a clean refusal to start."""
    for number in range(first, last, STEPS):
        directory = tmp_path / str(number)
        directory.mkdir()
        gateway = start_without_memory(directory, str(number))
        if gateway is None:
            continue
        try:
            rounds = [live_with(gateway) for _ in range(3)]
            assert rounds.count(WELL) >= 2, f"{number}: {rounds}\n{gateway.process.tail()}"
            end(gateway, str(number), {0})
        finally:
            gateway.kill()


@pytest.mark.parametrize(("first", "last"), RANGES)
def test_all_allocations_fail_from_then_on(tmp_path: Path, first: int, last: int) -> None:
    """Nothing works any more, nothing crashes, and it can be stopped."""
    for number in range(first + STEPS // 2, last, STEPS):
        directory = tmp_path / str(number)
        directory.mkdir()
        gateway = start_without_memory(directory, f"{number}+")
        if gateway is None:
            continue
        try:
            assert set(live_with(gateway)) <= {0, 200, 400, 502, 503, 504}
            end(gateway, f"{number}+", {0, 1})
        finally:
            gateway.kill()


# --- logs -------------------------------------------------------------------------------------------------------------


def test_full_log_disk(make_gateway: Maker, tmp_path: Path) -> None:
    """Serving goes on, what is dropped is counted, and writing resumes with the next place to write to."""
    place = tmp_path / "access.log"
    place.symlink_to("/dev/full")
    gateway = make_gateway(log={"access": str(place)})
    with Load(gateway, clients=4, pause=0) as load:
        load.more(300)
        gateway.expect_counted("log_lines_dropped", 100)
        place.unlink()
        gateway.process.send_signal(signal.SIGUSR1)
        gateway.process.wait_log("logs opened anew")
        load.more(300)
        wait_for(lambda: place.exists() and place.read_text().count("GET / ") >= 100, "lines in the new log")
    assert gateway.process.output.count("cannot be written") + gateway.process.output.count("No space left") <= 3


def test_access_log_tells_every_end(make_gateway: Maker) -> None:
    gateway = make_gateway(log={"access_format": "%(m)s %(U)s %(s)s"}, worker_options=["--disconnect-grace", "0.1"])
    with gateway.client() as client:
        client.get("/")
        client.get("/missing")
        client.get("/crash")
        client.request("GET", "/endless")
        client.head()
        client.reset()
    with gateway.client() as client:
        client.send(b"GET /bad HTTP/1.1\r\n\r\n")
        client.response()
    gateway.wait_metric("exchanges", 0)
    wanted = ["GET / 200", "GET /missing 404", "GET /crash 500", "GET /endless 200"]
    wait_for(lambda: all(line in gateway.access_log() for line in wanted), "the access log's lines")
    wait_for(lambda: any(line.endswith(" 400") for line in gateway.access_log()), "the line of the bad request")


def test_access_log_takes_no_injection(make_gateway: Maker) -> None:
    gateway = make_gateway()
    with gateway.client() as client:
        client.request("GET", "/%0d%0aforged%22", {"user-agent": 'x"\\ \xe9\t" 200 "', "referer": "a\tb"})
        client.response()
    wait_for(gateway.access_log, "a line")
    (line,) = gateway.access_log()
    assert "forged" in line and '"x"' not in line and "\t" not in line
    assert all(32 <= ord(character) < 127 for character in line), line


def test_slow_log_disk_slows_nobody(make_gateway: Maker, tmp_path: Path) -> None:
    """The writer waits for the disk, the loops do not: here the disk is a pipe that is read late."""
    fifo = tmp_path / "access.fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        gateway = make_gateway(log={"access": str(fifo)})
        with Load(gateway, clients=4, pause=0) as load:
            load.more(3000)  # several times what the pipe holds
            assert load.slowest < 5
        os.set_blocking(reader, False)
        deadline = time.monotonic() + 20
        lines = 0
        while lines < 300 and time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                lines += os.read(reader, 1 << 20).count(b"\n")
            time.sleep(0.01)
        assert lines >= 300
    finally:
        os.close(reader)
