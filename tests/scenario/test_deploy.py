# SPDX-License-Identifier: MIT
"""Deployment by generations: promotion, what stops it, the way back, late workers, pauses, the state file."""

import json
import subprocess
import time
from collections.abc import Callable

import pytest
from harness.deploy import GATEWAYCTL, ctl, generations, serving, start_generation, wait_state
from harness.gateway import VARIANT, Gateway
from harness.load import Load
from harness.process import wait_for
from harness.websocket import CLOSE, WsClient

Maker = Callable[..., Gateway]
QUICK = {"soak": "300ms", "probation": "300ms", "queue_timeout": "20s"}
SLOW_BUILD = VARIANT != "release"


@pytest.fixture
def shop(make_gateway: Maker) -> Callable[..., Gateway]:
    """A gateway whose generation v1 serves with two workers."""

    def make(**options: object) -> Gateway:
        gateway = make_gateway(workers=0, gateway={"threads": 2}, app={**QUICK, **options})
        for worker in start_generation(gateway, "v1", 2):
            gateway.wait_ready(worker)
        assert serving(gateway) == "v1"
        return gateway

    return make


def restart(gateway: Gateway) -> None:
    assert gateway.process.stop() == 0
    gateway.process.log.unlink()
    gateway.start()


# --- promotion --------------------------------------------------------------------------------------------------------


def test_promotion_under_load(shop: Callable[..., Gateway]) -> None:
    gateway = shop()
    old = list(gateway.workers)
    with Load(gateway, target="/generation") as load:
        load.more(20)
        start_generation(gateway, "v2", 2)
        done = ctl(gateway, "deploy", "main", "--generation", "v2", "--wait", "--timeout", "60")
        assert done.returncode == 0, done
        assert "promoted" in done.stdout
        load.more(20)
        assert serving(gateway) == "v2"
        for worker in old:
            assert worker.wait() == 4  # its generation is retired
        load.more(20)
    assert generations(gateway)["v1"]["state"] == "retired"
    assert gateway.metric("deploys_promoted") == 2


def test_candidate_gets_no_request_until_it_is_promoted(shop: Callable[..., Gateway]) -> None:
    gateway = shop(promote="manual", soak="50ms")
    start_generation(gateway, "v2", 1)
    wait_state(gateway, "v2", "waiting")
    for _ in range(20):
        assert serving(gateway) == "v1"
    workers = gateway.admin("workers")
    assert {row["state"] for row in workers if row["generation"] == "v2"} == {"paused"}
    assert ctl(gateway, "deploy", "main", "--generation", "v2").returncode == 0
    wait_state(gateway, "v2", "current")
    assert serving(gateway) == "v2"


def test_min_ready_is_waited_for(shop: Callable[..., Gateway]) -> None:
    gateway = shop(min_ready=2)
    (first,) = start_generation(gateway, "v2", 1)
    gateway.wait_ready(first)
    done = ctl(gateway, "deploy", "main", "--generation", "v2", "--wait", "--timeout", "0.5")
    assert done.returncode == 5, done
    assert "1 of min_ready 2 ready" in done.stdout
    assert serving(gateway) == "v1"
    start_generation(gateway, "v2", 1)
    assert ctl(gateway, "deploy", "main", "--generation", "v2", "--wait", "--timeout", "60").returncode == 0
    assert serving(gateway) == "v2"


def test_cold_start_waits_for_no_soak(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0, app={"soak": "1h", "promote": "manual", "queue_timeout": "20s"})
    with gateway.client() as client:
        client.request("GET", "/generation")  # waits for the first worker
        start_generation(gateway, "v1")
        assert client.response().body.startswith(b"v1")


def test_new_generation_takes_over_from_none(shop: Callable[..., Gateway]) -> None:
    """Who stops the old workers before the new generation has soaked loses no request for it."""
    gateway = shop(soak="1h")
    old = list(gateway.workers)
    with Load(gateway, target="/generation") as load:
        (new,) = start_generation(gateway, "v2", 1)
        gateway.wait_ready(new)
        load.more(20)
        for worker in old:
            assert worker.stop() == 0
        load.more(20)
    assert serving(gateway) == "v2"


# --- what stops a promotion -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "told", "codes"),
    [
        ("import", "the shop's database password is missing", {3, 4}),
        ("lifespan", "the shop's tables are not migrated", {3, 4}),
        ("hang", "READY did not come within start_timeout", {1, 4}),
        ("crash", "a worker was lost on probation", {-9, 4}),
    ],
)
def test_broken_generation(make_gateway: Maker, fault: str, told: str, codes: set[int]) -> None:
    gateway = make_gateway(workers=0, app=QUICK, ipc={"start_timeout": "5s"})
    start_generation(gateway, "v1", 2)
    wait_for(lambda: gateway.status()["apps"][0]["ready"] == 2, "two ready workers")
    with Load(gateway, target="/generation") as load:
        load.more(20)
        for worker in start_generation(gateway, "v2", 2, fault):
            worker.may_end_with = codes | {-15}
        done = ctl(gateway, "deploy", "main", "--generation", "v2", "--wait", "--timeout", "60")
        assert done.returncode == 4, done
        assert told in done.stdout
        load.more(20)
        assert serving(gateway) == "v1"
    row = generations(gateway)["v2"]
    assert row["state"] == "deploy_failed"
    assert told in row["reason"]
    status = ctl(gateway, "status").stdout
    assert "deploy_failed" in status
    assert told in status
    if fault == "import":
        assert "Traceback" in status
        assert 'raise RuntimeError("the shop' in status
    assert any(told in row["reason"] for row in gateway.status()["generations"] if row["reason"])
    for worker in gateway.workers[2:]:
        assert worker.wait(60) in codes


def test_crash_costs_no_request_that_runs_once(shop: Callable[..., Gateway]) -> None:
    """On probation POSTs and WebSockets go to workers of the new generation only once those have answered something."""
    gateway = shop(probation="2s")
    for worker in start_generation(gateway, "v2", 2, "crash"):
        worker.may_end_with = {-9, 0, 4, -15}
    with subprocess.Popen(
        [GATEWAYCTL, "-s", str(gateway.admin_socket), "deploy", "main", "--generation", "v2", "--wait"],
        stdout=subprocess.DEVNULL,
    ) as deploy:
        with gateway.client() as client:
            while deploy.poll() is None:
                client.request("POST", "/echo", body=b"once")
                answer = client.response()
                assert (answer.status, answer.body) == (200, b"once")
                with gateway.client() as web:
                    WsClient(web).handshake("/ws")
                    assert web.head().status == 101
                if generations(gateway)["v2"]["state"] == "current":
                    assert client.get("/generation").status == 200
        assert deploy.returncode == 4
    assert serving(gateway) == "v1"
    assert len([note for note in gateway.notes() if note.startswith("crash")]) >= 1


def test_requests_that_run_once_follow(shop: Callable[..., Gateway]) -> None:
    """Without any other request they go to the new generation when its probation is over, with one before."""
    for target in ("/generation", ""):
        gateway = shop(probation="1h" if target else "1s")
        start_generation(gateway, "v2", 1)
        wait_state(gateway, "v2", "current")
        with gateway.client() as client:
            client.request("POST", "/generation", body=b"")
            assert client.response().body.startswith(b"v1")
            if target:
                assert client.get(target).body.startswith(b"v2")
            else:
                wait_state(gateway, "v1", "retired")
            client.request("POST", "/generation", body=b"")
            assert client.response().body.startswith(b"v2")


def test_warm_up_finds_the_crash_before_promotion(shop: Callable[..., Gateway]) -> None:
    gateway = shop(warmup="/warm?a=b")
    for worker in start_generation(gateway, "v2", 2, "crash"):
        worker.may_end_with = {-9, 0, 4, -15}
    done = ctl(gateway, "deploy", "main", "--generation", "v2", "--wait", "--timeout", "60")
    assert done.returncode == 4, done
    assert "warmup" in done.stdout
    assert {note.split()[2] for note in gateway.notes() if note.startswith("crash")} == {"/warm"}
    assert serving(gateway) == "v1"


def test_warm_up_answers_below_500(shop: Callable[..., Gateway]) -> None:
    gateway = shop(warmup="/generation")
    start_generation(gateway, "v2", 2, "error")
    done = ctl(gateway, "deploy", "main", "--generation", "v2", "--wait", "--timeout", "60")
    assert done.returncode == 4, done
    assert "warmup" in done.stdout
    assert serving(gateway) == "v1"
    assert gateway.metric("warmups_failed") >= 1
    start_generation(gateway, "v3", 1)
    assert ctl(gateway, "deploy", "main", "--generation", "v3", "--wait", "--timeout", "60").returncode == 0
    assert serving(gateway) == "v3"


def test_loss_during_soak(shop: Callable[..., Gateway]) -> None:
    gateway = shop(soak="1h")
    first, second = start_generation(gateway, "v2", 2)
    gateway.wait_ready(first)
    wait_state(gateway, "v2", "soaking")
    first.kill()
    wait_state(gateway, "v2", "deploy_failed")
    assert second.wait() == 4
    assert serving(gateway) == "v1"


def test_failed_generation_may_be_tried_again(shop: Callable[..., Gateway]) -> None:
    gateway = shop()
    for worker in start_generation(gateway, "v2", 1, "import"):
        worker.may_end_with = {3}
    wait_state(gateway, "v2", "deploy_failed")
    (late,) = start_generation(gateway, "v2", 1)
    assert late.wait() == 4
    assert "has failed" in late.output
    assert ctl(gateway, "deploy", "main", "--generation", "v2").returncode == 0
    start_generation(gateway, "v2", 1)
    assert ctl(gateway, "deploy", "main", "--generation", "v2", "--wait", "--timeout", "60").returncode == 0
    assert serving(gateway) == "v2"


# --- the way back -----------------------------------------------------------------------------------------------------


def test_rollback(shop: Callable[..., Gateway]) -> None:
    gateway = shop(rollback_keep="1h")
    with Load(gateway, target="/generation") as load:
        new = start_generation(gateway, "v2", 2)
        assert ctl(gateway, "deploy", "main", "--generation", "v2", "--wait", "--timeout", "60").returncode == 0
        load.more(20)
        assert serving(gateway) == "v2"
        assert generations(gateway)["v1"]["state"] == "previous"
        done = ctl(gateway, "rollback", "main")
        assert done.returncode == 0, done
        assert serving(gateway) == "v1"
        load.more(20)
        for worker in new:
            assert worker.wait() == 4
    again = ctl(gateway, "rollback", "main")
    assert again.returncode == 1
    assert "rollback_keep" in again.stderr


def test_late_worker_of_a_retired_generation(shop: Callable[..., Gateway]) -> None:
    gateway = shop()
    start_generation(gateway, "v2", 1)
    assert ctl(gateway, "deploy", "main", "--generation", "v2", "--wait", "--timeout", "60").returncode == 0
    wait_state(gateway, "v1", "retired")
    (late,) = start_generation(gateway, "v1", 1)
    assert late.wait() == 4
    assert "is retired" in late.output
    assert gateway.metric("workers_refused_retired") >= 1
    # Unless it is asked for.
    assert ctl(gateway, "deploy", "main", "--generation", "v1").returncode == 0
    start_generation(gateway, "v1", 1)
    assert ctl(gateway, "deploy", "main", "--generation", "v1", "--wait", "--timeout", "60").returncode == 0
    assert serving(gateway) == "v1"


def test_generations_outlive_the_gateway(shop: Callable[..., Gateway]) -> None:
    gateway = shop()
    (worker,) = start_generation(gateway, "v2", 1)
    assert ctl(gateway, "deploy", "main", "--generation", "v2", "--wait", "--timeout", "60").returncode == 0
    for old in gateway.workers[:2]:
        assert old.wait() == 4
    restart(gateway)
    wait_for(lambda: gateway.status()["ready"], "the worker to come back")
    assert worker.alive
    assert {name: row["state"] for name, row in generations(gateway).items()} == {"v1": "retired", "v2": "current"}
    (late,) = start_generation(gateway, "v1", 1)
    assert late.wait() == 4
    assert serving(gateway) == "v2"


def test_damaged_state_file(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0)
    state = gateway.directory / "main.state"
    state.write_text("gatewayd generations 1\ncurrent v%zz\n")
    restart(gateway)
    gateway.process.wait_log("is damaged")
    start_generation(gateway, "v1", 1)
    wait_for(lambda: gateway.status()["ready"], "the worker")
    assert state.read_text() == "gatewayd generations 1\ncurrent v1\n"


# --- another configuration, another gateway ---------------------------------------------------------------------------


def test_reload_keeps_generations(shop: Callable[..., Gateway]) -> None:
    """What has been decided stays; how the next one is decided is the new configuration's."""
    gateway = shop(soak="1h")
    (new,) = start_generation(gateway, "v2", 1)
    gateway.wait_ready(new)
    wait_state(gateway, "v2", "soaking")
    gateway.sections["app"].update({"soak": "100ms", "promote": "manual"})
    gateway.write_config()
    with Load(gateway, target="/generation") as load:
        assert ctl(gateway, "reload").returncode == 0
        wait_state(gateway, "v2", "waiting")
        assert serving(gateway) == "v1"
        assert ctl(gateway, "deploy", "main", "--generation", "v2", "--wait", "--timeout", "60").returncode == 0
        load.more(20)
        assert ctl(gateway, "reload").returncode == 0
        load.more(20)
    assert serving(gateway) == "v2"
    (late,) = start_generation(gateway, "v1", 1)
    assert late.wait() == 4


def test_upgrade_keeps_generations(make_gateway: Maker) -> None:
    """The next server knows which generation serves, and who is retired."""
    gateway = make_gateway(workers=0, gateway={"threads": 2}, app=QUICK, own_binary=True)
    for worker in start_generation(gateway, "v1", 1):
        gateway.wait_ready(worker)
    start_generation(gateway, "v2", 2)
    assert ctl(gateway, "deploy", "main", "--generation", "v2", "--wait", "--timeout", "60").returncode == 0
    wait_state(gateway, "v1", "retired")
    done = ctl(gateway, "upgrade", "--wait", seconds=120)
    assert done.returncode == 0, done
    assert serving(gateway) == "v2"
    assert {name: row["state"] for name, row in generations(gateway).items()} == {"v1": "retired", "v2": "current"}
    (late,) = start_generation(gateway, "v1", 1)
    assert late.wait() == 4
    start_generation(gateway, "v3", 1)
    assert ctl(gateway, "deploy", "main", "--generation", "v3", "--wait", "--timeout", "60").returncode == 0
    assert serving(gateway) == "v3"


# --- pause and drain --------------------------------------------------------------------------------------------------


def test_pause_restart_resume(make_gateway: Maker) -> None:
    gateway = make_gateway(app={"queue_timeout": "1s", "pause_timeout": "60s"})
    with Load(gateway) as load:
        load.more(20)
        assert ctl(gateway, "pause", "main").returncode == 0
        assert gateway.workers[0].stop() == 0
        assert gateway.status()["ready"] is True  # requests wait: no reason to send clients elsewhere
        assert gateway.status()["apps"][0]["state"] == "paused"
        time.sleep(1.5)  # longer than queue_timeout
        gateway.start_workers(1)
        assert ctl(gateway, "resume", "main").returncode == 0
        load.more(20)
    assert load.slowest > 1.5
    assert ctl(gateway, "resume", "main").returncode == 1


def test_pause_ends_by_itself(make_gateway: Maker) -> None:
    gateway = make_gateway(app={"pause_timeout": "300ms"})
    assert ctl(gateway, "pause", "main").returncode == 0
    began = time.monotonic()
    assert gateway.get("/").status == 200
    assert time.monotonic() - began > 0.2
    assert gateway.status()["apps"][0]["state"] == "serving"
    gateway.process.wait_log("pause ends by itself")


def test_paused_queue_is_bounded(make_gateway: Maker) -> None:
    gateway = make_gateway(app={"queue_max": 1})
    assert ctl(gateway, "pause", "main").returncode == 0
    with gateway.client() as first:
        first.request("GET", "/")
        gateway.wait_metric("requests_waiting", 1)
        assert gateway.get("/").status == 503
        assert ctl(gateway, "resume", "main").returncode == 0
        assert first.response().status == 200


def test_drain_of_a_worker(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=2)
    first, second = gateway.workers
    first.may_end_with = second.may_end_with = {0, 4}
    with gateway.client() as client, Load(gateway) as load:
        client.request("GET", "/sleep?ms=500&id=1")
        gateway.wait_note("start GET 1")
        rows = {row["pid"]: row for row in gateway.admin("workers")}
        busy = first if rows[first.pid]["in_flight"] else second
        other = second if busy is first else first
        assert ctl(gateway, "drain", str(busy.pid)).returncode == 0
        assert client.response().body == b"slept\n"
        assert busy.wait() == 4
        load.more(20)
        refused = ctl(gateway, "drain", f"id:{rows[other.pid]['id']}")
        assert refused.returncode == 1
        assert "only ready one" in refused.stderr
    assert ctl(gateway, "drain", str(other.pid), "--force").returncode == 0
    assert other.wait() == 4
    assert ctl(gateway, "drain", "1").returncode == 1
    assert ctl(gateway, "drain", "one").returncode == 1


def test_drain_of_the_gateway(make_gateway: Maker) -> None:
    gateway = make_gateway()
    with gateway.client() as client:
        client.request("GET", "/sleep?ms=300&id=1")
        gateway.wait_note("start GET 1")
        assert ctl(gateway, "drain").returncode == 0
        assert client.response().body == b"slept\n"
    assert gateway.process.wait() == 0


# --- gatewayctl -------------------------------------------------------------------------------------------------------


def test_exit_codes(make_gateway: Maker) -> None:
    gateway = make_gateway(workers=0)
    for arguments, code in [
        (["deploy", "main"], 2),
        (["deploy", "--generation", "v1"], 2),
        (["status", "--wait"], 2),
        (["pause", "main", "--force"], 2),
        (["deploy", "main", "--generation", "two words"], 2),
        (["deploy", "main", "--generation", "v1", "--timeout", "soon"], 2),
        (["deploy", "other", "--generation", "v1"], 1),
        (["deploy", "other", "--generation", "v1", "--wait"], 1),
        (["rollback", "main"], 1),
        (["rollback"], 1),
        (["resume", "main"], 1),
        (["deploy", "main", "--generation", "v1", "--wait", "--timeout", "0.2"], 5),
        (["deploy", "main", "--generation", "v1"], 0),
        (["top"], 0),
        (["generations"], 0),
    ]:
        done = ctl(gateway, *arguments)
        assert done.returncode == code, (arguments, done)
        assert (code == 0) or done.stderr.startswith("gatewayctl: "), done


def test_json_of_orders(shop: Callable[..., Gateway]) -> None:
    gateway = shop()
    start_generation(gateway, "v2", 1)
    done = ctl(gateway, "--json", "deploy", "main", "--generation", "v2", "--wait", "--timeout", "60")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"outcome": "done", "text": "promoted"}
    for command in ("status", "top", "apps", "generations", "workers", "connections", "requests"):
        json.loads(ctl(gateway, "--json", command).stdout)


# --- what lasts longer than a deploy ----------------------------------------------------------------------------------


def test_streams_across_a_promotion(shop: Callable[..., Gateway]) -> None:
    """A download and an event stream go on with their old worker to their end; a WebSocket is closed with 1012."""
    gateway = shop()
    old = list(gateway.workers)
    expected = b"".join(b"data: %d\n\n" % i for i in range(30))
    with gateway.client(receive_buffer=32768) as download, gateway.client() as events, gateway.client() as web:
        download.request("GET", "/download?bytes=4000000&chunked=1")
        head = download.head()
        events.request("GET", "/drip?count=30&delay=100")
        drip = events.head()
        socket = WsClient(web)
        socket.handshake("/ws")
        assert web.head().status == 101
        start_generation(gateway, "v2", 1)
        assert ctl(gateway, "deploy", "main", "--generation", "v2", "--wait", "--timeout", "60").returncode == 0
        wait_state(gateway, "v1", "retired")
        assert serving(gateway) == "v2"
        assert any(worker.alive for worker in old)
        closed = socket.frame()
        assert (closed.opcode, closed.code) == (CLOSE, 1012)
        assert len(download.body(head)) == 4000000
        assert events.body(drip) == expected
    for worker in old:
        assert worker.wait() == 4


def test_websockets_may_be_kept_over_a_promotion(shop: Callable[..., Gateway]) -> None:
    gateway = shop(ws_on_drain="500ms")
    with gateway.client() as web:
        socket = WsClient(web)
        socket.handshake("/ws")
        assert web.head().status == 101
        start_generation(gateway, "v2", 1)
        assert ctl(gateway, "deploy", "main", "--generation", "v2", "--wait", "--timeout", "60").returncode == 0
        wait_state(gateway, "v1", "retired")
        socket.text("still there")
        assert socket.frame().payload == b"still there"
        closed = socket.frame()
        assert (closed.opcode, closed.code) == (CLOSE, 1012)
