# SPDX-License-Identifier: MIT
"""The access log from outside: a line for each request, nothing forged in it, and files that can be moved away."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.gateway import Gateway
from harness.http1 import Client
from harness.process import wait_for

Make = Callable[..., Gateway]


def with_format(make_gateway: Make, text: str, **options: object) -> Gateway:
    return make_gateway(log={"access_format": text}, **options)


def lines(gateway: Gateway, count: int) -> list[str]:
    """The access log once it has so many lines; one more would be wrong too."""
    log = gateway.directory / "access.log"

    def split() -> list[str]:  # at line ends only: splitlines() also splits at U+2028 and its kin
        return log.read_text().split("\n")[:-1] if log.exists() else []

    wait_for(lambda: len(split()) >= count, f"{count} lines in the access log")
    found = split()
    assert len(found) == count, found
    return found


def ask(gateway: Gateway, raw: bytes) -> int:
    with gateway.client() as client:
        client.send(raw)
        return client.response().status


# --- formats ----------------------------------------------------------------------------------------------------------


def test_combined(make_gateway: Make) -> None:
    gateway = make_gateway()
    with gateway.client() as client:
        client.get("/scope?a=b", {"referer": "http://r.example/", "user-agent": "test/1", "connection": "close"})
    (line,) = lines(gateway, 1)
    before, _, after = line.partition(" [")
    date, _, rest = after.partition("] ")
    assert before == "127.0.0.1 - -"
    assert len(date) == len("20/Nov/2026:18:00:00 +0000") and date.endswith(" +0000")
    request, status, size, referer, agent = rest.split('"')[1], *rest.split('"')[2].split(), *rest.split('"')[3::2]
    assert request == "GET /scope?a=b HTTP/1.1" and status == "200" and int(size) > 100
    assert (referer, agent) == ("http://r.example/", "test/1")


ATOMS = {
    "%(h)s": "127.0.0.1", "%(l)s": "-", "%(u)s": "ann", "%(r)s": "POST /echo?q=1 HTTP/1.1",
    "%(R)s": "POST /echo HTTP/1.1", "%(m)s": "POST",
    "%(U)s": "/echo", "%(Uq)s": "/echo?q=1", "%(q)s": "q=1", "%(H)s": "HTTP/1.1",
    "%(s)s": "200",
    "%(st)s": "OK", "%(S)s": "http", "%(B)s": "3", "%(b)s": "3", "%(f)s": "-", "%(a)s": "-", "%(request_bytes)s": "3",
    "%({X-A}i)s": "seen", "%({x-none}i)s": "-", "%({Content-Length}o)s": "3", "%({LOG_TEST}e)s": "from-env",
    "%({LOG_NONE}e)s": "-", "%(app)s": "main", "%(retries)s": "0", "%(reason)s": "complete", "%(error)s": "-",
    "%(host)s": "localhost", "%(tls)s": "-", "%(cipher)s": "-", "%%": "%",
}  # fmt: skip


def test_every_atom(make_gateway: Make) -> None:
    numbers = ["%(T)s", "%(M)s", "%(D)s", "%(L)s", "%(p)s", "%(worker)s", "%(first_byte)s", "%(conn)s"]
    gateway = with_format(make_gateway, " | ".join([*ATOMS, *numbers]), environment={"LOG_TEST": "from-env"})
    with gateway.client() as client:
        fields = {"x-a": "seen", "authorization": "Basic YW5uOnB3", "connection": "close"}
        client.request("POST", "/echo?q=1", fields, b"abc")
        client.response()
    parts = lines(gateway, 1)[0].split(" | ")
    assert dict(zip(ATOMS, parts, strict=False)) == ATOMS
    values = dict(zip(numbers, parts[len(ATOMS) :], strict=True))
    assert int(values["%(worker)s"]) == gateway.workers[0].pid
    assert values["%(p)s"] in (f"<{gateway.server_pid}>", f"<{gateway.process.pid}>")  # Gunicorn's form
    assert int(values["%(D)s"]) > 0 and 0 < float(values["%(L)s"]) < 20 and 0 <= float(values["%(first_byte)s"]) < 20
    assert int(values["%(T)s"]) == int(values["%(M)s"]) // 1000


def test_json_lines_are_json(make_gateway: Make) -> None:
    gateway = with_format(make_gateway, "json", tls=True)
    nasty = "q\"\\/<>&\t\xe4\xff\x80{}[]':,"
    with gateway.client() as client:
        client.get("/scope?x=%22", {"user-agent": nasty, "referer": nasty})
        client.request("POST", "/echo", {"connection": "close"}, b"12345")
        client.response()
    with gateway.tls_client() as client:
        client.get("/", {"connection": "close"})
    assert ask(gateway, b"\x00\xff\r\n\r\n") == 400
    assert ask(gateway, b"GET /a HTTP/1.1\r\nHost: x\r\nUser-Agent: a\x01b\r\n\r\n") == 400
    parsed = [json.loads(line) for line in lines(gateway, 5)]
    assert all(isinstance(line, dict) and len(line) == len(parsed[0]) for line in parsed)
    first, second, secure, garbage, _ = parsed
    assert first["status"] == 200 and first["target"] == "/scope?x=%22" and first["method"] == "GET"
    assert first["user_agent"].startswith('q"\\/<>&\t') and first["referer"] == first["user_agent"]
    assert (second["request_bytes"], second["bytes"]) == (5, 5)
    assert secure["scheme"] == "https" and secure["tls"] == "TLSv1.3" and first["tls"] is None
    assert garbage["status"] == 400 and garbage["worker"] is None


# --- forged lines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["combined", '%(h)s %({user-agent}i)s %(u)s "%(r)s" %(host)s %(q)s', "json"])
def test_nothing_forges_a_line(make_gateway: Make, text: str) -> None:
    """Quotes, backslashes, escapes and what is no ASCII stay inside their line and field."""
    gateway = with_format(make_gateway, text)
    forged = b'" 200 1 "-" "-"\\'
    sent = 0
    for value in (
        forged,
        b"\x1b[31mred",
        b"a\x7fb",
        b"\xe4\xf6",
        b"\xe2\x80\xa8line",
        b"\\n127.0.0.1 - -",
        b"%s%n%(h)s",
    ):
        for raw in (
            b"GET /a?" + value + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUser-Agent: "
            + value
            + b"\r\nReferer: "
            + value
            + b"\r\n\r\n",
            b"GET /a HTTP/1.1\r\nHost: " + value + b"\r\n\r\n",
            b"GET /%0a127.0.0.1%0d%22 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic ImFcCmI6cHc=\r\n\r\n",  # "a\<LF>b
        ):
            ask(gateway, raw)
            sent += 1
    lines(gateway, sent)
    data = (gateway.directory / "access.log").read_bytes()
    assert all(byte == 10 or 0x20 <= byte < 0x7F or (text == "json" and byte >= 0x80) for byte in data)
    for line in data.splitlines():
        if text == "json":
            assert isinstance(json.loads(line), dict)
        elif text == "combined":
            assert line.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"') == 6, line


# --- counts -----------------------------------------------------------------------------------------------------------


def test_a_line_for_each_request_however_it_ended(make_gateway: Make) -> None:
    gateway = with_format(make_gateway, "%(s)s %(reason)s %(r)s", limits={"first_byte": "300ms"})
    with gateway.client() as client:
        for _ in range(50):
            client.get("/")
    pipeline = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 30
    with gateway.client() as client:
        client.send(pipeline)
        for _ in range(30):
            client.response()
    assert ask(gateway, b"GET / HTTP/1.1\r\n\r\n") == 400
    assert ask(gateway, b"GET /crash HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") == 500
    assert ask(gateway, b"GET /sleep?ms=800 HTTP/1.1\r\nHost: x\r\n\r\n") == 504
    gone = gateway.client()
    gone.request("GET", "/endless")
    gone.head()
    gone.reset()
    gateway.client().close()  # a connection without a request has no line
    found = lines(gateway, 84)
    ends = [line.split(" ")[:2] for line in found]
    assert ends.count(["200", "complete"]) == 80
    assert [status for status, _ in ends].count("400") == 1
    assert [end for end in ends if end[0] == "500"] == [["500", "app_exception"]], ends
    assert [status for status, _ in ends].count("504") == 1
    assert ["200", "client_gone"] in ends
    gateway.wait_gauge("exchanges", 0)


def test_off(make_gateway: Make) -> None:
    gateway = make_gateway(log={"access": ""})
    assert gateway.get("/").status == 200
    assert not (gateway.directory / "access.log").exists()


# --- files ------------------------------------------------------------------------------------------------------------


def test_reopening_loses_no_line(make_gateway: Make) -> None:
    """What logrotate does, ten times, while requests come: each has exactly one line in one of the files."""
    gateway = with_format(make_gateway, "%(q)s")
    log = gateway.directory / "access.log"
    count = 0
    with gateway.client() as client:
        for turn in range(10):
            for _ in range(30):
                assert client.get(f"/?{count}").status == 200
                count += 1
            wait_for(log.exists, "the log to be opened anew")
            log.rename(gateway.directory / f"access.log.{turn}")
            gateway.process.send_signal(signal.SIGUSR1)
            assert client.get(f"/?{count}").status == 200
            count += 1
        wait_for(log.exists, "the log to be opened anew")

    def written() -> list[int]:
        return [int(n) for file in gateway.directory.glob("access.log*") for n in file.read_text().split()]

    wait_for(lambda: len(written()) >= count, "all lines")
    assert sorted(written()) == list(range(count))


def test_log_that_cannot_be_opened(make_gateway: Make, tmp_path: Path) -> None:
    """At the start it is refused; after SIGUSR1 the old file is kept and the reason is said."""
    gateway = make_gateway()
    log = gateway.directory / "access.log"
    assert gateway.get("/").status == 200
    lines(gateway, 1)
    log.unlink()
    log.mkdir()
    gateway.process.send_signal(signal.SIGUSR1)
    gateway.process.wait_log(r"access\.log: Is a directory")
    assert gateway.get("/").status == 200
    log.rmdir()
    with Client(("127.0.0.1", gateway.port)) as client:
        assert client.get("/").status == 200
