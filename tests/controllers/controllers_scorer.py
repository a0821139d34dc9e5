"""A scorer that speaks the framework's protocol as its samples do, and checks requests as a schema would.

It is written from the protocol, for tests to turn its knobs: what it serves as its configuration, what it answers.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from typing import Any

from aiohttp import web
from controllers_scene import Scene, until
from pydantic import BaseModel, ConfigDict, ValidationError

from hub.api.conditions import find_condition
from hub.api.errors import NotFoundError
from hub.api.resource import ADDON_PLACEMENT_SCORES, DYNAMIC_SCORERS

Json = dict[str, Any]


class _Series(BaseModel):
    metric: dict[str, str]
    # As pydantic reads it: "1.1" is the number 1.1.
    values: list[tuple[float, float]]


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore")

    data: list[_Series]


def mean_of_each(request: Json) -> Any:
    """What the framework's sample does: the mean of each series is its score."""
    results = []
    for series in request["data"]:
        values = [float(value) for _, value in series["values"]]
        score = sum(values) / len(values) if values else 0
        results.append({"metric": {**series["metric"], "meta": "from a test"}, "score": score})
    return {"results": results}


def always(score: Any, **metric: str) -> Callable[[Json], Any]:
    return lambda request: {"results": [{"metric": metric, "score": score}], "extra": {"ignored": True}}


class Scorer:
    """`answer(request body)`: a document, or (status, bytes). `config` None: 404. `asked`: (headers, body) of each."""

    def __init__(self, name: str = "my_score", interval: float = 1, source: Json | None = None) -> None:
        self.config: Any = {
            "name": "a-scorer",
            "description": "for tests",
            "source": source or {"type": "None"},
            "scoring": {"path": "/scoring", "params": {"name": name, "interval": interval}},
        }
        self.answer: Callable[[Json], Any] = mean_of_each
        self.config_status, self.health_status = 200, 200
        self.token = ""
        self.hang = 0.0
        self.asked: list[tuple[dict[str, str], Json]] = []
        self.at: list[float] = []
        self.config_asked = 0
        self.health_asked = 0
        self.at_once = self.most_at_once = 0
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> Scorer:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_get("/config", self._config)
        app.router.add_get("/healthz", self._health)
        app.router.add_post("/scoring", self._scoring)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def clusters_asked(self) -> list[str]:
        return [headers.get("X-Quarterdeck-Cluster", "") for headers, _ in self.asked]

    async def _config(self, request: web.Request) -> web.Response:
        self.config_asked += 1
        if self.config is None:
            return web.Response(status=404, text="no such page")
        if isinstance(self.config, bytes):
            return web.Response(status=self.config_status, body=self.config)
        return web.json_response(self.config, status=self.config_status)

    async def _health(self, request: web.Request) -> web.Response:
        self.health_asked += 1
        return web.json_response({"status": "ok"}, status=self.health_status)

    async def _scoring(self, request: web.Request) -> web.Response:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            raw = await request.read()
            self.at.append(asyncio.get_running_loop().time())
            if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
                return web.json_response({"detail": "who are you"}, status=401)
            body = json.loads(raw)
            self.asked.append((dict(request.headers), body))
            if self.hang:
                await asyncio.sleep(self.hang)
            try:
                _Request.model_validate(body)
            except ValidationError as error:
                return web.json_response({"detail": json.loads(error.json())}, status=422)
            answer = self.answer(body)
            if isinstance(answer, web.Response):
                return answer
            if isinstance(answer, tuple):
                return web.Response(status=answer[0], body=answer[1])
            return web.json_response(answer)
        finally:
            self.at_once -= 1


class FakePrometheus:
    """Answers range and instant queries with what `series(query)` says; `asked`: (path, parameters, headers)."""

    def __init__(self) -> None:
        self.series: Callable[[str], list[Json]] = lambda query: []
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.status, self.hang = 200, 0.0
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> FakePrometheus:
        app = web.Application()
        app.router.add_get("/{tail:.*}", self._query)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _query(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, dict(request.query), dict(request.headers)))
        if self.hang:
            await asyncio.sleep(self.hang)
        result = self.series(request.query["query"])
        if request.path.endswith("/query"):
            result = [{"metric": one["metric"], "value": one["values"][-1]} for one in result]
        return web.json_response(
            {"status": "success", "data": {"resultType": "matrix", "result": result}}, status=self.status
        )


def scorer_object(name: str, url: str, *, mode: str = "Full", namespace: str = "default", **spec: Any) -> Json:
    return {
        "apiVersion": "dynamic-scoring.open-cluster-management.io/v1alpha1",
        "kind": "DynamicScorer",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "description": "for tests",
            "configURL": f"{url}/config",
            "configSyncMode": mode,
            "location": "External",
            "scoreDestination": "AddOnPlacementScore",
            **spec,
        },
    }


def policy_object(name: str, namespace: str = "default", **spec: Any) -> Json:
    return {
        "apiVersion": "fleet.quarterdeck.dev/v1alpha1",
        "kind": "ScorerPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def series(values: list[float], **metric: str) -> Json:
    return {"metric": metric, "values": [[1718600000 + 60 * i, str(value)] for i, value in enumerate(values)]}


async def condition(scene: Scene, name: str, kind: str = "Ready") -> Json:
    status = (await scene.api.get(DYNAMIC_SCORERS, name, "default")).get("status") or {}
    return find_condition(status.get("conditions"), kind) or {}


async def says(scene: Scene, name: str, kind: str, reason: str, seconds: float = 10.0) -> Json:
    async def so() -> Json | None:
        found = await condition(scene, name, kind)
        return found if found.get("reason") == reason else None

    try:
        return await until(so, seconds)
    except AssertionError:
        status = (await scene.api.get(DYNAMIC_SCORERS, name, "default")).get("status")
        raise AssertionError(f"{kind} is not {reason} but {status}") from None


async def published(scene: Scene, cluster: str, name: str) -> dict[str, int] | None:
    try:
        status = (await scene.api.get(ADDON_PLACEMENT_SCORES, name, cluster)).get("status") or {}
    except NotFoundError:
        return None
    return {score["name"]: score["value"] for score in status.get("scores") or ()} if "validUntil" in status else None
