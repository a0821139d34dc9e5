"""Which nodes may run a task: affinity, names, GPUs that are shared or cut in pieces; and the naive way to count."""

from __future__ import annotations

from typing import Any

import pytest
from fleet_samples import GI, cluster, group, report, shape
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api import names
from hub.api.nodeaffinity import NodeRequirement, term_holds
from hub.api.reasons import Reason
from hub.fleet.changes import CapacitySeen, Charge, ClusterSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape, Toleration, task_shape

R = NodeRequirement


def one(*groups: dict[str, Any], **status: Any) -> Fleet:
    return Fleet.empty().apply([ClusterSeen(cluster("c")), CapacitySeen(report("c", *groups, **status))])


def on_name(operator: str, name: str) -> NodeRequirement:
    return R("metadata.name", operator, (name,), field=True)


ZONES = [group("a", 2, labels={"zone": "a", "gen": "7"}, nodes=["a-0", "a-1"]), group("b", 1, labels={"zone": "b"})]


@pytest.mark.parametrize(
    ("terms", "count"),
    [
        (((R("zone", "In", ("a", "x")),),), 16),
        (((R("zone", "NotIn", ("a",)),),), 8),
        (((R("gen", "Exists"),),), 16),
        (((R("gen", "DoesNotExist"),),), 8),
        (((R("gen", "Gt", ("6",)),),), 16),
        (((R("gen", "Lt", ("7",)),),), 0),
        # Lines of a term all hold; terms are alternatives.
        (((R("gen", "Exists"), R("zone", "In", ("b",))),), 0),
        (((R("gen", "Lt", ("7",)),), (R("zone", "In", ("b",)),)), 8),
        (((),), 0),
        # Names, where they are reported: all that is known of the others is that they have one.
        (((on_name("In", "a-1"),),), 8),
        (((on_name("NotIn", "a-1"),),), 16),
        (((on_name("In", "a-1"), R("zone", "In", ("b",))),), 0),
        (((on_name("In", "a-1"),), (R("zone", "In", ("b",)),)), 16),
        (((on_name("In", "b-0"),),), 0),
        (((R("kubernetes.io/hostname", "In", ("a-0", "a-1")),),), 16),
        (((R("kubernetes.io/hostname", "NotIn", ("a-0",)),),), 16),
    ],
)
def test_required_affinity(terms: tuple[tuple[NodeRequirement, ...], ...], count: int) -> None:
    fleet, want = one(*ZONES), shape(1000, node_affinity=terms)
    assert fleet.fit(want).tolist() == fleet.capacity(want).tolist() == [count]
    verdict = fleet.explain_fit("c", want)
    assert (verdict.fit, sum(g.fit for g in verdict.groups)) == (count, count)


def test_a_task_is_charged_to_the_node_it_names() -> None:
    want = shape(6000, node_affinity=((on_name("In", "a-1"),),))
    fleet = one(*ZONES).apply([Charge("k", "c", want, 1)])
    assert fleet.held("c")["k"].nodes.tolist() == [1]
    assert fleet.fit(want).tolist() == [0]
    assert "a (2 nodes): at most 2 of 8 cpu free on a node" in fleet.explain_fit("c", want).message


@pytest.mark.parametrize(
    ("want", "words"),
    [
        (shape(1, node_affinity=((R("zone", "In", ("x", "y")),), (R("gen", "Gt", ("9",)),))),
         "a (2 nodes): its nodes do not match required affinity zone In (x, y) (zone is a) or gen Gt 9 (gen is 7)"),
        (shape(1, node_affinity=((),)), "required affinity a term without expressions"),
        (shape(1, node_affinity=((on_name("In", "c-9"),),)), "none of its nodes is metadata.name In c-9"),
        (shape(1, node_affinity=((on_name("In", "c-9"),),)), "b (1 node): it does not report the names of its nodes"),
        (shape(1, node_selector=(("kubernetes.io/hostname", "c-9"),)), "none of its nodes is c-9"),
        (shape(1, node_selector=(("zone", "c"),)), "its nodes do not have label zone=c (zone is a)"),
        (shape(1, other={"nvidia.com/mig-1g.5gb": 1}), "at most 0 nvidia.com/mig-1g.5gb on a node, 1 needed"),
    ],
)  # fmt: skip
def test_why_not_these_nodes(want: TaskShape, words: str) -> None:
    verdict = one(*ZONES).explain_fit("c", want)
    assert verdict.reason is Reason.SHAPE_NEVER_FITS
    assert words in verdict.message


# GPUs as device plugins tell of them.

MIXED = group("mig", cpu=64, other={names.GPU: "4", "nvidia.com/mig-1g.5gb": "7", "nvidia.com/mig-3g.20gb": "2"},
              labels={names.GPU_PRODUCT: "NVIDIA-A100-SXM4-40GB", names.GPU_MEMORY: "40960"})  # fmt: skip
SINGLE = group("mig", cpu=64, other={names.GPU: "14"},
               labels={names.GPU_PRODUCT: "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", names.GPU_MEMORY: "4864"})  # fmt: skip
WHOLE = group("whole", cpu=64, gpus=2, model="T4", gpu_memory="16Gi", other={names.GPU: "2"})
SLOTS = {**group("slots", cpu=64, other={names.GPU: "40"}),
         "gpu": {"model": "T4", "memory": "16Gi", "count": 4, "replicas": 10}}  # fmt: skip
RENAMED = {**group("shared", cpu=64, other={names.GPU_SHARED: "40"}),
           "gpu": {"model": "T4", "memory": "16Gi", "count": 4, "replicas": 10}}  # fmt: skip
MILLI = group("milli", cpu=64, other={names.GPU_MILLI: "3000"}, labels={names.GPU_PRODUCT: "T4"})


@pytest.mark.parametrize(
    ("groups", "want", "count"),
    [
        ([MIXED], shape(other={"nvidia.com/mig-1g.5gb": 1}), 7),
        ([MIXED], shape(other={"nvidia.com/mig-1g.5gb": 2, "nvidia.com/mig-3g.20gb": 1}), 2),
        ([MIXED], shape(other={"nvidia.com/mig-7g.40gb": 1}), 0),
        ([MIXED], shape(gpus=1), 4),
        ([SINGLE], shape(gpus=1), 14),
        ([SINGLE], shape(gpus=1, gpu_models=("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb",)), 14),
        ([SINGLE], shape(gpus=1, gpu_models=("NVIDIA-A100-SXM4-40GB",)), 0),
        ([SINGLE], shape(gpus=1, gpu_min_memory=5 * GI), 0),
        # A whole GPU is no slot of one; who asks by the resource's name gets one slot, never two.
        ([SLOTS], shape(gpus=1), 0),
        ([SLOTS, WHOLE], shape(gpus=1), 2),
        ([SLOTS], shape(gpus=1, gpu_slot=True), 40),
        ([SLOTS, WHOLE], shape(gpus=1, gpu_slot=True), 42),
        ([SLOTS], shape(gpus=2), 0),
        ([RENAMED], shape(gpus=1, gpu_slot=True), 0),
        ([RENAMED], shape(other={names.GPU_SHARED: 1}), 40),
        # A share is one slot that is at least as large.
        ([SLOTS], shape(gpu_share=100), 40),
        ([SLOTS], shape(gpu_share=101), 0),
        ([SLOTS, WHOLE], shape(gpu_share=100), 40),
        ([RENAMED, WHOLE], shape(gpu_share=50, gpu_models=("T4",)), 40),
        ([RENAMED], shape(gpu_share=50, gpu_models=("A100",)), 0),
        ([RENAMED], shape(gpu_share=50, gpu_min_memory=17 * GI), 0),
        ([RENAMED, SLOTS], shape(gpu_share=50), 40),
        # Kubernetes does not divide GPUs; a plugin that offers thousandths does.
        ([WHOLE], shape(gpu_share=500), 0),
        ([MILLI], shape(gpu_share=700), 4),
    ],
)
def test_gpus_of_a_cluster(groups: list[dict[str, Any]], want: TaskShape, count: int) -> None:
    fleet = one(*groups, runtime="kubernetes")
    assert not fleet.problems
    assert fleet.fit(want).tolist() == fleet.capacity(want).tolist() == [count]
    verdict = fleet.explain_fit("c", want)
    assert (verdict.fit, sum(g.fit for g in verdict.groups)) == (count, count)
    assert bool(verdict.message) == (count == 0)
    if 0 < count < 100:
        # All of them can be charged and given back, and not one more.
        full = fleet.apply([Charge("k", "c", want, count + 1)])
        assert full.held("c")["k"].waiting == 1
        assert full.fit(want).tolist() == [0]
        assert full.apply([Charge("k", "c", want, 1)]).fit(want).tolist() == [count - 1]


@pytest.mark.parametrize(
    ("groups", "want", "words"),
    [
        ([SLOTS], shape(gpus=1), "its GPUs are shared, 10 tasks each, and whole ones are needed"),
        ([SLOTS], shape(gpu_share=500), "a task gets 1/10 of a GPU there, 0.5 needed"),
        ([WHOLE], shape(gpu_share=500), "its GPUs are not shared"),
        ([MILLI], shape(gpu_share=300, other={"cpu": 100_000}), "at most 64 cpu on a node, 100 needed"),
        ([group("plain"), RENAMED], shape(gpu_share=100, other={"cpu": 100_000}),
         "plain (1 node): at most 8 cpu on a node, 100 needed; at most 0 nvidia.com/gpu.shared on a node, 1 needed"),
        ([group("plain"), SLOTS], shape(gpu_share=100, other={"cpu": 100_000}),
         "at most 0 slots of a GPU on a node, 1 needed"),
    ],
)  # fmt: skip
def test_why_not_these_gpus(groups: list[dict[str, Any]], want: TaskShape, words: str) -> None:
    verdict = one(*groups, runtime="kubernetes").explain_fit("c", want)
    assert verdict.reason is Reason.SHAPE_NEVER_FITS
    assert words in verdict.message


def test_gpus_and_their_slots_are_two_counts() -> None:
    for entry, want in ((SLOTS, shape(gpu_share=100)), (RENAMED, shape(gpu_share=100))):
        fleet = one(entry, WHOLE, runtime="kubernetes")
        assert fleet.allocatable(names.GPU).tolist() == [6]
        busy = fleet.apply([Charge("k", "c", want, 10)])
        assert busy.free(names.GPU).tolist() == busy.gpus_free("T4").tolist() == [5]


@pytest.mark.parametrize(
    ("gpu", "requests", "gpus", "share", "slot"),
    [
        (None, {names.GPU: 1}, 1, 0, True),
        (None, {names.GPU: 2}, 2, 0, False),
        ({"count": 1}, {}, 1, 0, False),
        ({"share": "250m"}, {}, 0, 250, False),
        (None, {names.GPU_MILLI: 250}, 0, 250, False),
    ],
)
def test_who_asks_for_the_resource_takes_a_slot(
    gpu: dict[str, Any] | None, requests: dict[str, int], gpus: int, share: int, slot: bool
) -> None:
    made = task_shape({"spec": {"containers": [{"name": "m", "resources": {"requests": requests}}]}}, gpu)
    assert (made.gpus, made.gpu_share, made.gpu_slot) == (gpus, share, slot)


def test_a_pod_that_names_its_node_fits_there_only() -> None:
    want = task_shape({"spec": {"nodeName": "a-1", "containers": [{"name": "m"}]}})
    fleet = one(*(group("a", 3, nodes=["a-0", "a-1", "a-2"], other={"pods": "5"}),))
    assert fleet.fit(want).tolist() == [5]


# The columns equal node after node, one thing after another.

KEYS, VALUES = ("zone", "gen"), ("a", "b", "3", "-12")
EXTENDED = ("example.com/fpga", "nvidia.com/mig-1g.5gb", "ephemeral-storage", "pods")
LINES = st.one_of(
    st.builds(R, st.sampled_from(KEYS), st.sampled_from(["In", "NotIn"]),
              st.lists(st.sampled_from(VALUES), min_size=1, max_size=2, unique=True).map(tuple)),
    st.builds(R, st.sampled_from(KEYS), st.sampled_from(["Exists", "DoesNotExist"])),
    st.builds(R, st.sampled_from(KEYS), st.sampled_from(["Gt", "Lt"]), st.sampled_from([("-20",), ("2",), ("3",)])),
    st.builds(on_name, st.sampled_from(["In", "NotIn"]), st.sampled_from(["g0-0", "g1-1", "nowhere"])),
)  # fmt: skip
WANTED = st.builds(
    lambda cpu, gpu, selector, terms, tolerates, models, memory, other, slot: shape(
        cpu,
        gpus=gpu if isinstance(gpu, int) else 0,
        gpu_share=0 if isinstance(gpu, int) else int(gpu[:-1]),
        node_selector=tuple(sorted(selector.items())),
        node_affinity=terms,
        tolerations=(Toleration("dedicated", "Exists"),) if tolerates else (),
        gpu_models=models,
        gpu_min_memory=memory,
        other=other,
        gpu_slot=slot and gpu == 1,
    ),
    st.sampled_from([0, 500, 3000]),
    st.sampled_from([0, 0, 1, 2, "100m", "500m"]),
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=1),
    st.lists(st.lists(LINES, max_size=2).map(tuple), max_size=2).map(tuple),
    st.booleans(),
    st.sampled_from([(), (), ("A100",), ("A100", "T4")]),
    st.sampled_from([0, 0, 20 * GI]),
    st.dictionaries(st.sampled_from(EXTENDED), st.integers(0, 3), max_size=2),
    st.booleans(),
)
SHARING = st.sampled_from(["no", "no", "slots", "renamed"])
NODES = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 3),
        st.sampled_from(["A100", "T4"]),
        st.sampled_from(["16Gi", "40Gi"]),
        st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES)),
        st.booleans(),
        st.dictionaries(st.sampled_from(EXTENDED), st.integers(0, 5)),
        SHARING,
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


def described(number: int, drawn: Any, *, kubernetes: bool) -> dict[str, Any]:
    count, gpus, model, memory, labels, tainted, other, sharing, named = drawn
    entry = group(f"g{number}", count, cpu=8, labels=labels, other={k: str(v) for k, v in other.items()})
    if named:
        entry["nodes"] = [f"g{number}-{i}" for i in range(count)]
    if tainted:
        entry["taints"] = [{"key": "dedicated", "effect": "NoSchedule"}]
    if gpus:
        entry["gpu"] = {"model": model, "memory": memory, "count": gpus}
        if kubernetes and sharing != "no":
            entry["gpu"]["replicas"] = 10
            entry["allocatable"][names.GPU if sharing == "slots" else names.GPU_SHARED] = str(gpus * 10)
    return entry


def naive(groups: list[dict[str, Any]], want: TaskShape, *, kubernetes: bool) -> int:
    """Node after node, as a person would go about it with the report in hand."""
    renamed = kubernetes and any(names.GPU_SHARED in entry["allocatable"] for entry in groups)
    slotted = kubernetes and any(names.GPU in entry["allocatable"] for entry in groups)
    total = 0
    for entry in groups:
        gpu = entry.get("gpu") or {"count": 0, "model": None, "memory": "0"}
        labels = dict(entry["labels"])
        offered = {k: v if k in ("cpu", "memory") else int(v) for k, v in entry["allocatable"].items()}
        offered |= {"cpu": 8000, "memory": 64 * GI}
        for position in range(entry["count"]):
            name = entry["nodes"][position] if "nodes" in entry else None
            if "taints" in entry and not want.tolerations:
                continue
            if any(labels.get(key) != value for key, value in want.node_selector):
                continue
            if want.node_affinity and not any(term_holds(term, labels, name) for term in want.node_affinity):
                continue
            if want.gpu_milli:
                memory = int(gpu["memory"].removesuffix("Gi")) * GI
                if want.gpu_models and gpu["model"] not in want.gpu_models:
                    continue
                if memory < want.gpu_min_memory:
                    continue
            limits = [1_000_000]
            for resource, amount in want.requests:
                if resource != names.GPU:
                    limits.append(offered.get(resource, 1 << 60 if resource == "pods" else 0) // amount)
            if "pods" in offered and not want.request("pods"):
                limits.append(offered["pods"])
            replicas = gpu.get("replicas", 1)
            if want.gpu_share and not kubernetes:
                limits.append(gpu["count"] * (1000 // want.gpu_share))
            elif want.gpu_share:
                resource = names.GPU_SHARED if renamed else names.GPU if slotted else ""
                large = want.gpu_share * replicas <= 1000
                limits.append(offered.get(resource, 0) if replicas > 1 and large else 0)
            elif want.gpus:
                if replicas == 1:
                    limits.append(gpu["count"] // want.gpus)
                else:
                    limits.append(offered.get(names.GPU, 0) if want.gpu_slot else 0)
            total += min(limits)
    return total


@settings(max_examples=300, deadline=None)
@given(NODES, WANTED, st.booleans())
def test_columns_equal_node_after_node(drawn: list[Any], want: TaskShape, kubernetes: bool) -> None:
    groups = [described(number, entry, kubernetes=kubernetes) for number, entry in enumerate(drawn)]
    fleet = one(*groups, runtime="kubernetes" if kubernetes else "simulated")
    assert not fleet.problems
    expected = naive(groups, want, kubernetes=kubernetes)
    assert fleet.fit(want).tolist() == fleet.capacity(want).tolist() == [expected]
    verdict = fleet.explain_fit("c", want)
    assert sum(g.fit for g in verdict.groups) == expected
    assert (verdict.reason is None) == (expected > 0)
    assert bool(verdict.message) == (expected == 0)
