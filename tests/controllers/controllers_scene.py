"""A hub's surroundings for tests: the API in process, agents that do what a test tells them, hubs that can die."""

from __future__ import annotations

import asyncio
from typing import Any

from controllers_agent import FakeAgent, Told
from controllers_line import Line, until

from hub.api import names
from hub.api.errors import NotFoundError
from hub.api.resource import CLUSTER_CAPACITIES, FLEET_JOBS, MANAGED_CLUSTERS, MANIFEST_WORKS, WORKLOADS
from hub.client.interface import KubeApi
from hub.controllers.config import HubConfig, parse_config
from hub.controllers.hub import Hub

__all__ = ["FakeAgent", "Line", "Scene", "Told", "until"]
Json = dict[str, Any]
FAST = {
    "autoAccept": {"users": ["*"]},
    "leadership": {"lease": 2, "renewDeadline": 1.2, "retry": 0.2},
    "lifecycle": False,
}


class Scene:
    """Agents and hubs around one API; everything is stopped at the end."""

    def __init__(self, api: KubeApi) -> None:
        self.api = api
        self.agents: list[FakeAgent] = []
        self.hubs: list[tuple[Hub, Line, asyncio.Task[None]]] = []

    async def agent(self, name: str, **options: Any) -> FakeAgent:
        agent = FakeAgent(self.api, name, **options)
        self.agents.append(agent)
        await agent.start()
        return agent

    async def hub(self, *, identity: str = "hub", line: Line | None = None, wait: bool = True, **config: Any) -> Hub:
        line = line or Line(self.api)
        hub = Hub(line, self.config(**config), identity=identity, request_kept=0.3)
        self.hubs.append((hub, line, asyncio.create_task(hub.run())))
        if wait:
            await asyncio.wait_for(hub.leading.wait(), 10)
        return hub

    @staticmethod
    def config(**config: Any) -> HubConfig:
        return parse_config({**FAST, **config})

    def line_of(self, hub: Hub) -> Line:
        return next(line for known, line, _ in self.hubs if known is hub)

    async def kill(self, hub: Hub) -> None:
        """As kill -9: from this moment on nothing of it reaches the API."""
        for known, line, task in self.hubs:
            if known is hub:
                line.cut()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await hub.patcher.stop(0)

    async def close(self) -> None:
        for hub, _line, task in self.hubs:
            if not task.done():
                hub.stop()
        tasks = [task for _, _, task in self.hubs]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=10)
            for task in late:
                for other in asyncio.all_tasks():
                    other.print_stack()
                task.cancel()
            assert not late, "a hub did not end when it was told to"
        for agent in self.agents:
            await agent.stop()

    # What a person does and sees.

    async def available(self, *names_: str) -> None:
        async def all_are() -> bool:
            for name in names_:
                cluster = await self.api.get(MANAGED_CLUSTERS, name)
                conditions = (cluster.get("status") or {}).get("conditions") or []
                if not any(
                    c["type"] == "ManagedClusterConditionAvailable" and c["status"] == "True" for c in conditions
                ):
                    return False
                try:
                    await self.api.get(CLUSTER_CAPACITIES, name, name)
                except NotFoundError:
                    return False
            return True

        await until(all_are, what=f"{names_} available")

    async def submit(self, name: str, tasks: int = 1, cpu: str = "1", **spec: Any) -> Json:
        container = {
            "name": "main", "image": "host", "command": ["true"],
            "resources": {"requests": {"cpu": cpu, "memory": "1Mi"}},
        }  # fmt: skip
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        body = {
            "apiVersion": names.API_VERSION,
            "kind": "FleetJob",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"tasks": tasks, "template": template, **spec},
        }
        return await self.api.create(FLEET_JOBS, body, "default")

    async def job(self, name: str) -> Json:
        return await self.api.get(FLEET_JOBS, name, "default")

    async def status(self, name: str) -> Json:
        return (await self.job(name)).get("status") or {}

    async def phase(self, name: str, *phases: str, seconds: float = 10.0) -> Json:
        async def reached() -> Json | None:
            status = await self.status(name)
            return status if status.get("phase") in phases else None

        try:
            found: Json = await until(reached, seconds)
        except AssertionError:
            raise AssertionError(f"{name} is not {phases} but {await self.status(name)}") from None
        return found

    async def works(self, cluster: str | None = None) -> list[Json]:
        return (await self.api.list(MANIFEST_WORKS, cluster)).items

    async def workload(self, name: str) -> Json:
        return await self.api.get(WORKLOADS, name, "default")
