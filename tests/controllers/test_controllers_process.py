"""The hub as a process: its settings, its name, its first objects, its metrics, its orderly end."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from controllers_scene import Scene, Told, until

from hub.api import names
from hub.api.errors import UsageError
from hub.api.installed import installed_crds
from hub.api.resource import (
    CLUSTER_QUEUES,
    CUSTOM_RESOURCE_DEFINITIONS,
    LEASES,
    LOCAL_QUEUES,
    MANAGED_CLUSTER_SETS,
    NAMESPACES,
    WORKLOAD_PRIORITY_CLASSES,
)
from hub.apiserver.server import ApiServer
from hub.client.session import Session
from hub.controllers import logs
from hub.controllers.bootstrap import bootstrap, covers
from hub.controllers.config import HubConfig, load_config, parse_config
from hub.controllers.identity import Identity
from hub.controllers.metrics.all import HubMetrics
from hub.controllers.metrics_server import MetricsServer
from hub.controllers.readings import health, refresh
from hub.controllers.tempo import LONGEST, Tempo

# First objects.


async def test_bootstrap_makes_everything_once_and_keeps_what_people_changed(
    api: Session, api_server: ApiServer
) -> None:
    await bootstrap(api)
    assert (await api.get(NAMESPACES, names.HUB_NAMESPACE))["metadata"]["name"] == names.HUB_NAMESPACE
    queue = await api.get(CLUSTER_QUEUES, "default")
    covered = queue["spec"]["resourceGroups"][0]["coveredResources"]
    assert {"cpu", "memory", "ephemeral-storage", names.GPU, names.GPU_MILLI} <= set(covered)
    assert (await api.get(LOCAL_QUEUES, "default", "default"))["spec"]["clusterQueue"] == "default"
    values = {c["metadata"]["name"]: c["value"] for c in (await api.list(WORKLOAD_PRIORITY_CLASSES)).items}
    assert values["low"] < values["normal"] < values["high"]
    assert {s["metadata"]["name"] for s in (await api.list(MANAGED_CLUSTER_SETS)).items} == {"default", "global"}
    await api.patch(CLUSTER_QUEUES, "default", {"spec": {"stopPolicy": "Hold"}})
    before = Counter(api_server.plane.metrics.writes)
    await bootstrap(api)
    assert Counter(api_server.plane.metrics.writes) == before
    assert (await api.get(CLUSTER_QUEUES, "default"))["spec"]["stopPolicy"] == "Hold"


async def test_our_own_kinds_are_brought_up_to_date_and_others_only_when_we_made_them(api: Session) -> None:
    await bootstrap(api)
    ours, theirs = "fleetjobs.fleet.quarterdeck.dev", "cohorts.kueue.x-k8s.io"
    wanted = {d["metadata"]["name"]: d["spec"]["names"] for d in installed_crds()}
    for name in (ours, theirs):
        patch: dict[str, Any] = {"spec": {"names": {"shortNames": ["zz" + name[:2]]}}}
        if name == theirs:
            patch["metadata"] = {"labels": {"app.kubernetes.io/managed-by": "Helm"}}
        await api.patch(CUSTOM_RESOURCE_DEFINITIONS, name, patch)
    await bootstrap(api)
    definition = await api.get(CUSTOM_RESOURCE_DEFINITIONS, ours)
    assert definition["spec"]["names"]["shortNames"] == wanted[ours]["shortNames"]
    definition = await api.get(CUSTOM_RESOURCE_DEFINITIONS, theirs)
    assert definition["spec"]["names"]["shortNames"] == ["zzco"]


@pytest.mark.parametrize(
    ("live", "wanted", "verdict"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": [{"x": 1, "y": 2}]}, {"a": [{"x": 1}]}, True),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": "1"}, {"a": 1}, False),
    ],
)
def test_a_server_may_say_more_than_was_asked(live: Any, wanted: Any, verdict: bool) -> None:
    assert covers(live, wanted) is verdict


# Settings.


def test_an_empty_file_and_none_are_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text("")
    assert load_config(tmp_path / "hub.yaml") == load_config(None) == HubConfig()


def test_the_file_that_up_writes_is_read() -> None:
    config = parse_config(
        {"autoAccept": {"users": ["system:open-cluster-management:*"]}, "prometheus": {"url": "http://127.0.0.1:1"}}
    )
    assert config.prometheus is not None
    assert config.prometheus.interval == 15.0
    assert config.autoAccept.rule.matches({"metadata": {"name": "edge-1"}})


@pytest.mark.parametrize(
    ("document", "field", "words"),
    [
        ({"leases": {"grace": 0}}, "leases.grace", "0.5"),
        ({"leases": {"grase": 2}}, "leases.grase", "known here: grace"),
        ({"promtheus": {}}, "promtheus", "prometheus"),
        ({"prometheus": {"url": "localhost:9090"}}, "prometheus.url", "http"),
        ({"prometheus": {"url": "http://x", "interval": "soon"}}, "prometheus.interval", "soon"),
        ({"scorers": {"weights": {"Price": "much"}}}, "scorers.weights.Price", "much"),
        ({"cycle": {"debounce": "-3ms"}}, "cycle.debounce", "-3ms"),
        ({"leadership": {"lease": 5, "renewDeadline": 9}}, "leadership", "two hubs"),
        ({"logs": {"format": "xml"}}, "logs.format", "logfmt"),
        (["autoAccept"], "", "dictionary"),
    ],
)
def test_a_wrong_setting_is_refused_by_field(document: Any, field: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_config(document, "hub.yaml")
    assert caught.value.field == field
    assert words in str(caught.value)


@pytest.mark.parametrize("content", ["{", "\x80"])
def test_a_file_that_is_no_yaml_is_said_so(tmp_path: Path, content: str) -> None:
    path = tmp_path / "hub.yaml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=r"not YAML"):
        load_config(path)
    with pytest.raises(UsageError, match=r"cannot read"):
        load_config(tmp_path / "absent.yaml")


# Its name.


def test_a_hub_keeps_its_name_over_restarts_and_two_never_share_one(tmp_path: Path) -> None:
    anchor = tmp_path / "hub.kubeconfig"
    first = Identity(anchor)
    assert Identity(anchor).name != first.name
    first.release()
    again = Identity(anchor)
    assert again.name == first.name
    again.release()
    assert Identity(tmp_path / "absent" / "x").name != Identity(tmp_path / "absent" / "x").name
    assert Identity(anchor, "mine").name == "mine"


# How long news may wait.


def test_news_waits_longer_the_more_is_decided() -> None:
    now = 100.0
    tempo = Tempo(lambda: now)
    assert tempo.stretched(0.3) == 0.3
    tempo.decided(1)
    assert not tempo.busy
    for _ in range(200):
        tempo.decided(1)
    assert tempo.rate == 100.5
    assert tempo.stretched(0.3) == LONGEST
    assert tempo.stretched(0.0) == 0.0
    assert 0.1 < tempo.stretched(0.1) < LONGEST
    assert tempo.busy
    now += 2.1
    assert not tempo.busy
    assert tempo.stretched(0.3) == 0.3


# Logs.


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_lines_carry_job_cluster_and_attempt(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", form)
    try:
        logs.logger("test").info("admitted", job="default/a", cluster="ash", attempt=2, epoch=3)
        logs.logger("test").debug("not shown")
        import logging

        logging.getLogger("hub.client").warning("lost %s", "it", extra={"fields": {"cluster": "elm"}})
    finally:
        structlog.reset_defaults()
        import logging

        logging.getLogger().handlers.clear()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    wanted = ("job=default/a", "cluster=ash", "attempt=2") if form == "logfmt" else ('"job":"default/a"', '"attempt":2')
    assert all(part in said[0].replace('": ', '":') for part in wanted)
    assert "lost it" in said[1]
    assert "elm" in said[1]


# Metrics.


def test_metrics_are_made_without_side_effects() -> None:
    found = {family.name for family in HubMetrics().registry.collect()}
    assert {"quarterdeck_hub_leader", "quarterdeck_pending_jobs", "quarterdeck_cycle_seconds"} <= found
    assert HubMetrics().registry is not HubMetrics().registry


async def test_what_the_hub_measures_can_be_read(scene: Scene) -> None:
    hub = await scene.hub()
    ash = await scene.agent("ash", cpu=2, plan=lambda work, tasks: Told(seconds=3.0))
    await scene.available("ash")
    await scene.submit("runs", cpu="2")
    await until(lambda: ash.started)
    await scene.submit("waits", cpu="2")
    await scene.phase("waits", "Queued")
    async with (
        MetricsServer("127.0.0.1:0", hub.metrics.registry, lambda: refresh(hub), lambda: health(hub)) as server,
        aiohttp.ClientSession() as http,
    ):
        url = f"http://127.0.0.1:{server.port}"
        async with http.get(f"{url}/metrics") as answer:
            text = await answer.text()
        async with http.get(f"{url}/healthz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok")
    for line in (
        "quarterdeck_hub_leader 1.0",
        'quarterdeck_pending_jobs{namespace="default",queue="default"} 1.0',
        "quarterdeck_tasks_held 1.0",
        'quarterdeck_clusters{state="available"} 1.0',
        'quarterdeck_queue_usage{flavor="default",queue="default",resource="cpu"} 2.0',
        'quarterdeck_writes_total{resource="manifestworks",verb="create"} 1.0',
        'quarterdeck_decisions_total{outcome="Admitted"} 1.0',
        'quarterdeck_informer_objects{resource="fleetjobs"} 2.0',
        "quarterdeck_admission_wait_seconds_count 1.0",
    ):
        assert line in text, line
    assert 'quarterdeck_decisions_total{outcome="WaitingForCapacity"}' in text
    assert 'quarterdeck_cluster_silence_seconds{cluster="ash"}' in text


async def test_a_port_in_use_is_said_with_what_to_do() -> None:
    metrics = HubMetrics()
    async with MetricsServer("127.0.0.1:0", metrics.registry, lambda: None, lambda: "") as server:
        with pytest.raises(UsageError) as caught:
            async with MetricsServer(f"127.0.0.1:{server.port}", metrics.registry, lambda: None, lambda: ""):
                pass
    assert caught.value.field == "--metrics-listen"
    with pytest.raises(UsageError, match="HOST:PORT"):
        MetricsServer("nowhere", metrics.registry, lambda: None, lambda: "")


# The process.


@pytest.mark.slow
async def test_the_process_leads_says_so_and_ends_when_told(api: Session, kubeconfig: Path, tmp_path: Path) -> None:
    config = tmp_path / "hub.yaml"
    config.write_text("lifecycle: false\nlogs: {format: json}\n")
    arguments = ("--kubeconfig", str(kubeconfig), "--config", str(config), "--bootstrap", "--identity", "tested")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub.controllers", *arguments, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(20):
            while b"everything is known" not in await process.stderr.readline():
                assert process.returncode is None
        lease = await api.get(LEASES, names.HUB_LEASE, names.HUB_NAMESPACE)
        assert lease["spec"]["holderIdentity"] == "tested"
        process.send_signal(signal.SIGTERM)
        _, said = await asyncio.wait_for(process.communicate(), 10)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said.decode()
    lease = await api.get(LEASES, names.HUB_LEASE, names.HUB_NAMESPACE)
    assert not lease["spec"].get("holderIdentity")
    assert b"stopped" in said


@pytest.mark.slow
async def test_a_wrong_file_ends_the_process_with_a_sentence(kubeconfig: Path, tmp_path: Path) -> None:
    config = tmp_path / "hub.yaml"
    config.write_text("leases: {grase: 1}\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub.controllers", "--kubeconfig", str(kubeconfig), "--config", str(config),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert b"leases.grase" in said
    assert b"Traceback" not in said
