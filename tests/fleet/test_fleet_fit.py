"""How many tasks fit, by case; and that the columns equal one task after another placed by hand."""

from __future__ import annotations

from typing import Any

import pytest
from fleet_samples import GI, GROUPS, SHAPES, SlowNode, SlowSite, cluster, free_of, group, report, shape
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api import names
from hub.api.reasons import Reason
from hub.fleet.changes import CapacitySeen, Charge, ClusterSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape, Toleration

TAINT = {"key": "dedicated", "value": "ml", "effect": "NoSchedule"}


def one(*groups: dict[str, Any], **status: Any) -> Fleet:
    return Fleet.empty().apply([ClusterSeen(cluster("c")), CapacitySeen(report("c", *groups, **status))])


@pytest.mark.parametrize(
    ("groups", "want", "count"),
    [
        ([group(count=3, cpu=8)], shape(3000), 6),
        ([group(cpu="1500m")], shape(500), 3),
        # Totals would say 5; no node has room for two.
        ([group(count=2, cpu=5)], shape(4000), 2),
        ([group(cpu=8, memory="4Gi")], shape(1000, 3 * GI), 1),
        # Asked for, but no node says that it has any.
        ([group(cpu=8)], shape(1000, other={"ephemeral-storage": 1}), 0),
        ([group("a", cpu=8, other={"ephemeral-storage": "10Gi"}), group("b", cpu=8)],
         shape(1000, other={"ephemeral-storage": GI}), 8),
        # Pods count one a task where the node reports them.
        ([group(cpu=8, other={"pods": "3"})], shape(1000), 3),
        ([group("a", cpu=8, other={"pods": "3"}), group("b", cpu=8)], shape(1000), 11),
        # GPUs: whole ones of one node.
        ([group(count=2, gpus=3, cpu=64)], shape(1000, gpus=2), 2),
        ([group(cpu=64)], shape(1000, gpus=1), 0),
        # Shares: several on one GPU, none across two.
        ([group(gpus=2, cpu=64)], shape(1000, gpu_share=300), 6),
        ([group(gpus=2, cpu=64)], shape(1000, gpu_share=600), 2),
        ([group(gpus=4, cpu=64)], shape(1000, gpus=1, gpu_models=("H100",)), 0),
        ([group(gpus=4, cpu=64)], shape(1000, gpus=1, gpu_models=("A100", "H100")), 4),
        ([group(gpus=4, cpu=64, gpu_memory="40Gi")], shape(1000, gpus=1, gpu_min_memory=80 * GI), 0),
        ([group(gpus=4, cpu=64, gpu_memory="80Gi")], shape(1000, gpus=1, gpu_min_memory=80 * GI), 4),
        # A GPU that is declared but not allocatable is out of order.
        ([group(gpus=4, cpu=64, other={names.GPU: "3"})], shape(gpus=1), 3),
        ([group(cpu=64, other={names.GPU: "2"})], shape(gpus=1), 2),
        # Models and memory by the driver's labels.
        ([group(cpu=64, other={names.GPU: "2"}, labels={names.GPU_PRODUCT: "NVIDIA-A100", names.GPU_MEMORY: "81920"})],
         shape(gpus=1, gpu_models=("NVIDIA-A100",), gpu_min_memory=80 * GI), 2),
        # Labels and taints.
        ([group(labels={"disk": "nvme"}), group("other")], shape(1000, node_selector=(("disk", "nvme"),)), 8),
        ([group(gpus=1)], shape(1000, node_selector=((names.GPU_PRODUCT, "A100"),)), 8),
        ([group(gpus=1)], shape(1000, node_selector=((names.GPU_PRODUCT, "T4"),)), 0),
        ([group(taints=[TAINT])], shape(1000), 0),
        ([group(taints=[TAINT])], shape(1000, tolerations=(Toleration("dedicated", "Equal", "ml"),)), 8),
        ([group(taints=[{**TAINT, "effect": "PreferNoSchedule"}])], shape(1000), 8),
        # What others use is gone from the nodes it is on.
        ([group(count=3, used=[{"nodes": 2, "resources": {"cpu": "6"}}])], shape(4000), 2),
        ([group(gpus=2, used=[{"nodes": 1, "resources": {names.GPU: "1"}}])], shape(gpus=1), 1),
        ([group(gpus=2, used=[{"nodes": 1, "resources": {names.GPU: "500m"}}])], shape(gpus=1), 1),
        ([group(gpus=2, used=[{"nodes": 1, "resources": {names.GPU_MILLI: "1500"}}])], shape(gpu_share=500), 1),
        ([group(used=[{"nodes": 1, "resources": {"cpu": "20"}}])], shape(1000), 0),
        # Nothing asked, nothing reported, nothing there.
        ([group()], shape(), 1_000_000),
        ([group(count=0)], shape(), 0),
        ([], shape(1), 0),
    ],
)  # fmt: skip
def test_fit(groups: list[dict[str, Any]], want: TaskShape, count: int) -> None:
    fleet = one(*groups)
    assert fleet.fit(want).tolist() == [count]
    assert fleet.capacity(want).tolist() == [count]
    verdict = fleet.explain_fit("c", want)
    assert (verdict.fit, sum(g.fit for g in verdict.groups)) == (count, count)
    assert (verdict.reason is None) == (count > 0)
    # Every fact that the sentence needs is there.
    assert bool(verdict.message) == (count == 0)


@pytest.mark.parametrize(
    ("images", "wanted", "runs"),
    [
        ([], ("anything:1",), True),
        (["python:3.12"], ("python:3.12",), True),
        (["python:*"], ("python:3.12-slim",), True),
        (["*/team/*"], ("registry.local/team/trainer",), True),
        (["python:*"], ("python:3", "redis"), False),
        # Only * is special.
        (["a[bc]?"], ("ab1",), False),
        (["a[bc]?"], ("a[bc]?",), True),
    ],
)
def test_images_are_patterns(images: list[str], wanted: tuple[str, ...], runs: bool) -> None:
    fleet = one(group(), images=images)
    want = shape(1000, images=wanted)
    assert bool(fleet.fit(want)[0]) is runs
    if not runs:
        verdict = fleet.explain_fit("c", want)
        assert verdict.reason is Reason.IMAGE_NOT_AVAILABLE
        assert wanted[-1] in verdict.message


def test_nothing_fits_where_nothing_is_reported() -> None:
    fleet = Fleet.empty().apply([ClusterSeen(cluster("c"))])
    assert fleet.fit(shape(1)).tolist() == [0]
    assert fleet.explain_fit("c", shape(1)).reason is Reason.CAPACITY_UNKNOWN
    assert not fleet.reported[0]


@pytest.mark.parametrize(
    ("groups", "want", "reason", "words"),
    [
        ([group(gpus=2, gpu_memory="40Gi")], shape(gpus=1, gpu_models=("H100",)),
         Reason.GPU_MODEL_ABSENT, "has A100 with 40Gi, not H100"),
        ([group(gpus=2, gpu_memory="40Gi")], shape(gpus=1, gpu_models=("A100",), gpu_min_memory=80 * GI),
         Reason.GPU_MODEL_ABSENT, "has A100 with 40Gi, not A100 with at least 80Gi"),
        ([group()], shape(gpus=1, gpu_models=("A100",)), Reason.GPU_MODEL_ABSENT, "has no GPU, not A100"),
        ([group()], shape(gpu_share=500), Reason.SHAPE_NEVER_FITS, "no node has a GPU"),
        ([group("small", count=2, cpu=4)], shape(6000), Reason.SHAPE_NEVER_FITS,
         "no node can run it: small (2 nodes): at most 4 cpu on a node, 6 needed"),
        ([group(gpus=2)], shape(gpus=4), Reason.SHAPE_NEVER_FITS, "at most 2 GPUs on a node, 4 needed"),
        ([group(memory="16Gi")], shape(0, 20 * GI), Reason.SHAPE_NEVER_FITS, "at most 16Gi memory on a node, 20Gi"),
        ([group(taints=[TAINT])], shape(1), Reason.SHAPE_NEVER_FITS, "its nodes have taint dedicated=ml:NoSchedule"),
        ([group()], shape(1, node_selector=(("disk", "ssd"),)), Reason.SHAPE_NEVER_FITS, "label disk=ssd"),
        ([group("a", cpu=8, memory="1Gi"), group("b", cpu=1, memory="64Gi")], shape(4000, 8 * GI),
         Reason.SHAPE_NEVER_FITS, "a (1 node): at most 1Gi memory on a node, 8Gi needed; b (1 node): at most 1 cpu"),
        ([], shape(1), Reason.SHAPE_NEVER_FITS, "it has no nodes"),
    ],
)  # fmt: skip
def test_why_never(groups: list[dict[str, Any]], want: TaskShape, reason: Reason, words: str) -> None:
    verdict = one(*groups).explain_fit("c", want)
    assert verdict.reason is reason
    assert words in verdict.message


def test_why_not_now() -> None:
    fleet = one(group("a", count=2, gpus=2, cpu=8)).apply([Charge("k", "c", shape(6000, gpus=1), 2)])
    verdict = fleet.explain_fit("c", shape(4000, gpus=1))
    assert (verdict.reason, verdict.fit, verdict.capacity) == (Reason.NO_FREE_SLOT, 0, 4)
    assert verdict.message == "full for this shape: a (2 nodes): at most 2 of 8 cpu free on a node, 4 needed"
    full = fleet.apply([Charge("k", "c", shape(2000, gpus=1), 5)]).explain_fit("c", shape(gpus=1))
    assert "at most 0 of 2 GPUs free on a node, 1 needed" in full.message
    assert "; still waiting here for room: 1 task" in full.message
    shares = one(group(gpus=1)).apply([Charge("k", "c", shape(gpu_share=700), 1)])
    assert "at most 0.3 of a GPU free on a node, 0.5 needed" in shares.explain_fit("c", shape(gpu_share=500)).message


def test_enough_of_everything_but_not_together() -> None:
    fleet = one(group(count=2, cpu=8, memory="8Gi")).apply(
        [Charge("a", "c", shape(7000), 1), Charge("b", "c", shape(1, 7 * GI), 1)]
    )
    # The second went where CPU is scarcest, so its node is the same; fill the other node's memory too.
    fleet = fleet.apply([Charge("d", "c", shape(2000, 7 * GI), 1), Charge("b", "c", shape(1), 1)])
    assert fleet.fit(shape(2000, 2 * GI)).tolist() == [0]
    assert "not on the same node" in fleet.explain_fit("c", shape(2000, 2 * GI)).message


@settings(max_examples=150, deadline=None)
@given(GROUPS, st.lists(SHAPES, min_size=1, max_size=6), SHAPES, st.data())
def test_columns_equal_one_task_after_another(
    groups: list[tuple[int, int, int, int]], charges: list[TaskShape], want: TaskShape, data: st.DataObject
) -> None:
    fleet = one(*(group(f"g{i}", n, gpus, cpu=cpu, memory=f"{mem}Gi") for i, (n, cpu, mem, gpus) in enumerate(groups)))
    width = max((gpus for n, _, _, gpus in groups if n), default=0)
    slow = SlowSite(
        [SlowNode(cpu * 1000, mem * GI, [1000] * gpus + [0] * (width - gpus))
         for n, cpu, mem, gpus in groups for _ in range(n)]
    )  # fmt: skip
    for number, charge in enumerate(charges):
        count = data.draw(st.integers(1, 5))
        fleet = fleet.apply([Charge(f"k{number}", "c", charge, count)])
        placed = sum(slow.place(charge) for _ in range(count))
        assert fleet.held("c")[f"k{number}"].waiting == count - placed
    assert free_of(fleet, "c") == [(n.cpu, n.memory, n.gpus) for n in slow.nodes]
    # What it says fits can be placed task by task, and not one more.
    fit = int(fleet.fit(want)[0])
    steps = min(fit, 12)
    for step in range(steps):
        fleet = fleet.apply([Charge(f"w{step}", "c", want, 1)])
        assert slow.place(want)
        assert int(fleet.fit(want)[0]) == fit - step - 1 or fit >= 1_000_000
    if fit == steps:
        assert not slow.place(want)
    assert fleet.held("c").keys() >= {f"w{step}" for step in range(steps)}
    assert all(not fleet.held("c")[f"w{step}"].waiting for step in range(steps))


def test_a_task_goes_where_fewest_gpus_are_free() -> None:
    fleet = one(group("a-gpu", gpus=4, cpu=64), group("b-half", gpus=2, cpu=64), group("c-plain", cpu=64))
    small = fleet.apply([Charge("cpu", "c", shape(1000), 1)])
    assert [cpu for cpu, _, _ in free_of(small, "c")] == [64000, 64000, 63000]
    one_gpu = fleet.apply([Charge("gpu", "c", shape(1000, gpus=1), 1)])
    assert [gpus[:2] for _, _, gpus in free_of(one_gpu, "c")] == [[1000, 1000], [0, 1000], [0, 0]]
    assert free_of(one_gpu.apply([Charge("gpu", "c", shape(1000, gpus=1), 3)]), "c")[0][2] == [0, 1000, 1000, 1000]


def test_a_share_goes_to_the_fullest_gpu_with_room() -> None:
    fleet = one(group(gpus=3, cpu=64)).apply([Charge("a", "c", shape(gpu_share=600), 2)])
    fleet = fleet.apply([Charge("b", "c", shape(gpu_share=300), 1), Charge("d", "c", shape(gpu_share=200), 1)])
    assert free_of(fleet, "c")[0][2] == [100, 200, 1000]
    assert fleet.fit(shape(gpus=1)).tolist() == [1]
