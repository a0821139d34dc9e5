"""One answer to a TaskLogRequest, as it is written to the hub: numbered TaskLog objects, in order, the last one marked.

What arrives within a moment goes in one write; who reads waits while the hub does not keep up. A number that is there
already after an outage is our own write that arrived. It does not read logs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from agent.link import TRANSIENT, HubLink
from agent.logtext import Bundle
from agent.waiting import came
from hub.api import names
from hub.api.errors import AlreadyExistsError, NotFoundError, QuarterdeckError
from hub.api.resource import TASK_LOG_REQUESTS, TASK_LOGS
from hub.client.interface import KubeApi

Json = dict[str, Any]
_log = logging.getLogger("agent.logs")

COALESCE_SECONDS = 0.05
# What one request may put on the hub: its store is not a log store.
ANSWER_BYTES = 64 * 1024 * 1024
_SAY_SERVING_AFTER = 1.0


class AnswerFullError(QuarterdeckError):
    """As much as one request may have was sent."""


@dataclass(slots=True)
class Position:
    """Where the last entry sent of one task starts (bytes), how many characters it has, and whether it is the last."""

    offset: int
    length: int
    final: bool


class Answer:
    """`async with` it: entries `put` inside are on the hub when it ends. `writing` bounds writes of all answers."""

    def __init__(
        self,
        hub: KubeApi,
        cluster: str,
        request: Json,
        link: HubLink,
        writing: asyncio.Semaphore,
    ) -> None:
        self.sent_bytes = 0
        self.writes = 0
        self._hub, self._cluster, self._link, self._writing = hub, cluster, link, writing
        self._request = request["metadata"]
        self._sequence = 0
        self._resumed_bytes = 0
        self._positions: dict[tuple[int, int | None], Position] = {}
        self._bundle = Bundle()
        self._closing = False
        self._dirty, self._urgent, self._free = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._serving_timer: asyncio.TimerHandle | None = None
        self._serving: asyncio.Task[None] | None = None

    def position(self, task: int, attempt: int | None) -> Position | None:
        """How far an earlier answer to the same request had come with a task."""
        return self._positions.get((task, attempt))

    async def resume(self) -> bool:
        """Reads what is on the hub already, one object at a time. True when that is the whole answer."""
        while True:
            try:
                found = await self._hub.get(TASK_LOGS, self._name(), self._cluster)
            except NotFoundError:
                return False
            except TRANSIENT as error:
                self._link.failed(error)
                await self._link.ready()
                continue
            if found.get("final"):
                return True
            for entry in found.get("entries") or ():
                text = str(entry.get("text", ""))
                self._resumed_bytes += len(text)
                key = (int(entry["task"]), entry.get("attempt"))
                self._positions[key] = Position(int(entry.get("offset") or 0), len(text), bool(entry.get("final")))
            self._sequence += 1

    async def put(self, entry: Json) -> None:
        """Raises `AnswerFullError` when the request has had its share, and what the hub refused the answer with."""
        while not self._bundle.fits(entry):
            self._free.clear()
            self._urgent.set()
            await self._free.wait()
            self._raise_refusal()
        self._raise_refusal()
        if self._resumed_bytes + self.sent_bytes > ANSWER_BYTES:
            sent = f"{ANSWER_BYTES // 2**20} MiB"
            raise AnswerFullError(f"{sent} sent, which is all that one request gets: ask for the rest with sinceOffset")
        self.sent_bytes += len(entry["text"])
        self._bundle.add(entry)
        self._dirty.set()

    async def state(self, state: Literal["Serving", "Done", "Failed"], message: str = "") -> None:
        status: Json = {"state": state, "message": message or None}
        patch = {"metadata": {"uid": self._request["uid"]}, "status": status}
        while True:
            try:
                await self._hub.patch(
                    TASK_LOG_REQUESTS, self._request["name"], patch, self._cluster, subresource="status"
                )
            except TRANSIENT as error:
                self._link.failed(error)
                await self._link.ready()
            else:
                self._link.succeeded()
                return

    async def refuse(self, message: str) -> None:
        """An end without logs, and why."""
        await self._write([], final=True)
        await self.state("Failed", message)

    async def __aenter__(self) -> Answer:
        self._writer = asyncio.create_task(self._write_all())
        self._writer.add_done_callback(lambda _: self._free.set())
        self._serving_timer = asyncio.get_running_loop().call_later(_SAY_SERVING_AFTER, self._say_serving)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._writer is not None
        assert self._serving_timer is not None
        try:
            if kind is None:
                self._closing = True
                self._dirty.set()
                self._urgent.set()
                await self._writer
        finally:
            self._serving_timer.cancel()
            left = [task for task in (self._writer, self._serving) if task is not None]
            for task in left:
                task.cancel()
            # Waited for: the state that follows must not be overtaken.
            await asyncio.gather(*left, return_exceptions=True)

    def _raise_refusal(self) -> None:
        if self._writer is not None and self._writer.done():
            self._writer.result()

    def _say_serving(self) -> None:
        self._serving = asyncio.create_task(self._try_serving())

    async def _try_serving(self) -> None:
        with contextlib.suppress(QuarterdeckError):
            await self.state("Serving")

    def _name(self) -> str:
        return f"{self._request['name']}-{self._sequence:08d}"

    async def _write_all(self) -> None:
        while True:
            await self._dirty.wait()
            if not self._closing:
                await came(self._urgent, COALESCE_SECONDS)
            self._urgent.clear()
            self._dirty.clear()
            final = self._closing
            entries, self._bundle = self._bundle.entries, Bundle()
            self._free.set()
            await self._write(entries, final=final)
            if final:
                return

    async def _write(self, entries: list[Json], *, final: bool) -> None:
        body: Json = {
            "apiVersion": TASK_LOGS.api_version,
            "kind": TASK_LOGS.kind,
            "metadata": {
                "namespace": self._cluster,
                "labels": {names.LOG_REQUEST: self._request["name"]},
                "ownerReferences": [
                    {
                        "apiVersion": TASK_LOG_REQUESTS.api_version,
                        "kind": TASK_LOG_REQUESTS.kind,
                        "name": self._request["name"],
                        "uid": self._request["uid"],
                    }
                ],
            },
            "entries": entries,
        }
        if final:
            body["final"] = True
        unsure = False
        while True:
            body["metadata"]["name"] = self._name()
            try:
                await self._link.ready()
                async with self._writing:
                    await self._hub.create(TASK_LOGS, body, self._cluster)
            except TRANSIENT as error:
                # Perhaps it arrived and only its answer was lost.
                unsure = True
                self._link.failed(error)
                continue
            except AlreadyExistsError:
                if not unsure:
                    _log.warning("a log with this name is there already", extra={"fields": {"name": self._name()}})
                    self._sequence += 1
                    continue
            self._link.succeeded()
            self._sequence += 1
            self.writes += 1
            return
