"""Waiting for an event for a while, and never past a cancellation.

`asyncio.wait_for` loses a cancellation that comes in the same moment as the event (up to Python 3.11); a loop around it
then goes on, and the process that was told to stop does not.
"""

from __future__ import annotations

import asyncio


async def came(event: asyncio.Event, seconds: float) -> bool:
    """Whether `event` was set within `seconds`."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return False
    return True
