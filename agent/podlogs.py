"""A task's log from a real cluster: the kubelet's text by byte offset, which the API itself does not know.

The API gives a log from its start, or its last lines without saying where they are. Offsets are counted here, by
reading from the start; the network is the cluster's own and a kubelet keeps some megabytes. Which pod is meant, and
how it ended, the caller says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator

from agent.local import LogChunk


async def from_offset(chunks: AsyncIterator[bytes], offset: int) -> AsyncIterator[LogChunk]:
    """The part of a log read from its start that lies at or after `offset`."""
    position = 0
    async for data in chunks:
        end = position + len(data)
        if end > offset:
            cut = max(0, offset - position)
            yield LogChunk(position + cut, data[cut:])
        position = end


async def tail_offset(chunks: AsyncIterator[bytes], lines: int) -> int:
    """Where the last `lines` lines of a log read from its start begin."""
    # Starts of lines, the last ones; a line that has no byte yet is none.
    starts: deque[int] = deque([0], maxlen=lines + 1)
    position = 0
    async for data in chunks:
        found: list[int] = []
        at = len(data)
        while len(found) <= lines and (at := data.rfind(b"\n", 0, at)) >= 0:
            found.append(position + at + 1)
        starts.extend(reversed(found))
        position += len(data)
    if starts[-1] == position:
        starts.pop()
    if lines == 0 or not starts:
        return position
    return starts[-min(lines, len(starts))]
