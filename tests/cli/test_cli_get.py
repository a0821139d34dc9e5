"""`get` and `describe` against a real API: what a person types, and what they read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from hub.api import names, resource
from hub.api.indexset import IndexSet
from hub.cli.listing import CLUSTERS, JOBS, kind_of
from hub.cli.main import cli
from hub.cli.watching import watch_things
from hub.client.session import Session
from hub.jobs.spec import JobSpec
from hub.jobs.works import slice_to_work

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def run(kubeconfig: Path) -> Run:
    """`quarterdeck ARGUMENTS` in a thread of its own: the API is served by the test's loop."""

    async def call(*arguments: str) -> Result:
        from hub.api.errors import QuarterdeckError

        line = ["--kubeconfig", str(kubeconfig), *arguments]
        result = await asyncio.to_thread(CliRunner().invoke, cli, line)
        if result.exception is not None and not isinstance(result.exception, SystemExit | QuarterdeckError):
            raise result.exception
        return result

    return call


def _job(name: str, **spec: Any) -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": "main", "image": "host", "command": ["true"]}]}}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "FleetJob",
        "metadata": {"name": name},
        "spec": {"tasks": 4, "template": template, **spec},
    }


async def _namespace(api: Session, name: str) -> None:
    await api.create(resource.NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


async def _fleet(api: Session) -> dict[str, Any]:
    """A cluster with two GPUs, a queue, a job that runs there, and one that waits."""
    for name in ("lab", "ash"):
        await _namespace(api, name)
    for obj in yaml.safe_load_all(_OBJECTS):
        found = next(r for r in resource.KNOWN if r.kind == obj["kind"] and r.group in obj["apiVersion"])
        made = await api.create(found, obj, obj["metadata"].get("namespace"))
        if "status" in obj and found != resource.CLUSTER_CAPACITIES:
            await api.patch(found, made["metadata"]["name"], {"status": obj["status"]}, subresource="status")
    job = await api.create(resource.FLEET_JOBS, _job("train", gpu={"count": 1}), "default")
    await api.create(resource.FLEET_JOBS, _job("tune"), "default")
    await api.create(resource.FLEET_JOBS, _job("elsewhere"), "lab")
    spec = JobSpec.from_fleet_job(job)
    work = slice_to_work(spec, "ash", IndexSet.span(1), 1, 1, (("cpu", "any"), (names.GPU, "any")), "team", 1)
    await api.create(resource.MANIFEST_WORKS, work, "ash")
    status = {
        "phase": "Failed",
        "reason": "TasksFailed",
        "message": "1 of 4 tasks failed: 2",
        "tasks": {"total": 4, "succeeded": 3, "failed": 1, "succeededIndexes": "0-1,3", "failedIndexes": "2"},
        "attempts": [{"epoch": 1, "attempt": 1, "cluster": "ash", "tasks": "0-3", "state": "Failed", "failed": "2"}],
        "clusters": ["ash"],
    }
    return await api.patch(resource.FLEET_JOBS, "tune", {"status": status}, "default", subresource="status")


_OBJECTS = """
apiVersion: cluster.open-cluster-management.io/v1
kind: ManagedCluster
metadata: {name: ash}
spec: {hubAcceptsClient: true}
status:
  conditions:
  - {type: ManagedClusterConditionAvailable, status: "True", reason: Up, message: up,
     lastTransitionTime: "2026-01-01T00:00:00Z"}
---
apiVersion: fleet.quarterdeck.dev/v1alpha1
kind: ClusterCapacity
metadata: {name: ash, namespace: ash}
status:
  simulated: true
  runtime: process
  nodeGroups:
  - {name: big, count: 1, gpu: {model: A100, count: 2, memory: 40Gi}, allocatable: {cpu: "8", memory: 32Gi}}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: ResourceFlavor
metadata: {name: any}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: ClusterQueue
metadata: {name: team}
spec:
  namespaceSelector: {}
  resourceGroups:
  - coveredResources: [cpu, nvidia.com/gpu]
    flavors:
    - {name: any, resources: [{name: cpu, nominalQuota: 8}, {name: nvidia.com/gpu, nominalQuota: 4}]}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: LocalQueue
metadata: {name: default, namespace: default}
spec: {clusterQueue: team}
"""


def _lines(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [line.split() for line in result.stdout.splitlines()]


async def test_get_jobs(api: Session, run: Run) -> None:
    await _fleet(api)
    head, *rows = _lines(await run("get", "jobs"))
    assert head[:4] == ["NAME", "QUEUE", "PHASE", "TASKS"]
    found = {row[0]: row for row in rows}
    assert sorted(found) == ["train", "tune"]
    assert found["tune"][:4] == ["tune", "default", "Failed", "3/4"]
    assert "TasksFailed" in found["tune"]
    _, *rows = _lines(await run("get", "job", "tune", "-o", "wide"))
    assert [row[0] for row in rows] == ["tune"]
    assert " ".join(rows[0]).endswith("1 of 4 tasks failed: 2")
    head, *rows = _lines(await run("get", "fj", "-A"))
    assert (head[0], sorted(row[0] for row in rows)) == ("NAMESPACE", ["default", "default", "lab"])
    _, *rows = _lines(await run("-n", "lab", "get", "jobs"))
    assert [row[0] for row in rows] == ["elsewhere"]


async def test_get_clusters_and_queues(api: Session, run: Run) -> None:
    await _fleet(api)
    head, row = _lines(await run("get", "clusters"))
    line = dict(zip(head, row, strict=False))
    assert (line["NAME"], line["STATUS"]) == ("ash", "available")
    assert " ".join(row[2:6]) == "A100 1/2 8/8 0"
    assert "simulated" in row
    head, row = _lines(await run("get", "queues"))
    assert " ".join(row[:8]) == "default team 1 1 cpu 0/8, gpu 1/4"


async def test_objects_are_printed_as_kubectl_prints_them(api: Session, run: Run) -> None:
    await _fleet(api)
    one = json.loads((await run("get", "jobs", "tune", "-o", "json")).stdout)
    assert (one["kind"], one["apiVersion"]) == ("FleetJob", names.API_VERSION)
    assert one["status"]["phase"] == "Failed"
    several = yaml.safe_load((await run("get", "jobs", "-o", "yaml")).stdout)
    assert (several["kind"], len(several["items"])) == ("List", 2)
    assert (
        await run("get", "clusters", "-o", "name")
    ).stdout == "managedcluster.cluster.open-cluster-management.io/ash\n"


async def test_plain_jobs_of_a_queue_are_jobs_too(api: Session, run: Run) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "host"}]}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"suspend": True, "template": template}}
    for name, labels in (("ours", {names.QUEUE_NAME: "default"}), ("theirs", {})):
        await api.create(resource.JOBS, {**job, "metadata": {"name": name, "labels": labels}}, "default")
    _, *rows = _lines(await run("get", "jobs"))
    assert [row[0] for row in rows] == ["ours"]
    described = (await run("describe", "job", "ours")).stdout
    assert "Kind:" in described
    assert "FleetJob" not in described


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        (("get", "pods"), "'pods' is not one of jobs, clusters, queues", "kubectl"),
        (("get", "job", "tuna"), "there is no job tuna in namespace default", "Did you mean tune?"),
        (("describe", "cluster", "zzz"), "there is no cluster zzz", "`quarterdeck get clusters` lists"),
        (("describe", "queue", "defualt"), "there is no queue defualt in namespace default", "Did you mean default?"),
        (("describe", "job", "trian"), "there is no job trian in namespace default", "Did you mean train?"),
        (("get", "clutsers"), "'clutsers' is not one of", "Did you mean `clusters`?"),
    ],
)
async def test_errors_say_what_to_do_next(
    api: Session, run: Run, arguments: tuple[str, ...], said: str, hint: str
) -> None:
    await _fleet(api)
    error: Any = (await run(*arguments)).exception
    assert said in str(error)
    assert hint in error.hint


async def test_nothing_there_is_no_error_and_says_how_to_begin(run: Run) -> None:
    for kind, hint in (("jobs", "quarterdeck run"), ("clusters", "quarterdeck up"), ("queues", "submit")):
        result = await run("get", kind)
        assert (result.exit_code, result.stdout) == (0, "")
        assert f"no {kind}" in result.stderr
        assert hint in result.stderr


async def test_describe_a_job_with_its_slices_failures_and_events(api: Session, run: Run) -> None:
    job = await _fleet(api)
    uid = job["metadata"]["uid"]
    entry = {"task": 2, "attempt": 1, "text": "Traceback\nValueError: boom\n", "exitCode": 1, "final": True}
    log = {"apiVersion": names.API_VERSION, "kind": "TaskLog", "entries": [entry]}
    log["metadata"] = {"name": "tune-1-failed-00000000", "labels": {names.JOB_UID: uid}}
    await api.create(resource.TASK_LOGS, log, "ash")
    event = {
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "tune.1"}, "reason": "TasksFailed",
        "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Warning", "note": "it broke", "action": "Fold",
        "reportingController": "fleet.quarterdeck.dev/hub", "reportingInstance": "hub-1",
        "regarding": {"apiVersion": names.API_VERSION, "kind": "FleetJob", "name": "tune", "uid": uid,
                      "namespace": "default"},
    }  # fmt: skip
    await api.create(resource.EVENTS, event, "default")
    result = await run("describe", "job", "tune", "train")
    assert result.exit_code == 0
    tune, train = result.stdout.split("\n\nName:")
    for text in (
        "Phase:            Failed",
        "3 of 4 succeeded (0-1,3), 1 failed (2)",
        "task 2 on ash, attempt 1: exit code 1",
        "    ValueError: boom",
        "it broke",
    ):
        assert text in tune
    assert "1 × GPU" in train
    # The status says nothing of it yet, its work does.
    assert [line.split()[2] for line in train.splitlines() if "Pending" in line and "ash" in line] == ["ash"]


async def test_describe_a_cluster_and_a_queue(api: Session, run: Run) -> None:
    await _fleet(api)
    cluster = (await run("describe", "cluster", "ash")).stdout
    for text in ("simulated: declared, not there", "A100 1/2", "default/train", "2 × A100 (40Gi)"):
        assert text in cluster
    queue = (await run("describe", "queue", "default")).stdout
    assert "1 running, 1 waiting" in queue
    assert (await run("describe", "queue", "team")).stdout.count("default/train") == 2


async def test_watch_prints_what_changes(api: Session, capsys: pytest.CaptureFixture[str]) -> None:
    await _fleet(api)
    watching = asyncio.create_task(watch_things(api, JOBS, (), "default", None, everywhere=False, turns=3))
    await _said(capsys, "tune")
    await api.patch(resource.FLEET_JOBS, "train", {"status": {"phase": "Running"}}, "default", subresource="status")
    line = await _said(capsys, "Running")
    assert line.split()[0] == "train"
    await api.delete(resource.FLEET_JOBS, "tune", "default")
    assert await _said(capsys, "gone") == "tune is gone"
    await asyncio.wait_for(watching, 10)


async def test_watch_clusters_follows_what_makes_their_numbers(
    api: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    await _fleet(api)
    watching = asyncio.create_task(watch_things(api, CLUSTERS, ("ash",), None, "wide", everywhere=False, turns=2))
    assert "A100 1/2" in await _said(capsys, "available")
    works = (await api.list(resource.MANIFEST_WORKS, "ash")).items
    await api.patch(resource.MANIFEST_WORKS, works[0]["metadata"]["name"], {"metadata": {"finalizers": None}}, "ash")
    await api.delete(resource.MANIFEST_WORKS, works[0]["metadata"]["name"], "ash")
    assert "A100 2/2" in await _said(capsys, "available")
    await asyncio.wait_for(watching, 10)


async def _said(capsys: pytest.CaptureFixture[str], word: str) -> str:
    """The first line with `word` among what is printed from now on."""
    async with asyncio.timeout(10):
        while True:
            for line in capsys.readouterr().out.splitlines():
                if word in line:
                    return line
            await asyncio.sleep(0.02)


async def test_names_complete_in_the_shell(api: Session, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await _fleet(api)
    monkeypatch.setenv("QUARTERDECK_KUBECONFIG", str(kubeconfig))
    complete = ShellComplete(cli, {}, "quarterdeck", "_QUARTERDECK_COMPLETE")

    async def found(*line: str) -> list[str]:
        *done, last = line
        return [item.value for item in await asyncio.to_thread(complete.get_completions, done, last)]

    assert await found("get", "") == ["jobs", "clusters", "queues"]
    assert await found("get", "jobs", "t") == ["train", "tune"]
    assert await found("get", "clusters", "") == ["ash"]
    assert await found("describe", "queue", "") == ["default"]


def test_every_name_of_a_kind_is_known_in_any_case() -> None:
    assert {kind_of(text).name for text in ("Jobs", "FJ", "fleetjob")} == {"jobs"}
    assert {kind_of(text).name for text in ("mcl", "site")} == {"clusters"}
    assert kind_of("localqueue").name == "queues"


async def test_a_cluster_is_accepted_denied_and_removed(api: Session, run: Run) -> None:
    await _fleet(api)
    for verb, wanted in (("deny", False), ("accept", True)):
        assert (await run("clusters", verb, "ash")).exit_code == 0
        assert (await api.get(resource.MANAGED_CLUSTERS, "ash"))["spec"]["hubAcceptsClient"] is wanted
    removed = await run("clusters", "remove", "ash")
    assert removed.stdout == "ash removed\n"
    # It is available, so its agent runs.
    assert "asks to join again" in removed.stderr
    gone = await run("clusters", "remove", "ash")
    assert "there is no cluster ash" in str(gone.exception)
