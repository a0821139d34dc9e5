"""`explain` beside a live hub and a real Prometheus: what it says would be decided is what the hub then decides."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from controllers_scene import Scene, until
from controllers_web import serving

from hub.api import names
from hub.api.resource import CLUSTER_QUEUES, LEASES, LOCAL_QUEUES, RESOURCE_FLAVORS, SCORE_SOURCES
from hub.apiserver.server import ApiServer
from hub.cli.hub_view import view
from hub.cli.plan_input import Settings, quiet
from hub.cli.up.prometheus import prometheus_process
from hub.client.session import Session
from hub.controllers.debug_server import DebugPages
from hub.controllers.metrics_server import MetricsServer
from hub.controllers.permission import Permission
from hub.server.explanation_document import explanation_document

Json = dict[str, Any]
LOADS = {"ash": 0.123456, "elm": 0.71, "fir": 0.5}


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[str]:
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("no prometheus on PATH")
    with ExitStack() as stack:
        targets = {}
        for name, load in LOADS.items():
            site = stack.enter_context(serving())
            text = f"site_load {load}\n".encode()
            site.answers = lambda path, asked, text=text: (200, {"Content-Type": "text/plain; version=0.0.4"}, text)
            targets[name] = site.url.removeprefix("http://")
        yield from _scraping(binary, tmp_path, targets)


def _scraping(binary: str, tmp_path: Path, targets: dict[str, str]) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spec = prometheus_process(binary, tmp_path / "prometheus", port, targets, tmp_path / "log")
    process = subprocess.Popen(spec.argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
async def hub_session(api_server: ApiServer) -> AsyncIterator[Session]:
    async with Session(api_server.url, token=api_server.token) as session:
        yield session


async def a_queue_without_quota(scene: Scene) -> None:
    flavor = {"apiVersion": RESOURCE_FLAVORS.api_version, "kind": "ResourceFlavor", "metadata": {"name": "plain"}}
    await scene.api.create(RESOURCE_FLAVORS, flavor)
    quota = [{"name": name, "nominalQuota": 0} for name in ("cpu", "memory", names.GPU)]
    queue = {
        "apiVersion": CLUSTER_QUEUES.api_version,
        "kind": "ClusterQueue",
        "metadata": {"name": "held"},
        "spec": {
            "namespaceSelector": {},
            "resourceGroups": [
                {
                    "coveredResources": [entry["name"] for entry in quota],
                    "flavors": [{"name": "plain", "resources": quota}],
                }
            ],
        },
    }
    await scene.api.create(CLUSTER_QUEUES, queue)
    local = {
        "apiVersion": LOCAL_QUEUES.api_version,
        "kind": "LocalQueue",
        "metadata": {"name": "held", "namespace": "default"},
        "spec": {"clusterQueue": "held"},
    }
    await scene.api.create(LOCAL_QUEUES, local, "default")


async def raise_quota(scene: Scene) -> None:
    queue = await scene.api.get(CLUSTER_QUEUES, "held")
    for resource in queue["spec"]["resourceGroups"][0]["flavors"][0]["resources"]:
        resource["nominalQuota"] = "100Gi" if resource["name"] == "memory" else 100
    await scene.api.replace(CLUSTER_QUEUES, queue)


@pytest.mark.prometheus
async def test_explain_ranks_by_the_values_by_which_the_hub_decides(
    scene: Scene, hub_session: Session, prometheus: str
) -> None:
    weights = {"load": 7.5, "FreeSlots": 0.5, "Price": 0}
    queue = {"minimumRuntime": "5m", "preemptionBudget": None, "fairSharing": {}, "notice": "7s"}
    hub = await scene.hub(
        prometheus={"url": prometheus, "interval": 0.2}, scorers={"weights": weights}, queue=queue, wait=False
    )
    permission = Permission(hub_session)
    async with MetricsServer(
        "127.0.0.1:0", hub.metrics.registry, lambda: None, lambda: "", DebugPages(hub, permission).routes
    ) as server:
        hub.announce(server.url)
        await asyncio.wait_for(hub.leading.wait(), 10)
        for name, gpus in zip(LOADS, (2, 4, 3), strict=True):
            await scene.agent(name, gpus=gpus)
        await scene.available(*LOADS)
        source = {
            "apiVersion": SCORE_SOURCES.api_version,
            "kind": "ScoreSource",
            "metadata": {"name": "load"},
            "spec": {
                "promQL": "avg by (cluster) (site_load)",
                "direction": "lower",
                "normaliser": {"type": "sigmoid", "midpoint": "0.4", "scale": "0.2"},
                "interval": "200ms",
                "validFor": "1h",
            },
        }
        await scene.api.create(SCORE_SOURCES, source)
        await a_queue_without_quota(scene)
        await until(lambda: hub.scores.coverage().get("load") == 1.0, 30, "Prometheus answers for all three")
        await scene.submit("job", queueName="held", gpu={"count": 1})

        async def refused() -> bool:
            status = await scene.status("job")
            return status.get("reason") in ("WaitingForQuota", "ExceedsMaxQuota")

        await until(refused)
        seen = await view(hub_session, "default/job")
        assert seen.note == ""
        assert seen.scores is not None
        with quiet():
            settings = Settings.read(None, "1", None, None).knowing(seen.scores, seen.queue)
            objects, state = settings.state(seen.sources, live=True)
            document = explanation_document(objects, state, "default/job")
        assert document is not None
        explained = document["job"]["clusters"]
        ranked = sorted(explained, key=lambda line: line["rank"])
        assert [line["rank"] for line in ranked] == [1, 2, 3]
        told = {score["scorer"]: score for score in ranked[0]["scores"]}
        # The mix of what is typically asked is the hub's, and so are the weights and the values.
        assert list(told) == ["FreeSlots", "FreeShare", "Fragmentation", "Scarcity", "load"]
        assert told["load"]["weight"] == 7.5
        assert {line["cluster"]: _raw(line, "load") for line in explained} == LOADS
        hub.world.refresh()
        assert state.rules.policy == hub.config.queue.policy
        assert (state.rules.policy.minimum_runtime, state.rules.policy.budget, state.rules.policy.notice) == (
            300.0,
            None,
            7.0,
        )
        assert [(e.scorer.name, e.weight) for e in state.scorers] == [
            (e.scorer.name, e.weight) for e in hub.scores.scorers()
        ]
        await raise_quota(scene)
        await scene.phase("job", "Succeeded")
        work = (await scene.works())[0]
        decision = json.loads(work["metadata"]["annotations"][names.DECISION])
        assert work["metadata"]["namespace"] == ranked[0]["cluster"]
        assert decision["total"] == round(ranked[0]["total"], 1)
        assert decision["scores"] == {name: round(score["weighted"], 1) for name, score in told.items()}
        assert decision["next"] == [ranked[1]["cluster"], round(ranked[1]["total"], 1)]


async def test_without_an_answer_of_the_hub_what_is_missing_is_said(scene: Scene, hub_session: Session) -> None:
    hub = await scene.hub()
    seen = await view(hub_session)
    assert (seen.scores, seen.queue) == (None, None)
    assert (seen.scores, seen.note) == (
        None,
        "the hub says nowhere where it answers (it runs without --metrics-listen)",
    )
    lease = await scene.api.get(LEASES, names.HUB_LEASE, names.HUB_NAMESPACE)
    del lease
    for url, words in (
        ("http://192.0.2.1:80", "a token is not sent to http://192.0.2.1:80"),
        ("http://127.0.0.1:9", "no answer from http://127.0.0.1:9/debug/state"),
    ):
        patch = {"metadata": {"annotations": {names.DEBUG_URL: url}}}
        hub.announce(url)
        await scene.api.patch(LEASES, names.HUB_LEASE, patch, names.HUB_NAMESPACE)
        assert words in (await view(hub_session)).note


def _raw(line: Json, scorer: str) -> float:
    return next(score["raw"] for score in line["scores"] if score["scorer"] == scorer)
