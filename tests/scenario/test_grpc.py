# SPDX-License-Identifier: MIT
"""A gRPC client (HTTP/2 with prior knowledge) and an ASGI app that speaks gRPC: messages, the status in trailers."""

from collections.abc import Iterator

import grpc  # type: ignore[import-untyped]
import pytest
from harness.gateway import Gateway


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    gateway = Gateway(tmp_path_factory.mktemp("grpc"))
    try:
        gateway.start().start_workers(1, "grpc_app:app")
        with grpc.insecure_channel(f"127.0.0.1:{gateway.port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
            yield channel
        gateway.finish()
    finally:
        gateway.kill()


def test_unary(channel: grpc.Channel) -> None:
    call = channel.unary_unary("/test.Service/Echo")
    for payload in (b"", b"hello", bytes(1_000_000)):
        answer, info = call.with_call(payload, timeout=20)
        assert answer == payload and info.code() == grpc.StatusCode.OK
        assert dict(info.initial_metadata())["x-version"] == "2"


def test_many_at_once(channel: grpc.Channel) -> None:
    call = channel.unary_unary("/test.Service/Echo")
    calls = [call.future(b"%d" % number, timeout=20) for number in range(200)]
    assert [one.result() for one in calls] == [b"%d" % number for number in range(200)]


def test_a_status_that_is_no_success(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary("/test.Service/Fail")(b"x", timeout=20)
    assert failed.value.code() == grpc.StatusCode.NOT_FOUND and failed.value.details() == "told to"


def test_stream_of_the_server(channel: grpc.Channel) -> None:
    call = channel.unary_stream("/test.Service/Count")
    assert list(call(b"1000", timeout=20)) == [b"%d" % number for number in range(1000)]


def test_stream_of_the_client(channel: grpc.Channel) -> None:
    call = channel.stream_unary("/test.Service/Collect")
    assert call((b"%d;" % number for number in range(1000)), timeout=20) == b"".join(b"%d;" % n for n in range(1000))


def test_both_streams(channel: grpc.Channel) -> None:
    """Each message is sent when the one before it has come back."""
    replies: list[bytes] = []

    def talk() -> Iterator[bytes]:
        for number in range(50):
            yield b"%d" % number

    call = channel.stream_stream("/test.Service/Echo")
    replies.extend(call(talk(), timeout=20))
    assert replies == [b"%d" % number for number in range(50)]


def test_a_call_that_is_given_up(channel: grpc.Channel) -> None:
    call = channel.unary_stream("/test.Service/Count")(b"1000000", timeout=20)
    assert next(call) == b"0"
    call.cancel()
    assert channel.unary_unary("/test.Service/Echo")(b"after it", timeout=20) == b"after it"
