"""What a site asks of podman or docker besides running: to remove a container, and those that nobody wants.

An engine's container outlives a client that was killed, so the end of the client is not the end of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any

from agent.edge import shim
from agent.edge.images import ContainerEngine

_log = logging.getLogger("agent.edge.engine")


class EngineCalls:
    """Calls run on their own; a failing engine is logged and costs nothing else. `close` drops what is under way."""

    def __init__(self, engine: ContainerEngine, token: str) -> None:
        self._engine = engine
        self._token = token
        self._chores: set[asyncio.Task[None]] = set()

    def remove(self, name: str) -> None:
        self._chore(self._call("rm", "--force", name))

    def remove_all_but(self, wanted: Iterable[str]) -> None:
        """Of the containers of this site."""
        self._chore(self._remove_strangers(frozenset(wanted)))

    def close(self) -> None:
        for chore in self._chores:
            chore.cancel()

    def _chore(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._settled(work))
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    async def _settled(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except OSError as error:
            _log.warning("the container runtime cannot be asked", extra={"fields": {"why": error}})

    async def _remove_strangers(self, wanted: frozenset[str]) -> None:
        process = await asyncio.create_subprocess_exec(
            self._engine.path,
            *("ps", "--all", "--filter", f"label={shim.NAME}={self._token}", "--format", "{{.Names}}"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        output, _ = await process.communicate()
        for name in output.decode(errors="replace").split():
            if name not in wanted:
                await self._call("rm", "--force", name)

    async def _call(self, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            self._engine.path,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await process.wait()
