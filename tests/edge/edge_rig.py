"""A site on a directory, as the tests drive it, and the jobs they hand it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.edge import procfs
from agent.edge.site import EdgeSite
from agent.edge.sitefile import parse_site
from agent.local import LogChunk
from hub.api import names
from hub.api.conditions import condition_is, find_condition
from hub.api.errors import NotFoundError
from hub.api.resource import JOBS

Json = dict[str, Any]
NODES = [{"count": 2, "cpu": 8, "memory": "16Gi", "gpu": {"model": "A100", "count": 2, "memory": "40Gi"}}]


def shell(script: str, **more: Any) -> Json:
    # In a pod `$$` is one `$`.
    return {"name": "main", "image": "host", "command": ["/bin/sh", "-c", script.replace("$$", "$$$$")], **more}


def job(name: str, script: str = "true", completions: int = 1, *, pod: Json | None = None, **spec: Any) -> Json:
    """An Indexed Job as the hub sends it; `script` is run by sh."""
    container = shell(script, resources={"requests": {"cpu": "100m", "memory": "16Mi"}})
    annotations = spec.pop("annotations", {})
    template = {"metadata": {"annotations": annotations}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    template["spec"] |= pod or {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default", "labels": {names.JOB_UID: "0f"}, "annotations": annotations},
        "spec": {
            "completions": completions,
            "parallelism": completions,
            "completionMode": "Indexed",
            "backoffLimitPerIndex": 0,
            "backoffLimit": 2**31 - 1,
            "template": template,
            **spec,
        },
    }


class Rig:
    """A site on a directory, which can be cut off (as by a kill) and started again."""

    def __init__(self, data: Path, **entry: Any) -> None:
        self.data = data
        self.entry: Json = {"name": "edge", "nodes": NODES, **entry}
        self.site: EdgeSite
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> EdgeSite:
        self.site = EdgeSite(parse_site(self.entry), self.data)
        self._running = asyncio.create_task(self.site.run())
        ready = asyncio.create_task(self.site.ready())
        await asyncio.wait([self._running, ready], timeout=10, return_when=asyncio.FIRST_COMPLETED)
        if self._running.done():
            self._running.result()
        assert ready.done()
        return self.site

    async def cut(self) -> None:
        """The site goes, its tasks go on."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None

    async def stop(self) -> None:
        if self._running is not None and not self._running.done():
            await self.site.stop_tasks()
        await self.cut()
        token = self.data / "site-id"
        if token.exists():
            assert procfs.kill_marked(token.read_text().strip(), keep=()) == []

    async def submit(self, obj: Json) -> Json:
        return await self.site.api.create(JOBS, obj, "default")

    async def job(self, name: str) -> Json:
        return await self.site.api.get(JOBS, name, "default")

    async def status(self, name: str) -> Json:
        return (await self.job(name)).get("status") or {}

    async def ended(self, name: str, seconds: float = 10.0) -> Json:
        """The status once the Job is over."""

        async def over() -> Json | None:
            status = await self.status(name)
            conditions = status.get("conditions")
            done = condition_is(conditions, "Complete") or condition_is(conditions, "Failed")
            return status if done else None

        return await until(over, seconds, f"{name} over")

    async def run(self, obj: Json, seconds: float = 10.0) -> Json:
        await self.submit(obj)
        return await self.ended(obj["metadata"]["name"], seconds)

    async def log(self, name: str, index: int = 0, **how: Any) -> str:
        return b"".join([chunk.data for chunk in await self.chunks(name, index, **how)]).decode()

    async def chunks(self, name: str, index: int = 0, **how: Any) -> list[LogChunk]:
        return [chunk async for chunk in self.site.read_log("default", name, index, **how)]

    async def gone(self, name: str, seconds: float = 10.0) -> None:
        async def absent() -> bool:
            try:
                await self.job(name)
            except NotFoundError:
                return True
            return False

        await until(absent, seconds, f"{name} gone")

    def processes(self) -> list[procfs.Marked]:
        return procfs.marked((self.data / "site-id").read_text().strip())


async def until(look: Callable[[], Any], seconds: float = 10.0, what: str = "") -> Any:
    """What `look` gives (awaited where it is to be) once it is truthy; fails the test after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = look()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {seconds} s: {what or look}") from None


def reason_of(status: Json) -> str:
    return str((find_condition(status.get("conditions"), "Failed") or {}).get("reason"))


def message_of(status: Json) -> str:
    return str((find_condition(status.get("conditions"), "Failed") or {}).get("message"))


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
