#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Stand between workers and a gateway, and write down what they say.

    python3 protocol/capture.py LISTEN CONNECT PREFIX

Workers dial LISTEN; each of their links is passed on to CONNECT, with its descriptors. What the worker of link N sends
goes to PREFIX-N-worker.bin, what the gateway sends to PREFIX-N-gateway.bin, for `python -m asgi_worker.protocol.dump`.
It knows no frames. Ends with Ctrl-C. Standard library only.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import sys
import threading

READ_SIZE = 262144


def pump(source: socket.socket, target: socket.socket, path: str) -> None:
    """Pass on and write down one direction until it ends."""
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            data, ancillary, _, _ = source.recvmsg(READ_SIZE, socket.CMSG_SPACE(4 * 4))
            descriptors = array.array("i")
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    descriptors.frombytes(content[: len(content) - len(content) % 4])
            if not data:
                break
            file.write(data)
            try:
                send(target, data, descriptors)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def send(target: socket.socket, data: bytes, descriptors: array.array[int]) -> None:
    """Send everything, the descriptors with the first byte."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)] if descriptors else []
    sent = target.sendmsg([data], rights)
    target.sendall(data[sent:])


def main(arguments: list[str]) -> int:
    if len(arguments) != 3:
        print("usage: capture.py LISTEN CONNECT PREFIX", file=sys.stderr)
        return 2
    listen, connect, prefix = arguments
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(listen)
    except OSError as problem:
        print(f"capture.py: {listen}: {problem.strerror}", file=sys.stderr)
        return 1
    listener.listen()
    number = 0
    try:
        while True:
            worker, _ = listener.accept()
            number += 1
            gateway = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                gateway.connect(connect)
            except OSError as problem:
                print(f"capture.py: {connect}: {problem.strerror}", file=sys.stderr)
                worker.close()
                continue
            print(f"link {number}", file=sys.stderr)
            for source, target, side in ((worker, gateway, "worker"), (gateway, worker, "gateway")):
                path = f"{prefix}-{number}-{side}.bin"
                threading.Thread(target=pump, args=(source, target, path), daemon=True).start()
    except KeyboardInterrupt:
        return 0
    finally:
        os.unlink(listen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
