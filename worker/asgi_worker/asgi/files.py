# SPDX-License-Identifier: MIT
"""http.response.pathsend and http.response.zerocopysend: files that the gateway reads itself.

Job: judge what the application names, raise in its send() before anything is sent, hand a
descriptor of our own to the link, and wait until the gateway has delivered the bytes. When the
gateway has no room for the descriptor (SPEC R110), the bytes are read and sent here.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from ..protocol.codec import with_content_length

if TYPE_CHECKING:
    from .http import HttpCycle

EXTENSIONS: dict[str, dict[str, Any]] = {
    "http.response.pathsend": {},
    "http.response.zerocopysend": {},
}
READ_SIZE = 65536
# An application that asks for a file that is not there, or not to be read, and lets the exception
# escape: what its client gets instead of 500.
_STATUS = {
    errno.ENOENT: 404,
    errno.ENOTDIR: 404,
    errno.ENAMETOOLONG: 404,
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.EISDIR: 403,
    errno.ELOOP: 403,
    errno.ENXIO: 403,
    errno.EINVAL: 403,
}


class Descriptor:
    """An open file of ours; number is -1 once it is closed."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def close(self) -> None:
        """Close it, once."""
        if self.number >= 0:
            number, self.number = self.number, -1
            os.close(number)

    __del__ = close


def answer_error(cycle: HttpCycle, exc: OSError) -> None:
    """Put 404 or 403 in the place of the held head, for an application that let `exc` escape."""
    status = _STATUS.get(exc.errno or 0)
    if status is not None:
        text = HTTPStatus(status).phrase.encode() + b"\n"
        cycle.status = status
        cycle.head = cycle.service.encoder.encode(
            [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text))]
        )
        cycle.tail = b"" if cycle.scope["method"] == "HEAD" else text


def open_path(path: str) -> tuple[Descriptor, int]:
    """Open a regular file and return it with its size; raises OSError."""
    # O_NONBLOCK: opening a FIFO must not wait for its writer. It means nothing for regular files.
    file = Descriptor(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY))
    try:
        found = os.fstat(file.number)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", path)
    except BaseException:
        file.close()
        raise
    return file, found.st_size


def _position(file: Any, number: int) -> int:
    # What a buffered reader has read ahead is not the position that its user knows.
    if isinstance(file, (io.RawIOBase, io.BufferedIOBase)):
        return file.tell()
    return os.lseek(number, 0, os.SEEK_CUR)


def _whole(message: dict[str, Any], key: str) -> int | None:
    value = message.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{key} must be an int, not {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{key} is negative: {value}")
    return value


def _take_file(message: dict[str, Any]) -> tuple[Descriptor, int, int]:
    """Duplicate the application's descriptor; it may close its own when send() has returned."""
    file = message.get("file")
    if isinstance(file, int) and not isinstance(file, bool):
        number = file
    elif file is not None and hasattr(file, "fileno"):
        number = file.fileno()
    else:
        raise TypeError(f"file must be an open file, not {type(file).__name__}")
    offset, count = _whole(message, "offset"), _whole(message, "count")
    found = os.fstat(number)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("file is not a regular file")
    if offset is None:
        offset = _position(file, number)
    left = found.st_size - offset
    if left < 0 or (count is not None and count > left):
        raise ValueError(
            f"the file has {found.st_size} bytes, too few for offset {offset}"
            + ("" if count is None else f" and count {count}")
        )
    return Descriptor(os.dup(number)), offset, left if count is None else count


async def send_path(cycle: HttpCycle, message: dict[str, Any]) -> None:
    """Take http.response.pathsend: the whole file is the response's whole body."""
    path = message.get("path")
    if not isinstance(path, str):
        raise TypeError(f"path must be a str, not {type(path).__name__}")
    if not os.path.isabs(path):
        raise ValueError(f"path {path!r} is not absolute")
    cycle.expect_body("http.response.pathsend")
    if cycle.body_begun:
        raise RuntimeError("http.response.pathsend after a part of the body")
    try:
        file, size = open_path(path)
    except OSError as exc:
        cycle.file_error = exc
        raise
    try:
        if cycle.head is not None and not (cycle.no_body and cycle.scope["method"] != "HEAD"):
            cycle.head = with_content_length(cycle.head, size)
            cycle.remaining = None if cycle.no_body else size
        await _send(cycle, file, 0, size, False)
    finally:
        file.close()


async def send_part(cycle: HttpCycle, message: dict[str, Any]) -> None:
    """Take http.response.zerocopysend: a part of an open file is a part of the body."""
    cycle.expect_body("http.response.zerocopysend")
    file, offset, count = _take_file(message)
    try:
        await _send(cycle, file, offset, count, bool(message.get("more_body", False)))
    finally:
        file.close()


async def _send(cycle: HttpCycle, file: Descriptor, offset: int, count: int, more: bool) -> None:
    if cycle.no_body or not count:
        await cycle.send({"type": "http.response.body", "more_body": more})
        return
    end = cycle.begin_file(count, more)
    if await cycle.pass_file(file, offset, count, end):
        return
    loop = cycle.link.loop
    while count:
        data = await loop.run_in_executor(
            None, os.pread, file.number, min(count, READ_SIZE), offset
        )
        if not data:
            cycle.abort_file()
            raise OSError(errno.EIO, f"the file was made shorter: {count} bytes are missing")
        offset += len(data)
        count -= len(data)
        await cycle.send_bytes(data, end and not count)
