"""A real cluster as the agent sees it, against the embedded API: nodes in groups, foreign pods, logs by byte."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from agent_fakes import until
from hypothesis import given
from hypothesis import strategies as st

from agent.kubernetes import KubernetesCluster, pod_facts
from agent.nodegroups import amounts, node_facts, node_groups, pod_requests
from agent.podlogs import from_offset, tail_offset
from hub.api import names
from hub.api.errors import NotFoundError, RefusedError
from hub.api.fleet import ClusterCapacityStatus
from hub.api.resource import APPLIED_MANIFEST_WORKS, NAMESPACES, NODES, PODS
from hub.apiserver.server import serve
from hub.client.session import Session

GI = 2**30


def node(name: str, *, gpu: str = "", gpus: int = 0, **more: Any) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64", **more.pop("labels", {})}
    offered = {"cpu": "8", "memory": "32Gi", "pods": "110", **more.pop("allocatable", {})}
    if gpu:
        labels |= {names.GPU_PRODUCT: gpu, names.GPU_MEMORY: "40960"}
        offered[names.GPU] = str(gpus)
    ready = more.pop("ready", "True")
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": more,
        "status": {
            "capacity": offered,
            "allocatable": offered,
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def pod(name: str, on: str = "", *, ours: bool = False, phase: str = "Running", **more: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "x", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}
    labels = {"batch.kubernetes.io/job-name": "sum", names.JOB_UID: "0f"} if ours else {}
    index = more.pop("index", 0)
    spec = {"containers": [container], **({"nodeName": on} if on else {}), **more.pop("spec", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": labels,
            "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
            **more.pop("metadata", {}),
        },
        "spec": spec,
        "status": {"phase": phase, **more},
    }


def state(**container: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "main", "image": "x", "imageID": "x", "state": container}]}


async def put(api: Session, obj: dict[str, Any]) -> None:
    """Created with its status, as a kubelet would have it in two steps."""
    resource = NODES if obj["kind"] == "Node" else PODS
    namespace = obj["metadata"].get("namespace")
    await api.create(resource, obj, namespace)
    await report(api, obj)


async def report(api: Session, obj: dict[str, Any]) -> None:
    resource = NODES if obj["kind"] == "Node" else PODS
    patch = {"status": obj["status"]}
    await api.patch(resource, obj["metadata"]["name"], patch, obj["metadata"].get("namespace"), subresource="status")


@pytest.fixture
async def cluster(api: Session) -> AsyncIterator[KubernetesCluster]:
    found = KubernetesCluster(api, {"region": "north"})
    task = asyncio.create_task(found.run())
    await until(found.capacity)
    yield found
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def groups(cluster: KubernetesCluster) -> dict[str, dict[str, Any]]:
    found = cluster.capacity()["nodeGroups"]
    ClusterCapacityStatus.model_validate({**cluster.capacity(), "observedTime": "2026-01-01T00:00:00Z"})
    return {group["name"].rpartition("-")[0]: group for group in found}


async def test_equal_nodes_are_one_group_and_changes_are_told(cluster: KubernetesCluster, api: Session) -> None:
    told: list[int] = []
    cluster.on_capacity_change(lambda: told.append(1))
    for number in range(3):
        await put(api, node(f"gpu-{number}", gpu="NVIDIA-A100-SXM4-40GB", gpus=4))
    await put(api, node("cpu-0"))
    await until(lambda: sum(group["count"] for group in groups(cluster).values()) == 4)
    found = groups(cluster)
    assert found["nvidia-a100-sxm4-40gb"]["gpu"] == {"model": "NVIDIA-A100-SXM4-40GB", "count": 4, "memory": "40960Mi"}
    assert found["nvidia-a100-sxm4-40gb"]["count"] == 3
    assert found["nvidia-a100-sxm4-40gb"]["labels"] == {
        "kubernetes.io/arch": "amd64",
        names.GPU_MEMORY: "40960",
        names.GPU_PRODUCT: "NVIDIA-A100-SXM4-40GB",
    }
    assert found["nodes"]["allocatable"] == {"cpu": "8", "memory": "32Gi", "pods": "110"}
    assert "gpu" not in found["nodes"]
    assert len(told) >= 4
    # A heartbeat is no change.
    before, events = len(told), cluster._nodes.events
    beat = node("cpu-0")
    beat["status"]["conditions"][0]["lastHeartbeatTime"] = "2026-01-01T00:00:00Z"
    await report(api, beat)
    await until(lambda: cluster._nodes.events > events)
    assert len(told) == before


async def test_nodes_that_take_no_pods_offer_nothing(cluster: KubernetesCluster, api: Session) -> None:
    await put(api, node("a"))
    await put(api, node("b", unschedulable=True))
    await put(api, node("c", ready="Unknown"))
    await until(lambda: len(cluster.cluster_status().get("capacity", {})) and groups(cluster).get("nodes"))
    await until(lambda: cluster.cluster_status()["capacity"]["cpu"] == "24")
    assert groups(cluster)["nodes"]["count"] == 1
    assert cluster.cluster_status()["allocatable"]["cpu"] == "8"
    await api.patch(NODES, "b", {"spec": {"unschedulable": None}})
    await until(lambda: groups(cluster)["nodes"]["count"] == 2)
    await api.delete(NODES, "a")
    await until(lambda: groups(cluster)["nodes"]["count"] == 1)


async def test_what_foreign_pods_request_is_used_and_ours_is_not(cluster: KubernetesCluster, api: Session) -> None:
    for name in ("a", "b", "c"):
        await put(api, node(name))
    await put(api, pod("web", "a"))
    await put(api, pod("web-2", "b"))
    await put(api, pod("waiting"))
    await put(api, pod("over", "a", phase="Succeeded"))
    await put(api, pod("task", "c", ours=True))
    used = {"nodes": 2, "resources": {"cpu": "1", "memory": "1Gi", "pods": "1"}}
    await until(lambda: groups(cluster).get("nodes", {}).get("used") == [used])
    await report(api, pod("web", "a", phase="Failed"))
    await until(lambda: groups(cluster)["nodes"]["used"] == [used | {"nodes": 1}])
    await api.delete(PODS, "web-2", "default")
    await until(lambda: "used" not in groups(cluster)["nodes"])


async def test_who_it_is(cluster: KubernetesCluster, api: Session) -> None:
    await until(lambda: cluster.cluster_status().get("clusterClaims"))
    system = await api.get(NAMESPACES, "kube-system")
    status = cluster.cluster_status()
    assert status["version"]["kubernetes"].startswith("v1.")
    assert {"name": "id.k8s.io", "value": system["metadata"]["uid"]} in status["clusterClaims"]
    await asyncio.wait_for(cluster.ready(), 2)
    assert cluster.metrics() == ""
    assert cluster.labels == {"region": "north"}


async def test_the_kind_of_its_records_is_installed_where_it_is_missing(tmp_path: Path) -> None:
    async with serve(tmp_path / "bare") as server, Session(server.url, token=server.token) as session:
        with pytest.raises(NotFoundError):
            await session.list(APPLIED_MANIFEST_WORKS)
        found = KubernetesCluster(session)
        task = asyncio.create_task(found.run())
        await until(found.capacity)
        assert (await session.list(APPLIED_MANIFEST_WORKS)).items == []
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_not_ready_while_nobody_answers() -> None:
    async with Session("http://127.0.0.1:1") as session:
        found = KubernetesCluster(session)
        assert found.capacity() == {}
        assert found.cluster_status() == {}
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(found.ready(), 0.3)


class Kubelet:
    """Answers what the API server would fetch from a kubelet."""

    def __init__(self, api: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        self.logs: dict[str, bytes] = {}
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.following = asyncio.Event()
        monkeypatch.setattr(api, "stream", self.stream)

    async def stream(self, path: str, *, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        self.asked.append((path, query))
        name = path.split("/")[-2]
        if name not in self.logs:
            raise RefusedError(400, {"message": "container is waiting to start"})
        at = 0
        while True:
            while at < len(self.logs[name]):
                yield self.logs[name][at : at + 7]
                at += 7
            at = min(at, len(self.logs[name]))
            if query.get("follow") != "true" or self.following.is_set():
                return
            await asyncio.sleep(0.01)


@pytest.fixture
def kubelet(api: Session, monkeypatch: pytest.MonkeyPatch) -> Kubelet:
    return Kubelet(api, monkeypatch)


def pods_of(cluster: KubernetesCluster, index: int = 0) -> list[Any]:
    return list(cluster._tasks.get(("default", "sum", index), {}).values())


async def read(cluster: KubernetesCluster, index: int = 0, **options: Any) -> tuple[int, bytes, Any, Any]:
    data, start = b"", None
    async for chunk in cluster.read_log("default", "sum", index, **options):
        if chunk.data and start is None:
            start = chunk.offset
        data += chunk.data
        last = chunk
    assert last.final
    assert last.offset == (last.offset if start is None else start) + len(data)
    return start or 0, data, last.exit_code, last.reason


async def test_logs_by_offset_by_lines_and_with_their_end(
    cluster: KubernetesCluster, api: Session, kubelet: Kubelet
) -> None:
    kubelet.logs["task-3"] = b"one\ntwo\nthree\n"
    await put(api, pod("task-3", "a", ours=True, index=3, **state(running={})))
    await until(lambda: any(found.started for found in pods_of(cluster, 3)))
    assert await read(cluster, 3) == (0, b"one\ntwo\nthree\n", None, None)
    assert await read(cluster, 3, offset=6) == (6, b"o\nthree\n", None, None)
    assert await read(cluster, 3, tail_lines=1) == (8, b"three\n", None, None)
    assert kubelet.asked[0] == ("/api/v1/namespaces/default/pods/task-3/log", {"container": "main"})
    ended = state(terminated={"exitCode": 137, "reason": "OOMKilled"})
    await report(api, pod("task-3", "a", ours=True, index=3, phase="Failed", **ended))
    await until(lambda: any(found.ended for found in pods_of(cluster, 3)))
    assert await read(cluster, 3, offset=14) == (0, b"", 137, "OOMKilled")


async def test_following_ends_with_the_pod(cluster: KubernetesCluster, api: Session, kubelet: Kubelet) -> None:
    kubelet.logs["task"] = b"begin\n"
    await put(api, pod("task", "a", ours=True, **state(running={})))
    await until(lambda: any(found.started for found in pods_of(cluster)))
    reading = asyncio.create_task(read(cluster, follow=True))
    await asyncio.sleep(0.05)
    kubelet.logs["task"] += b"more\n"
    await asyncio.sleep(0.05)
    assert not reading.done()
    await report(api, pod("task", "a", ours=True, phase="Succeeded", **state(terminated={"exitCode": 0})))
    kubelet.following.set()
    assert await asyncio.wait_for(reading, 5) == (0, b"begin\nmore\n", 0, None)


async def test_the_newest_pod_that_has_started_is_the_task(
    cluster: KubernetesCluster, api: Session, kubelet: Kubelet
) -> None:
    with pytest.raises(NotFoundError):
        await read(cluster)
    kubelet.logs |= {"old": b"old", "new": b"new"}
    await put(api, pod("new", "a", ours=True, **state(waiting={"reason": "ContainerCreating"})))
    await until(lambda: pods_of(cluster))
    with pytest.raises(NotFoundError):
        await read(cluster)
    await put(api, pod("old", "a", ours=True, phase="Failed", **state(terminated={"exitCode": 1, "reason": "Error"})))
    await until(lambda: any(found.ended for found in pods_of(cluster)))
    assert await read(cluster) == (0, b"old", 1, None)
    del kubelet.logs["old"]
    with pytest.raises(NotFoundError):
        await read(cluster)


# Without an API.


def test_what_a_pod_requests_is_what_the_scheduler_counts() -> None:
    def container(cpu: str, **more: Any) -> dict[str, Any]:
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    spec = {
        "containers": [container("1"), {"resources": {"limits": {"cpu": "500m", names.GPU: 2}}}],
        "initContainers": [container("250m", restartPolicy="Always"), container("3"), container("1")],
        "overhead": {"cpu": "100m"},
    }
    # The step of 3 runs beside the sidecar of 0.25, and that is more than 1 + 0.5 + 0.25.
    assert pod_requests(spec) == amounts({"cpu": "3350m", names.GPU: 2, "pods": 1})
    del spec["initContainers"][1:]  # type: ignore[attr-defined]
    assert pod_requests(spec) == amounts({"cpu": "1850m", names.GPU: 2, "pods": 1})
    assert pod_requests({}) == amounts({"pods": 1})
    assert pod_requests({"containers": [{"resources": {"requests": {"cpu": "lots"}}}]}) == amounts({"pods": 1})


def test_pods_that_hold_nothing_are_not_kept() -> None:
    assert pod_facts(pod("waiting")) is None
    assert pod_facts(pod("over", "a", phase="Failed")) is None
    found = pod_facts(pod("ours", ours=True, index=4))
    assert found is not None
    assert (found.job, found.index, found.requests, found.started) == ("sum", 4, (), False)


def facts(*nodes: dict[str, Any]) -> list[Any]:
    return [node_facts(found) for found in nodes]


def test_labels_that_name_nodes_do_not_split_a_group() -> None:
    alike = facts(*(node(f"n{i}", labels={"vendor/serial": f"s{i}", "pool": "a"}) for i in range(6)))
    (group,) = node_groups(alike, {})
    assert group["labels"] == {"kubernetes.io/arch": "amd64", "pool": "a"}
    zones = facts(*(node(f"n{i}", labels={"topology.kubernetes.io/zone": f"z{i}"}) for i in range(4)))
    assert len(node_groups(zones, {})) == 4


def test_memory_that_differs_a_little_is_one_group_with_the_least() -> None:
    sizes = [32 * GI - 2**20, 32 * GI - 2**22, 32 * GI - 2**21]
    (group,) = node_groups(facts(*(node(f"n{i}", allocatable={"memory": str(s)}) for i, s in enumerate(sizes))), {})
    assert group["allocatable"]["memory"] == "32764Mi"
    assert len(node_groups(facts(node("a"), node("b", allocatable={"memory": "64Gi"})), {})) == 2
    tainted = node("b", taints=[{"key": "gpu", "value": "only", "effect": "NoSchedule"}])
    _, group = sorted(node_groups(facts(node("a"), tainted), {}), key=lambda g: "taints" in g)
    assert group["taints"] == [{"key": "gpu", "value": "only", "effect": "NoSchedule"}]


@pytest.mark.parametrize(
    ("offered", "labels", "gpu"),
    [
        ({names.GPU: "8"}, {}, {"count": 8, "memory": "40960Mi"}),
        # Shared by time: the GPUs are counted, and how many have a slot of each; a GPU may be out of order.
        ({names.GPU: "80"}, {names.GPU_REPLICAS: "10", names.GPU_SHARING: "time-slicing"},
         {"count": 8, "replicas": 10, "memory": "40960Mi"}),
        ({names.GPU_SHARED: "70"}, {names.GPU_REPLICAS: "10", names.GPU_SHARING: "time-slicing"},
         {"count": 7, "replicas": 10, "memory": "40960Mi"}),
        ({names.GPU: "16"}, {names.GPU_REPLICAS: "4", names.GPU_SHARING: "mps"},
         {"count": 4, "replicas": 4, "memory": "10240Mi"}),
        ({names.GPU: "8"}, {names.GPU_REPLICAS: "1", names.GPU_SHARING: "none"}, {"count": 8, "memory": "40960Mi"}),
        ({names.GPU: "8"}, {names.GPU_REPLICAS: "many", names.GPU_MEMORY: "lots"}, {"count": 8}),
        # MIG: resources of their own, beside the GPUs that are not cut.
        ({names.GPU: "4", "nvidia.com/mig-1g.5gb": "28"}, {}, {"count": 4, "memory": "40960Mi"}),
        ({"nvidia.com/mig-1g.5gb": "56"}, {}, None),
    ],
)  # fmt: skip
def test_gpus_as_device_plugins_offer_them(
    offered: dict[str, str], labels: dict[str, str], gpu: dict[str, Any] | None
) -> None:
    product = "NVIDIA-A100" + ("-SHARED" if names.GPU in offered and len(labels) == 2 else "")
    labels = {names.GPU_PRODUCT: product, names.GPU_MEMORY: "40960", **labels}
    (group,) = node_groups(facts(node("a", labels=labels, allocatable=offered)), {})
    assert group.get("gpu") == (None if gpu is None else {"model": "NVIDIA-A100", **gpu})
    assert {name: group["allocatable"][name] for name in offered} == offered


def test_nodes_are_named_in_the_order_in_which_they_are_used() -> None:
    nodes = facts(*(node(f"n{i}") for i in range(4)))
    (group,) = node_groups(nodes, {"n3": amounts({"cpu": 1}), "n1": amounts({"cpu": 2}), "n0": amounts({"cpu": 1})})
    assert group["nodes"] == ["n0", "n3", "n1", "n2"]
    assert [entry["nodes"] for entry in group["used"]] == [2, 1]
    many = facts(*(node(f"{i:04}" + "x" * 240) for i in range(600)))
    assert all("nodes" not in found for found in node_groups(many, {}))


def test_a_negative_amount_hides_nobody() -> None:
    (group,) = node_groups(facts(node("a", allocatable={"cpu": "-4", "example.com/x": "lots"})), {})
    assert set(group["allocatable"]) == {"memory", "pods"}


@given(st.lists(st.tuples(st.sampled_from(["", "T4", "A100"]), st.integers(0, 3)), max_size=12), st.randoms())
def test_grouping_is_the_same_in_any_order_and_counts_everyone(
    machines: list[tuple[str, int]], shuffle: random.Random
) -> None:
    nodes = facts(*(node(f"n{i}", gpu=gpu, gpus=2) for i, (gpu, _) in enumerate(machines)))
    used = {f"n{i}": amounts({"cpu": cores}) for i, (_, cores) in enumerate(machines)}
    found = node_groups(nodes, used)
    shuffled = list(nodes)
    shuffle.shuffle(shuffled)
    assert node_groups(shuffled, used) == found
    assert sum(group["count"] for group in found) == len(machines)
    busy = sum(entry["nodes"] for group in found for entry in group.get("used", ()))
    assert busy == sum(1 for _, cores in machines if cores)
    assert len({group["name"] for group in found}) == len(found) == len({gpu for gpu, _ in machines})


@given(st.lists(st.sampled_from([b"a", b"bc", b"\n"])).map(b"".join), st.integers(1, 5), st.integers(0, 4), st.data())
async def test_offsets_in_a_stream(data: bytes, size: int, lines: int, draw: Any) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(data), size):
            yield data[at : at + size]

    start = await tail_offset(chunks(), lines)
    assert data[start:] == (b"".join(data.splitlines(keepends=True)[-lines:]) if lines else b"")
    offset = draw.draw(st.integers(0, len(data) + 2))
    found = [chunk async for chunk in from_offset(chunks(), offset)]
    assert b"".join(chunk.data for chunk in found) == data[offset:]
    at = offset
    for chunk in found:
        assert chunk.offset == at
        at += len(chunk.data)
