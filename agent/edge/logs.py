"""A task's log: one file that its processes append to, read from any byte, kept to a size.

Rotation gives the beginning back to the file system (a hole) instead of renaming: writers need not reopen anything, no
byte is lost between two files, and offsets stay what they were. Where a file system knows no holes, logs just grow.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from typing import NamedTuple

from agent.local import LogChunk

_log = logging.getLogger("agent.edge.logs")
_CHUNK = 64 * 1024
_POLL_SECONDS = 0.05
# FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_PUNCH = 0x01 | 0x02
_BLOCK = 4096

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class LogPlace(NamedTuple):
    """Where a task's log is, and how it ended; `code` None with `ended`: it never ran. `note`: in its place."""

    path: str
    ended: bool
    code: int | None = None
    reason: str | None = None
    note: str = ""


class Trimmer:
    """Keeps logs to `keep` bytes each, give or take a quarter."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._able = True

    def trim(self, paths: Iterable[str]) -> None:
        if not self._able:
            return
        for path in paths:
            try:
                self._trim(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                    _log.warning("log not trimmed", extra={"fields": {"path": path, "why": error}})
                    continue
                _log.warning("logs cannot be kept to a size on this file system", extra={"fields": {"path": path}})
                self._able = False
                return

    def _trim(self, path: str) -> None:
        if os.stat(path).st_size <= self._keep * 5 // 4:
            return
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            size = os.fstat(handle).st_size
            end = (size - self._keep) // _BLOCK * _BLOCK
            start = first_kept(handle, 0)
            if (
                size - start > self._keep * 5 // 4
                and end > start
                and _libc.fallocate(handle, _PUNCH, start, end - start)
            ):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
        finally:
            os.close(handle)


def first_kept(handle: int, offset: int) -> int:
    """The first byte from `offset` on that was not given back; the end of the file when there is none."""
    try:
        return os.lseek(handle, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return os.fstat(handle).st_size
        return offset


def tail_offset(handle: int, lines: int) -> int:
    """Where the last `lines` lines begin; a last line without an end counts as one."""
    end = os.fstat(handle).st_size
    if lines <= 0:
        return end
    position, missing = end, lines
    first = True
    while position > 0:
        start = max(0, position - _CHUNK)
        kept = first_kept(handle, start)
        if kept >= position:
            return position
        block = os.pread(handle, position - kept, kept)
        at = len(block)
        if first and block.endswith(b"\n"):
            at -= 1
        first = False
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            missing -= 1
            if missing == 0:
                return kept + at + 1
        if kept > start:
            return kept
        position = start
    return 0


async def read_log(
    look: Callable[[], LogPlace | None], *, offset: int, tail_lines: int | None, follow: bool
) -> AsyncIterator[LogChunk]:
    """Chunks in order, the last with `final`. `look()` says where the log is and whether its task has ended; None: it
    is known no more, which ends the log, too."""
    position = max(0, offset)
    place = look()
    begun = tail_lines is None
    while True:
        ended = place is None or place.ended
        if place is not None:
            async for chunk in _new_chunks(place.path, position, None if begun else tail_lines):
                begun = True
                position = chunk.offset + len(chunk.data)
                yield chunk
        if ended or not follow:
            break
        await asyncio.sleep(_POLL_SECONDS)
        place = look() or (place and place._replace(ended=True))
    if place is None or not place.ended:
        yield LogChunk(position, b"", final=True)
        return
    note = f"quarterdeck: {place.note}\n".encode() if place.note and position == 0 else b""
    yield LogChunk(position, note, final=True, exit_code=place.code, reason=place.reason)


async def _new_chunks(path: str, position: int, tail: int | None) -> AsyncIterator[LogChunk]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if tail is not None:
            position = max(position, tail_offset(handle, tail))
        while True:
            position = first_kept(handle, position)
            data = os.pread(handle, _CHUNK, position)
            if not data:
                return
            if first_kept(handle, position) != position:
                # Given back while it was being read: zeros are nobody's output.
                continue
            yield LogChunk(position, data)
            position += len(data)
            await asyncio.sleep(0)
    finally:
        os.close(handle)
