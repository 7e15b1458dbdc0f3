# SPDX-License-Identifier: MIT
"""Another configuration for a gateway that runs: by SIGHUP and by `gatewayctl reload`, whole or not at all."""

import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.gateway import ROOT, VARIANT, Gateway, insecure_context, make_certificate
from harness.http1 import Client
from harness.load import Load
from harness.ports import free_port
from harness.process import rss, wait_for
from harness.websocket import WsClient

GATEWAYCTL = os.environ.get("GATEWAYCTL", str(ROOT / "build" / "gatewayctl"))

MakeGateway = Callable[..., Gateway]


def ctl(gateway: Gateway, *words: str) -> subprocess.CompletedProcess[str]:
    command = [GATEWAYCTL, "-s", str(gateway.admin_socket), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def reload(gateway: Gateway) -> str:
    """Writes the configuration as it is now, has it taken over, and returns the answer."""
    gateway.write_config()
    done = ctl(gateway, "reload")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{gateway.process.tail()}"
    return done.stdout


def server_certificate(gateway: Gateway) -> bytes:
    with gateway.tls_client(insecure_context()) as client:
        tls = client.socket
        assert isinstance(tls, ssl.SSLSocket)
        found = tls.getpeercert(binary_form=True)
        assert client.get("/").status == 200
    assert found is not None
    return found


def pem_to_der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


# --- all or nothing ---------------------------------------------------------------------------------------------------


def test_a_valid_file_is_taken_over_and_said_everywhere(gateway: Gateway) -> None:
    answer = reload(gateway)
    assert answer == "configuration 2 is in effect\n"
    assert re.search(r"master: configuration 2 is in effect", gateway.process.output)
    assert gateway.status()["reload"] == {"failed": False, "ago_s": 0, "text": "configuration 2 is in effect"}
    assert "configuration 2 is in effect" in ctl(gateway, "status").stdout
    assert gateway.metric("config_reloads") == 1


def test_a_signal_does_the_same(gateway: Gateway) -> None:
    gateway.process.send_signal(signal.SIGHUP)
    gateway.process.wait_log(r"configuration 2 is in effect")
    assert gateway.get("/").status == 200


@pytest.mark.parametrize(
    ("add", "why"),
    [
        ("[gateway]\nthraeds = 1\n", r"gateway.toml:\d+:\d+: .*thraeds"),
        ("no toml\n", r"gateway.toml:\d+:\d+: this is no TOML"),
        ('[tls]\ncertificates = [{ cert = "none.pem", key = "none.pem" }]\n', r"gateway.toml:\d+:\d+: .*none.pem"),
        ('[[listen]]\nbind = "203.0.113.77:1"\n', r"gateway.toml:\d+:\d+: .*203.0.113.77"),
        ('[[route]]\npath = "/"\napp = "other"\n', r"gateway.toml:\d+:\d+: .*other"),
    ],
)
def test_an_invalid_file_changes_nothing_and_says_where(gateway: Gateway, add: str, why: str) -> None:
    text = gateway.config.read_text()
    first, _, rest = add.partition("\n")
    gateway.config.write_text(
        text.replace(first, f"{first}\n{rest}") if first in text and first.startswith("[gateway") else text + add
    )
    done = ctl(gateway, "reload")
    assert done.returncode == 1 and re.search(why, done.stderr), done
    assert re.search(why, gateway.process.output)
    assert "nothing was changed" in gateway.process.output
    status = gateway.status()["reload"]
    assert status["failed"] and re.search(why, status["text"])
    assert re.search(rf"reload .* FAILED: .*{why}", ctl(gateway, "status").stdout)
    assert gateway.metric("config_reloads_failed") == 1
    assert gateway.get("/").status == 200
    reload(gateway)


def test_a_file_that_is_gone_is_no_reason_to_stop(gateway: Gateway) -> None:
    gateway.config.unlink()
    done = ctl(gateway, "reload")
    assert done.returncode == 1 and "gateway.toml: cannot read it" in done.stderr
    assert gateway.get("/").status == 200


def test_what_cannot_change_is_named(gateway: Gateway) -> None:
    gateway.sections["gateway"] = {"threads": 2}
    gateway.sections["ipc"] = {"window": "128KiB"}
    answer = reload(gateway)
    assert re.search(r"gateway.toml:\d+:\d+: gateway.threads changes only by a restart", answer)
    assert re.search(r"gateway.toml:\d+:\d+: ipc.window changes only by an upgrade or a restart", answer)
    assert re.search(r"warning config: .*gateway.threads changes only by a restart", gateway.process.output)
    assert gateway.status()["loops"] == 1
    assert gateway.get("/download?bytes=300000").body == bytes(range(256)) * 1171 + bytes(range(256))[:224]


def test_a_reload_of_a_gateway_that_stops_is_refused(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(gateway={"drain_timeout": "20s"})
    with gateway.client() as client:
        client.send(b"GET /sleep?ms=1500 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        gateway.wait_note("start GET")
        gateway.process.send_signal(signal.SIGTERM)
        gateway.process.wait_log("stopping")
        gateway.process.send_signal(signal.SIGHUP)
        assert client.response().body == b"slept\n"
    assert gateway.process.wait() == 0


# --- certificates -----------------------------------------------------------------------------------------------------


def test_new_handshakes_get_the_new_certificate_and_old_connections_go_on(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(tls=True)
    first = pem_to_der(gateway.cert)
    assert server_certificate(gateway) == first
    with gateway.tls_client() as old:
        assert old.get("/").status == 200
        make_certificate(gateway.directory)
        second = pem_to_der(gateway.cert)
        assert second != first and server_certificate(gateway) == first
        reload(gateway)
        assert server_certificate(gateway) == second
        assert old.get("/scope").status == 200
        # A key that is not the certificate's: refused, and the second one stays.
        make_certificate(gateway.directory, stem="other")
        gateway.key.write_bytes((gateway.directory / "other-key.pem").read_bytes())
        done = ctl(gateway, "reload")
        assert done.returncode == 1 and "does not belong to the key" in done.stderr
        assert re.search(r"gateway.toml:\d+:\d+: ", done.stderr)
        assert server_certificate(gateway) == second
        assert old.get("/").status == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_master_hands_over_what_the_server_may_not_read() -> None:
    """Root's key and configuration, and a port below 1024, in a server that is nobody."""
    directory = Path(tempfile.mkdtemp(prefix="gateway-", dir="/tmp"))
    secret = directory / "secret"
    secret.mkdir(mode=0o700)
    gateway = Gateway(directory, tls=True, gateway={"user": "nobody"})
    try:
        directory.chmod(0o755)
        gateway.config = secret / "gateway.toml"
        gateway.sections["tls"]["certificates"] = [{"cert": "cert.pem", "key": "cert-key.pem"}]
        gateway.process.command[-1] = str(gateway.config)
        gateway.sections["log"] = {"access": "-"}
        cert, _ = make_certificate(secret)
        gateway.start()
        gateway.start_workers(1)
        assert server_certificate(gateway) == pem_to_der(cert)
        make_certificate(secret)
        low = next(port for port in range(1, 1024) if refused(port))
        gateway.listeners.append({"bind": f"127.0.0.1:{low}"})
        reload(gateway)
        assert server_certificate(gateway) == pem_to_der(cert)
        with Client(("127.0.0.1", low)) as client:
            assert client.get("/").status == 200
        del gateway.listeners[-1]
        reload(gateway)
        wait_for(lambda: refused(low), "the low port to close")
        gateway.finish()
    finally:
        gateway.kill()
        shutil.rmtree(directory)


def test_tickets_outlive_a_reload(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(tls=True)
    context = insecure_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with gateway.tls_client(context) as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        assert client.get("/").status == 200
        session = client.socket.session
    reload(gateway)
    plain = socket.create_connection(("127.0.0.1", gateway.tls_port))
    with context.wrap_socket(plain, server_hostname="localhost", session=session) as tls:
        assert tls.session_reused


def test_tls_is_switched_on_and_off_on_a_listener(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(tls=True)
    gateway.listeners[-1]["tls"] = False
    reload(gateway)
    with Client(("127.0.0.1", gateway.tls_port)) as client:
        assert client.get("/").status == 200
    gateway.listeners[-1]["tls"] = True
    reload(gateway)
    assert server_certificate(gateway) == pem_to_der(gateway.cert)


# --- listeners --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_listeners_come_and_go_and_their_connections_stay(make_gateway: MakeGateway, threads: int) -> None:
    gateway = make_gateway(gateway={"threads": threads})
    added = free_port()
    gateway.listeners.append({"bind": f"127.0.0.1:{added}"})
    gateway.listeners.append({"bind": f"unix:{gateway.directory}/client.sock"})
    reload(gateway)
    with Client(("127.0.0.1", added)) as over_tcp, Client(f"{gateway.directory}/client.sock") as over_unix:
        assert over_tcp.get("/").status == 200 and over_unix.get("/").status == 200
        del gateway.listeners[1:]
        reload(gateway)
        wait_for(lambda: refused(added), "the listener to close")
        assert not (gateway.directory / "client.sock").exists()
        assert over_tcp.get("/").status == 200 and over_unix.get("/").status == 200
        assert gateway.get("/").status == 200


def test_what_waits_in_the_queue_of_a_removed_listener_is_served(make_gateway: MakeGateway) -> None:
    gateway = make_gateway()
    added = free_port()
    gateway.listeners.append({"bind": f"127.0.0.1:{added}"})
    reload(gateway)
    server = gateway.server_pid
    os.kill(server, signal.SIGSTOP)
    try:
        clients = [Client(("127.0.0.1", added)) for _ in range(20)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        del gateway.listeners[1:]
        gateway.write_config()
        gateway.process.send_signal(signal.SIGHUP)
        gateway.process.wait_log("reading the configuration again")
    finally:
        os.kill(server, signal.SIGCONT)
    for client in clients:
        assert client.response().status == 200
        client.close()
    gateway.process.wait_log("configuration 3 is in effect")


def test_redirects_are_switched(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(tls=True)
    with gateway.client() as old:
        assert old.get("/").status == 200
        gateway.listeners[0]["redirect_https"] = True
        reload(gateway)
        answer = gateway.get("/x")
        assert answer.status == 308 and answer.header("location") == f"https://localhost:{gateway.tls_port}/x"


# --- apps and routes --------------------------------------------------------------------------------------------------


def test_apps_and_routes_come_and_go_and_workers_stay(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(gateway={"threads": 2})
    pid = gateway.get("/pid").body
    shop = gateway.directory / "shop.sock"
    gateway.sections["apps.shop"] = {"socket": str(shop)}
    gateway.sections["route"] = [{"path": "/shop/", "app": "shop"}, {"path": "/", "app": "main"}]
    reload(gateway)
    worker = gateway.new_worker(options=["--connect", f"unix:{shop}"])
    worker.start()
    gateway.wait_ready(worker)
    assert gateway.get("/pid").body == pid
    with gateway.client() as client:
        assert client.get("/shop/pid").status == 404  # the app has no such path: it was asked
        client.send(b"GET /shop/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.response().status == 404
    assert {row["app"] for row in gateway.admin("apps")} == {"main", "shop"}
    del gateway.sections["apps.shop"], gateway.sections["route"]
    reload(gateway)
    assert not shop.exists()
    gateway.process.wait_log("shop: its last request has ended")
    assert [row["app"] for row in gateway.admin("apps")] == ["main"]
    assert gateway.get("/pid").body == pid
    worker.may_end_with = {0, 1}


def test_a_removed_app_answers_what_it_has(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(workers=0)
    shop = gateway.directory / "shop.sock"
    gateway.sections["apps.shop"] = {"socket": str(shop)}
    gateway.sections["route"] = [{"path": "/", "app": "shop"}]
    reload(gateway)
    worker = gateway.new_worker(options=["--connect", f"unix:{shop}"])
    worker.start()
    gateway.wait_ready(worker)
    with gateway.client() as client:
        client.send(b"GET /sleep?ms=700 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        gateway.wait_note("start GET")
        del gateway.sections["apps.shop"]
        gateway.sections["route"] = [{"path": "/", "app": "main"}]
        reload(gateway)
        assert client.response().body == b"slept\n"
    gateway.process.wait_log("shop: its last request has ended")
    worker.may_end_with = {0, 1}


def test_the_socket_of_an_app_moves(make_gateway: MakeGateway) -> None:
    gateway = make_gateway()
    pid = gateway.get("/pid").body
    other = gateway.directory / "moved.sock"
    gateway.sections["app"] = {"socket": str(other)}
    reload(gateway)
    assert not gateway.app_socket.exists() and gateway.get("/pid").body == pid
    worker = gateway.new_worker(options=["--connect", f"unix:{other}"])
    worker.start()
    gateway.wait_ready(worker)


def test_no_link_in_the_place_of_a_socket_is_followed(make_gateway: MakeGateway) -> None:
    """The directory may belong to the user that the server is, and the master to root."""
    gateway = make_gateway()
    victim = gateway.directory / "victim"
    victim.write_text("")
    victim.chmod(0o600)
    aside = gateway.app_socket.with_suffix(".aside")
    gateway.app_socket.rename(aside)
    gateway.app_socket.symlink_to(victim)
    done = ctl(gateway, "reload")
    assert done.returncode != 0 and "cannot set its mode" in done.stderr, done
    assert victim.stat().st_mode & 0o777 == 0o600
    gateway.app_socket.unlink()
    aside.rename(gateway.app_socket)
    reload(gateway)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_limits_names_and_fields_change_for_what_comes(make_gateway: MakeGateway) -> None:
    gateway = make_gateway()
    with gateway.client() as old:
        assert old.get("/").status == 200
        gateway.sections["http"] = {"server_names": ["shop.example"], "headers": {"x-made": "2"}}
        gateway.sections["limits"] = {"body_size": 10}
        reload(gateway)
        assert old.get("/", {"Host": "localhost"}).status in (404, 421)
    answer = gateway.get("/", {"Host": "shop.example"})
    assert answer.status == 200 and answer.header("x-made") == "2"
    with gateway.client() as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 11\r\n\r\n")
        assert client.response().status == 413


def test_trusted_proxies_and_the_access_log_change(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(log={"access_format": "first %(U)s"})
    gateway.get("/a", {"X-Forwarded-For": "192.0.2.7"})
    gateway.sections["log"]["access_format"] = "second %(h)s %(U)s"
    gateway.sections["proxy_headers"] = {"trusted": ["127.0.0.1"]}
    reload(gateway)
    gateway.get("/b", {"X-Forwarded-For": "192.0.2.7"})
    wait_for(lambda: "second 192.0.2.7 /b" in gateway.access_log(), "the line in the new format")
    assert "first /a" in gateway.access_log()


def test_log_files_are_opened_anew(make_gateway: MakeGateway) -> None:
    gateway = make_gateway()
    gateway.get("/")
    wait_for(lambda: len(gateway.access_log()) == 1, "a line")
    (gateway.directory / "access.log").rename(gateway.directory / "access.1")
    reload(gateway)
    gateway.get("/")
    wait_for(lambda: len(gateway.access_log()) == 1, "a line in the new file")


def test_the_http_endpoint_for_operators_comes_and_goes(make_gateway: MakeGateway) -> None:
    gateway = make_gateway()
    port = free_port()
    gateway.sections.setdefault("admin", {})["http"] = f"127.0.0.1:{port}"
    reload(gateway)
    with Client(("127.0.0.1", port)) as client:
        assert client.get("/livez").status == 200
    gateway.sections["admin"]["http"] = ""
    reload(gateway)
    wait_for(lambda: refused(port), "the endpoint to close")


def test_connections_per_address_are_bounded_from_then_on(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(proxy_headers={"trusted": []})
    with gateway.client() as old:
        assert old.get("/").status == 200
        gateway.sections["gateway"] = {"max_connections_per_ip": 1}
        reload(gateway)
        with gateway.client() as first, gateway.client() as second:
            assert first.get("/").status == 200
            with contextlib.suppress(ConnectionError):
                assert second.rest() == b""
        assert old.get("/").status == 200
    gateway.expect_counted("conns_refused_per_ip")


# --- under load -------------------------------------------------------------------------------------------------------


def test_long_streams_live_through_reloads(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(tls=True, gateway={"threads": 2}, worker_options=["--max-concurrency", "100"])
    with gateway.client() as sse, gateway.client() as upload, gateway.tls_client() as download:
        sse.send(b"GET /drip?count=40&delay=25 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        upload.send(b"POST /digest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50000)
        download.send(b"GET /download?bytes=20000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(4):
            make_certificate(gateway.directory)
            reload(gateway)
        upload.send(b"x" * 50000)
        assert b'"bytes": 100000' in upload.response().body
        assert len(download.response().body) == 20000000
        assert sse.response().body.endswith(b"data: 39\n\n")


def test_many_reloads_hurt_nobody_and_leave_nothing(make_gateway: MakeGateway) -> None:
    """Short form of tests/fault/test_reload_load.py."""
    gateway = make_gateway(workers=2, tls=True, gateway={"threads": 2})
    added = free_port()
    certificates = [gateway.cert.read_bytes(), gateway.key.read_bytes()]
    with Load(gateway, clients=4) as load:
        for turn in range(12):
            gateway.listeners[2:] = [{"bind": f"127.0.0.1:{added}"}] if turn % 2 == 0 else []
            gateway.sections["apps.extra"] = {"socket": f"{gateway.directory}/extra-{turn}.sock"}
            gateway.sections["route"] = [{"path": f"/extra-{turn}/", "app": "extra"}, {"path": "/", "app": "main"}]
            if turn % 3 == 2:
                gateway.config.write_text("broken = [")
                assert ctl(gateway, "reload").returncode == 1
            else:
                make_certificate(gateway.directory)
                reload(gateway)
            load.more(20)
    gateway.cert.write_bytes(certificates[0])
    gateway.key.write_bytes(certificates[1])
    gateway.listeners[2:] = []
    del gateway.sections["apps.extra"], gateway.sections["route"]
    reload(gateway)
    wait_for(lambda: len(gateway.admin("apps")) == 1, "retired apps to go")
    assert gateway.metric("workers") == 2


@pytest.mark.skipif(VARIANT != "release", reason="sanitizers keep freed memory")
def test_fifty_reloads_do_not_grow(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(tls=True)

    def descriptors() -> tuple[int, int]:
        return len(gateway.server_descriptors()), len(os.listdir(f"/proc/{gateway.process.pid}/fd"))

    def many(count: int) -> None:
        for _ in range(count):
            gateway.process.send_signal(signal.SIGHUP)
            assert ctl(gateway, "reload").returncode == 0, gateway.process.tail()

    many(10)
    before = descriptors()
    server, master = rss(gateway.server_pid), rss(gateway.process.pid)
    many(50)
    # `before` may have counted one that was just being closed.
    wait_for(
        lambda: all(now <= then for now, then in zip(descriptors(), before, strict=True)), f"no more than {before}"
    )
    assert rss(gateway.server_pid) - server <= 1 << 20
    assert rss(gateway.process.pid) - master <= 1 << 20


def test_a_websocket_lives_through_a_reload(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(app_target="websocket_app:app")
    with WsClient(gateway.client()) as client:
        client.handshake("/echo")
        client.accepted()
        reload(gateway)
        client.text("still here")
        assert client.frame().payload == b"still here"


# --- the service manager ----------------------------------------------------------------------------------------------


def test_the_service_manager_is_told(make_gateway: MakeGateway, tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(20)
    gateway = make_gateway(environment={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    assert b"READY=1" in listener.recv(4096)
    gateway.process.send_signal(signal.SIGHUP)
    told = listener.recv(4096)
    assert told.startswith(b"RELOADING=1\nMONOTONIC_USEC=") and told.split(b"=")[-1].isdigit()
    assert b"READY=1" in listener.recv(4096)
    listener.close()
