"""Logs on their way: bytes of a task become text with exact byte offsets, and text becomes TaskLog entries that fit.

Pure. A character is never cut in two, a byte that is no UTF-8 becomes one U+FFFD, so that an offset can always be
worked out again from the text sent. It does not know where the bytes come from or who gets the entries.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

Json = dict[str, Any]
# Of one TaskLog, as JSON. A slice of the worst bytes (each six characters long in JSON) still fits.
BUNDLE_BYTES: Final = 256 * 1024
SLICE_BYTES: Final = 32 * 1024
_ENTRY_OVERHEAD: Final = 160
_ESCAPED = re.compile("[\udc80-\udcff]")
_decoder = codecs.getincrementaldecoder("utf-8")


class TextStream:
    """One task's log from `offset` on. `skip`: so many characters from there were sent already."""

    def __init__(self, offset: int = 0, skip: int = 0) -> None:
        # The first byte not handed out yet.
        self.next = offset
        self._skip = skip
        self._decoder = _decoder("surrogateescape")

    def feed(self, offset: int, data: bytes, *, final: bool = False) -> Iterator[tuple[int, str]]:
        """(offset in bytes, text) pieces. `offset` past what is expected: that part of the log is gone."""
        if offset != self.next + len(self._decoder.getstate()[0]):
            yield from self._decoded(b"", final=True)
            if offset > self.next:
                self._skip = 0
            self.next = offset
        for start in range(0, len(data), SLICE_BYTES):
            yield from self._decoded(data[start : start + SLICE_BYTES], final=False)
        if final:
            yield from self._decoded(b"", final=True)

    def rewind(self) -> None:
        """Before reading again from `next`: what was read of an unfinished character is read again."""
        self._decoder.reset()

    def _decoded(self, data: bytes, *, final: bool) -> Iterator[tuple[int, str]]:
        text = self._decoder.decode(data, final)
        if final:
            self._decoder.reset()
        if self._skip and text:
            sent, text = text[: self._skip], text[self._skip :]
            self._skip -= len(sent)
            self.next += _width(sent)
        if text:
            offset = self.next
            self.next += _width(text)
            yield offset, text if text.isascii() else _ESCAPED.sub("\ufffd", text)


def _width(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))


def last_lines(data: bytes, lines: int, limit: int) -> tuple[int, str]:
    """The last `lines` lines of `data`, at most `limit` bytes, from a line's start where one fits: (start, text)."""
    body = data[:-1] if data.endswith(b"\n") else data
    start = len(body)
    for _ in range(lines):
        start = body.rfind(b"\n", 0, start)
        if start < 0:
            break
    start += 1
    if len(data) - start > limit:
        start = len(data) - limit
        newline = data.find(b"\n", start, len(body))
        if newline >= 0:
            start = newline + 1
        else:
            # One line longer than all of it: not from the middle of a character.
            while start < len(data) and data[start] & 0xC0 == 0x80:
                start += 1
    return start, data[start:].decode("utf-8", "replace")


@dataclass(slots=True)
class Bundle:
    """Entries of one TaskLog, in order; text that follows on text of the same task is joined to it."""

    entries: list[Json] = field(default_factory=list)
    size: int = 0

    def fits(self, entry: Json) -> bool:
        return not self.entries or self.size + entry_size(entry) <= BUNDLE_BYTES

    def add(self, entry: Json) -> None:
        size = entry_size(entry)
        last = self.entries[-1] if self.entries else None
        if last is not None and not last.get("final") and _continues(last, entry):
            last["text"] += entry["text"]
            last.update({key: entry[key] for key in ("exitCode", "reason", "final") if key in entry})
        else:
            self.entries.append(dict(entry))
        self.size += size


def _continues(last: Json, entry: Json) -> bool:
    return (last["task"], last.get("attempt")) == (entry["task"], entry.get("attempt"))


def entry_size(entry: Json) -> int:
    """What the entry takes as JSON, or a little more."""
    return len(orjson.dumps(entry["text"])) + len(entry.get("reason") or "") + _ENTRY_OVERHEAD


def log_entry(
    task: int,
    attempt: int | None,
    offset: int,
    text: str,
    *,
    exit_code: int | None = None,
    reason: str | None = None,
    final: bool = False,
) -> Json:
    """One entry of a TaskLog."""
    entry: Json = {"task": task, "offset": offset, "text": text}
    if attempt is not None:
        entry["attempt"] = attempt
    if exit_code is not None:
        entry["exitCode"] = exit_code
    if reason:
        entry["reason"] = reason
    if final:
        entry["final"] = True
    return entry
