"""Named timers of one object: setting one again replaces it, and all of them end with the object."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timers:
    def __init__(self) -> None:
        self._handles: dict[str, asyncio.TimerHandle] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._handles

    def set(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        self.cancel(name)

        def run() -> None:
            self._handles.pop(name, None)
            action()

        self._handles[name] = asyncio.get_running_loop().call_later(seconds, run)

    def cancel(self, name: str) -> None:
        handle = self._handles.pop(name, None)
        if handle is not None:
            handle.cancel()

    def cancel_all(self) -> None:
        for name in list(self._handles):
            self.cancel(name)
