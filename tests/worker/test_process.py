# SPDX-License-Identifier: MIT
"""A real worker process against a gateway in Python: start, stop, reconnect, exit codes."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from asgi_worker.protocol.constants import (
    ERROR_DRAINING,
    ERROR_DUPLICATE,
    ERROR_FULL,
    ERROR_PROTOCOL,
    ERROR_RECONNECT,
    ERROR_RETIRED,
    ERROR_STARTUP_FAILED,
    ERROR_UNKNOWN_APP,
    ERROR_VERSION,
    FRAME_CHANNEL_ERROR,
    FRAME_GOAWAY,
    FRAME_HELLO,
    FRAME_READY,
    FRAME_STATS,
    GOAWAY_ANNOUNCED,
)
from asgi_worker.protocol.msgpack import unpackb
from gateway import DEADLINE, Gateway, finish, stop
from peer import hello_ack

# Handshake


def test_hello_and_ready() -> None:
    with Gateway() as gateway:
        worker = gateway.start("simple:app", "--generation", "abc123", "--max-concurrency", "7")
        link = gateway.accept()
        hello = link.handshake()
        assert (hello["proto_min"], hello["proto_max"]) == (1, 1)
        assert hello["pid"] == worker.pid
        assert hello["generation"] == "abc123"
        assert hello["max_concurrency"] == 7
        assert hello["target"] == "simple:app"
        assert hello["python"].startswith("CPython 3.")
        assert (hello["channel_index"], hello["token"], len(hello["instance"])) == (0, b"", 16)
        link.wait_ready()
        assert link.request(path="/").body == b"hello"
        assert stop(worker)[0] == 0


def test_nothing_follows_hello_before_hello_ack() -> None:
    with Gateway() as gateway:
        gateway.start("simple:app")
        link = gateway.accept()
        link.hello()
        # the application has long started when the answer comes, and READY still waits for it
        time.sleep(0.3)
        link.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            link.sock.recv(1)
        link.sock.setblocking(True)
        assert [f.kind for f in link.peer.channel] == [FRAME_HELLO]
        socket.send_fds(link.sock, [hello_ack()], [link.page])
        link.wait_ready()


def test_all_channels_are_opened_and_ready() -> None:
    with Gateway() as gateway:
        worker = gateway.start("simple:app")
        first = gateway.accept()
        hello = first.handshake(channels=3, token=b"A" * 16)
        links = [first]
        for index in (1, 2):
            link = gateway.accept()
            other = link.handshake(channels=3, token=b"A" * 16)
            assert other["channel_index"] == index
            assert other["token"] == b"A" * 16
            assert other["instance"] == hello["instance"]
            links.append(link)
        for link in links:
            link.wait_ready()
        for link in links:
            assert link.request(path="/").body == b"hello"
            assert link.word(0) == 1  # each link has a page of its own
        code, _ = stop(worker)
        assert code == 0
        for link in links:
            link.until_end()
            (goaway,) = link.of(FRAME_GOAWAY)
            assert (goaway.code, goaway.aux) == (ERROR_DRAINING, 1)


def test_hello_ack_without_or_with_two_descriptors_is_a_breach() -> None:
    for count in (0, 2):
        with Gateway() as gateway:
            worker = gateway.start("simple:app")
            link = gateway.accept()
            link.hello()
            socket.send_fds(link.sock, [hello_ack()], [link.page] * count)
            link.until_end()
            (error,) = link.of(FRAME_CHANNEL_ERROR)
            assert error.code == ERROR_PROTOCOL
            again = gateway.accept()  # it dials again
            again.handshake()
            again.wait_ready()
            stop(worker)


def test_heartbeat_moves_while_the_event_loop_is_blocked() -> None:
    with Gateway() as gateway:
        _, link = gateway.ready("simple:app")
        link.peer.request(path="/block")
        link.flush()
        before = link.word(1)
        limit = time.monotonic() + DEADLINE
        while link.word(1) < before + 2:
            assert time.monotonic() < limit
            time.sleep(0.05)
        assert link.word(0) == 1


def test_stats_come_but_not_more_than_once_a_second() -> None:
    with Gateway() as gateway:
        _, link = gateway.ready("simple:app")
        link.peer.request(path="/sleep")
        link.until(lambda: len(link.of(FRAME_STATS)) >= 2)
        values = unpackb(link.of(FRAME_STATS)[-1].payload)
        assert values["rss"] > 1 << 20
        assert values["in_flight"] == 1
        assert values["tasks"] >= 2


# The application's start


def test_ready_only_after_startup_and_state_is_there() -> None:
    with Gateway() as gateway:
        worker, link = gateway.ready("simple:with_state")
        assert link.request().body == b"from startup"
        assert stop(worker)[0] == 0


@pytest.mark.parametrize(
    ("app", "options", "words"),
    [
        ("broken:app", (), ["broken on purpose", "Traceback"]),
        ("missing:app", (), ["no module 'missing'"]),
        ("simple:missing", (), ["no attribute 'missing'"]),
        ("simple:not_callable", (), ["int"]),
        ("simple:fails_at_startup", (), ["the database is away"]),
        ("simple:app", ("--lifespan", "on"), ["AssertionError"]),
        ("simple:hangs_at_startup", ("--startup-timeout", "0.3"), ["startup-timeout"]),
    ],
)
def test_failed_start(app: str, options: tuple[str, ...], words: list[str]) -> None:
    """Exit code 3, the reason on stderr, and the reason to the gateway, on one link."""
    with Gateway() as gateway:
        worker = gateway.start(app, *options)
        link = gateway.accept()
        link.handshake()
        link.until_end()
        code, errors = finish(worker)
        assert code == 3
        (error,) = link.of(FRAME_CHANNEL_ERROR)
        assert error.code == ERROR_STARTUP_FAILED
        assert not link.has(FRAME_READY)
        for word in words:
            assert word in error.payload.decode()
            assert word in errors


def test_failed_start_without_a_gateway() -> None:
    with Gateway(listen=False) as gateway:
        code, errors = finish(gateway.start("broken:app"))
        assert code == 3
        assert "broken on purpose" in errors


def test_sigterm_during_startup() -> None:
    with Gateway() as gateway:
        worker = gateway.start("simple:hangs_at_startup")
        link = gateway.accept()
        link.handshake()
        link.ping()
        code, _ = stop(worker)
        assert code == 0
        assert not link.has(FRAME_READY)


@pytest.mark.parametrize(
    ("options", "app", "body"),
    [
        (("--factory",), "simple:factory", b"hello"),
        ((), "simple:Asgi2", b"2.0"),
        (("--interface", "asgi2"), "simple:Asgi2", b"2.0"),
        (("--lifespan", "off"), "simple:app", b"hello"),
        (("--interface", "wsgi"), "simple:wsgi", b"wsgi /"),
    ],
)
def test_interfaces(options: tuple[str, ...], app: str, body: bytes) -> None:
    with Gateway() as gateway:
        worker, link = gateway.ready(app, *options)
        assert link.request(path="/").body == body
        code, errors = stop(worker)
        assert code == 0, errors


def test_detected_wsgi_announces_its_threads() -> None:
    with Gateway() as gateway:
        worker = gateway.start("simple:wsgi")
        link = gateway.accept()
        if link.handshake()["max_concurrency"] != 40:
            link.until_end()
            assert link.has(FRAME_GOAWAY)
            link = gateway.accept()
            assert link.handshake()["max_concurrency"] == 40
        link.wait_ready()
        assert link.request(path="/x").body == b"wsgi /x"
        assert stop(worker)[0] == 0


# Stopping


def test_sigterm_finishes_what_runs() -> None:
    with Gateway() as gateway:
        worker, link = gateway.ready("simple:app")
        exchange = link.peer.request(path="/slow")
        link.ping()
        worker.send_signal(signal.SIGTERM)
        link.until(lambda: link.has(FRAME_GOAWAY))
        assert link.of(FRAME_GOAWAY)[0].aux == exchange.id
        late = link.peer.request(path="/")  # was in flight: dropped without a word
        link.until(lambda: exchange.done)
        assert exchange.body == b"hello"
        link.until_end()
        assert late.frames == []
        assert finish(worker)[0] == 0


def test_sigint_is_a_stop_too() -> None:
    with Gateway() as gateway:
        worker, _ = gateway.ready("simple:app")
        worker.send_signal(signal.SIGINT)
        assert finish(worker)[0] == 0


def test_lifespan_shutdown_runs_last(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with Gateway() as gateway:
        worker = gateway.start("simple:with_state", env={"SHUTDOWN_FILE": str(mark)})
        link = gateway.accept()
        link.handshake()
        link.wait_ready()
        assert stop(worker)[0] == 0
        assert mark.read_text() == "shut down"


def test_at_the_deadline_disconnect_first_then_cancel() -> None:
    with Gateway() as gateway:
        worker, link = gateway.ready(
            "simple:app", "--graceful-timeout", "0.2", "--disconnect-grace", "0.2"
        )
        listens = link.peer.request(path="/sse")
        deaf = link.peer.request(path="/deaf")
        link.until(lambda: listens.body and deaf.body)
        code, errors = stop(worker)
        assert code == 0, errors
        link.until_end()
        assert listens.done
        assert listens.body.endswith(b"bye")  # it heard http.disconnect and could say so
        assert deaf.reset is not None
        assert deaf.done


def test_second_signal_does_not_wait() -> None:
    with Gateway() as gateway:
        worker, link = gateway.ready("simple:app", "--graceful-timeout", "600")
        exchange = link.peer.request(path="/sleep")
        link.ping()
        worker.send_signal(signal.SIGTERM)
        link.until(lambda: link.has(FRAME_GOAWAY))
        worker.send_signal(signal.SIGTERM)
        assert finish(worker)[0] == 0
        link.until_end()
        assert exchange.reset is not None


def test_a_task_that_ignores_cancellation_does_not_keep_the_worker() -> None:
    with Gateway() as gateway:
        worker, link = gateway.ready(
            "simple:app", "--graceful-timeout", "0.1", "--disconnect-grace", "0.1"
        )
        link.peer.request(path="/stubborn")
        link.ping()
        _, errors = stop(worker)
        assert worker.returncode == 0
        assert "do not end" in errors


# The gateway goes and comes


def test_worker_first_gateway_later() -> None:
    with Gateway(listen=False) as gateway:
        worker = gateway.start("simple:app")
        while b"no gateway at" not in worker.stderr.readline():  # type: ignore[union-attr]
            time.sleep(0.2)  # then come some more tries, which are not told
        gateway.listen()
        link = gateway.accept()
        link.handshake()
        link.wait_ready()
        assert link.request().body == b"hello"
        code, errors = stop(worker)
        assert code == 0
        assert "no gateway at" not in errors  # once per change of state, not per try


def test_lost_link_is_dialled_again_with_the_same_instance() -> None:
    with Gateway() as gateway:
        worker, link = gateway.ready("simple:app")
        instance = link.peer.hello()["instance"]
        exchange = link.peer.request(path="/sse")
        link.until(lambda: exchange.body)
        link.close()
        again = gateway.accept()
        hello = again.handshake()
        assert (hello["instance"], hello["token"], hello["channel_index"]) == (instance, b"", 0)
        again.wait_ready()
        assert again.request().body == b"hello"
        code, errors = stop(worker)
        assert code == 0
        assert errors.count("lost the gateway") == 1


def test_one_lost_link_takes_the_others_along() -> None:
    with Gateway() as gateway:
        worker = gateway.start("simple:app")
        first = gateway.accept()
        first.handshake(channels=2)
        second = gateway.accept()
        second.handshake(channels=2)
        first.wait_ready()
        second.wait_ready()
        second.close()
        first.until_end()
        again = gateway.accept()
        assert again.handshake()["channel_index"] == 0
        again.wait_ready()
        stop(worker)


@pytest.mark.parametrize("code", [ERROR_FULL, ERROR_DUPLICATE])
def test_refused_for_now_is_tried_again(code: int) -> None:
    with Gateway() as gateway:
        worker = gateway.start("simple:app")
        for _ in range(3):
            gateway.accept().refuse(code, "not now")
        link = gateway.accept()
        link.handshake()
        link.wait_ready()
        code, errors = stop(worker)
        assert code == 0
        assert errors.count("not now") == 1


@pytest.mark.parametrize(
    ("code", "exit_code"), [(ERROR_RETIRED, 4), (ERROR_VERSION, 1), (ERROR_UNKNOWN_APP, 1)]
)
def test_refused_for_good(code: int, exit_code: int) -> None:
    with Gateway() as gateway:
        worker = gateway.start("simple:app")
        gateway.accept().refuse(code, "a sentence for people")
        result, errors = finish(worker)
        assert result == exit_code
        assert "a sentence for people" in errors
        assert not gateway.pending()


def test_goaway_retired_finishes_and_exits_4() -> None:
    with Gateway() as gateway:
        worker, link = gateway.ready("simple:app")
        exchange = link.peer.request(path="/slow")
        link.ping()
        link.goaway(ERROR_RETIRED, text="generation a is retired")
        link.until(lambda: exchange.done)
        assert exchange.body == b"hello"
        code, errors = finish(worker)
        assert code == 4
        assert "generation a is retired" in errors


def test_goaway_draining_ends_in_order_and_dials_again() -> None:
    with Gateway() as gateway:
        worker, link = gateway.ready("simple:app")
        exchange = link.peer.request(path="/slow")
        link.ping()
        link.goaway(ERROR_DRAINING, exchange.id)
        link.until(lambda: exchange.done)
        link.until_end()
        again = gateway.accept()
        again.handshake()
        again.wait_ready()
        assert again.request().body == b"hello"
        assert stop(worker)[0] == 0


def test_goaway_reconnect_to_the_same_gateway_keeps_the_old_link_until_it_is_done() -> None:
    with Gateway() as gateway:
        worker, link = gateway.ready("simple:app")
        hello = link.peer.hello()
        exchange = link.peer.request(path="/sse")
        link.until(lambda: exchange.body)
        link.goaway(ERROR_RECONNECT, exchange.id)
        fresh = gateway.accept()
        again = fresh.handshake()
        assert again["token"] == b"T" * 16
        assert again["instance"] == hello["instance"]
        fresh.wait_ready()
        assert fresh.request().body == b"hello"
        assert not exchange.done  # the old link lives as long as its stream
        from asgi_worker.protocol.constants import ERROR_CLIENT_EOF

        link.peer.disconnect(exchange, ERROR_CLIENT_EOF)
        link.until(lambda: exchange.done)
        link.until_end()
        assert fresh.request().body == b"hello"
        assert stop(worker)[0] == 0


def test_goaway_reconnect_to_a_new_gateway_opens_everything_anew() -> None:
    with Gateway() as gateway:
        worker = gateway.start("simple:app")
        old = [gateway.accept()]
        old[0].handshake(channels=2)
        old.append(gateway.accept())
        old[1].handshake(channels=2)
        for link in old:
            link.wait_ready()
        for link in old:
            link.goaway(ERROR_RECONNECT)
        seen = []
        fresh = []
        # the new process knows no token: it answers index 1 with RECONNECT, index 0 with its own
        while len(fresh) < 3:
            link = gateway.accept()
            hello = link.hello()
            seen.append((hello["channel_index"], hello["token"]))
            if hello["channel_index"] and hello["token"] != b"N" * 16:
                link.refuse(ERROR_RECONNECT, "an unknown token")
                continue
            socket.send_fds(
                link.sock,
                [hello_ack(channels=3, token=b"N" * 16, gateway=b"H" * 16)],
                [link.page],
            )
            fresh.append(link)
        for link in fresh:
            link.wait_ready()
            assert link.request().body == b"hello"
        for link in old:
            link.until_end()
        assert [index for index, token in seen if token == b"N" * 16] == [1, 2]
        assert not gateway.pending(0.2)
        assert stop(worker)[0] == 0


def test_an_announced_goaway_leaves_the_old_link_in_use() -> None:
    with Gateway() as gateway:
        worker = gateway.start("simple:app")
        old = gateway.accept()
        old.handshake(channels=1)
        old.wait_ready()
        old.goaway(ERROR_RECONNECT, GOAWAY_ANNOUNCED)
        fresh = gateway.accept()
        assert fresh.hello()["channel_index"] == 0
        ack = hello_ack(channels=1, token=b"N" * 16, gateway=b"H" * 16)
        socket.send_fds(fresh.sock, [ack], [fresh.page])
        fresh.wait_ready()
        for link in (old, fresh, old):
            assert link.request().body == b"hello"
        old.goaway(ERROR_DRAINING)
        old.until_end()
        assert fresh.request().body == b"hello" and stop(worker)[0] == 0


def test_unknown_token_begins_again_at_channel_0() -> None:
    with Gateway() as gateway:
        worker = gateway.start("simple:app")
        first = gateway.accept()
        first.handshake(channels=2)
        gateway.accept().refuse(ERROR_RECONNECT, "who is that?")
        first.until_end()
        again = gateway.accept()
        hello = again.handshake(channels=1)
        assert (hello["channel_index"], hello["token"]) == (0, b"")
        again.wait_ready()
        assert stop(worker)[0] == 0


def test_startup_timeout_of_the_gateway_is_tried_again() -> None:
    with Gateway() as gateway:
        worker = gateway.start("simple:hangs_at_startup")
        link = gateway.accept()
        link.handshake()
        from asgi_worker.protocol.frames import frame

        link.peer.raw(frame(FRAME_CHANNEL_ERROR, b"too slow", code=ERROR_STARTUP_FAILED))
        link.flush()
        link.until_end()
        gateway.accept().handshake()
        assert worker.poll() is None


# Limits of a worker's life


def test_max_requests() -> None:
    with Gateway() as gateway:
        worker, link = gateway.ready("simple:app", "--max-requests", "5")
        for _ in range(5):
            assert link.request().status == 200
        link.until(lambda: link.has(FRAME_GOAWAY))
        code, errors = finish(worker)
        assert code == 0
        assert "--max-requests" in errors


def test_max_age() -> None:
    with Gateway() as gateway:
        worker, _ = gateway.ready("simple:app", "--max-age", "0.5")
        code, errors = finish(worker)
        assert code == 0
        assert "--max-age" in errors


def test_max_rss() -> None:
    with Gateway() as gateway:
        worker, link = gateway.ready("simple:app", "--max-rss", "120MiB")
        assert link.request(path="/grow").status == 200
        code, errors = finish(worker)
        assert code == 0
        assert "--max-rss" in errors


# Surroundings


def test_pid_file_and_environment(tmp_path: Path) -> None:
    pid_file = tmp_path / "worker.pid"
    env_file = tmp_path / "env"
    env_file.write_text(
        "# comment\nASGI_WORKER_GENERATION='from file'\nASGI_WORKER_LOG_LEVEL=debug\n"
    )
    with Gateway() as gateway:
        worker = gateway.start(
            "simple:app",
            "--pid-file",
            str(pid_file),
            env={"ASGI_WORKER_ENV_FILE": str(env_file), "ASGI_WORKER_MAX_CONCURRENCY": "9"},
        )
        link = gateway.accept()
        hello = link.handshake()
        assert hello["generation"] == "from file"
        assert hello["max_concurrency"] == 9
        link.wait_ready()
        assert pid_file.read_text().strip() == str(worker.pid)
        assert stop(worker)[0] == 0
        assert not pid_file.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_gateway_of_a_stranger_is_refused() -> None:
    """S12: neither root, nor our uid, nor the directory's owner."""
    with Gateway(listen=False) as gateway:
        stranger = os.fork()
        if stranger == 0:  # binds the socket as another user, as an attacker would
            try:
                os.chmod(os.path.dirname(gateway.path), 0o777)
                os.setuid(12345)
                sock = socket.socket(socket.AF_UNIX)
                sock.bind(gateway.path)
                sock.listen(1)
                sock.settimeout(DEADLINE)
                connection, _ = sock.accept()
                os._exit(1 if connection.recv(100) else 0)
            finally:
                os._exit(2)
        while not os.path.exists(gateway.path):
            time.sleep(0.01)
        worker = gateway.start("simple:app")
        _, status = os.waitpid(stranger, 0)
        assert os.waitstatus_to_exitcode(status) == 0, "the worker said HELLO to a stranger"
        code, errors = stop(worker)
        assert code == 0
        assert "uid 12345" in errors
