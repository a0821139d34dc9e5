"""Frames between the hub and the process of a plugin: a JSON header and a body of bytes, after the length of each.

What the hub sends may be pickled; what it gets back is JSON and raw numbers, of no more bytes than it expects, and
nothing else. It waits for neither longer than until a deadline.
"""

from __future__ import annotations

import json
import os
import select
import struct
import time
from collections.abc import Mapping
from typing import Any, Final

from hub.api.errors import PluginError

_LENGTHS: Final = struct.Struct("!II")
HEADER: Final = 16 << 10
"""Bytes that the header of an answer may have."""


class Silence(PluginError):
    """The other side did not answer in time."""


class Ended(PluginError):
    """The other side is not there any more."""


def send(fd: int, header: Mapping[str, Any], body: bytes = b"", deadline: float = float("inf")) -> None:
    """`deadline` by `time.monotonic`; `fd` does not block. Raises `Silence` and `Ended`."""
    head = json.dumps(header, separators=(",", ":")).encode()
    for part in (_LENGTHS.pack(len(head), len(body)) + head, body):
        left = memoryview(part)
        while left:
            _wait(fd, select.POLLOUT, deadline)
            try:
                left = left[os.write(fd, left[: 1 << 20]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise Ended("its process is gone") from error


def receive(fd: int, deadline: float = float("inf"), *, most: int = 1 << 31) -> tuple[dict[str, Any], bytes]:
    """A frame whose body has at most `most` bytes.

    Raises `Silence`, `Ended`, and `PluginError` for what is no frame.
    """
    head_length, body_length = _LENGTHS.unpack(_read(fd, _LENGTHS.size, deadline))
    if head_length > HEADER or body_length > most:
        raise PluginError("it sent what is no answer")
    head, body = _read(fd, head_length, deadline), _read(fd, body_length, deadline)
    try:
        header = json.loads(head)
    except ValueError as error:
        raise PluginError("it sent what is no answer") from error
    if not isinstance(header, dict):
        raise PluginError("it sent what is no answer")
    return header, body


def _read(fd: int, count: int, deadline: float) -> bytes:
    found = bytearray()
    while len(found) < count:
        _wait(fd, select.POLLIN, deadline)
        try:
            part = os.read(fd, min(count - len(found), 1 << 20))
        except BlockingIOError:
            continue
        except OSError as error:
            raise Ended("its process is gone") from error
        if not part:
            raise Ended("its process is gone")
        found += part
    return bytes(found)


def _wait(fd: int, event: int, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise Silence("no answer in time")
    poll = select.poll()
    poll.register(fd, event)
    # None waits for ever.
    if not poll.poll(None if left == float("inf") else left * 1000):
        raise Silence("no answer in time")
