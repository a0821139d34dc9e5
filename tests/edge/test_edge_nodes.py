"""Who gets which node and GPU: laws over random demands, and the hub's order."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.edge.description import Description
from agent.edge.images import Images
from agent.edge.nodes import GROUP_LABEL, WHOLE, Need, Nodes, Place
from agent.edge.podplan import plan_pod
from agent.edge.selection import NodeRule, node_rule
from agent.edge.sitefile import Gpus, NodeGroup, SiteFile, Taint, parse_site
from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.fleet.changes import CapacitySeen, Charge, ClusterSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import task_shape

groups = st.lists(
    st.builds(
        NodeGroup,
        name=st.sampled_from(["a", "b", "c"]),
        count=st.integers(0, 3),
        cpu=st.integers(0, 8).map(lambda n: n * 1000),
        memory=st.integers(0, 8),
        gpus=st.none() | st.builds(Gpus, st.sampled_from(["A100", "L4"]), st.integers(1, 4)),
    ),
    max_size=3,
    unique_by=lambda group: group.name,
)
needs = st.builds(
    lambda cpu, memory, gpu: Need(cpu * 500, memory, gpu if gpu < 4 else 0, (gpu - 3) * 250 if gpu > 3 else 0),
    st.integers(0, 8),
    st.integers(0, 4),
    st.integers(0, 6),
)


@settings(max_examples=200, deadline=None)
@given(groups, st.lists(st.tuples(needs, st.booleans()), max_size=40))
def test_a_gpu_is_never_given_twice(made: list[NodeGroup], steps: list[tuple[Need, bool]]) -> None:
    nodes = Nodes(made)
    before = copy.deepcopy([(n.name, n.cpu, n.memory, n.gpus) for n in nodes])
    held: list[tuple[Need, Place]] = []
    for need, release in steps:
        if release and held:
            nodes.give_back(*held.pop(0))
        place = nodes.choose(need)
        if place is None:
            assert not any(node.fits(need) for node in nodes)
            continue
        assert len(set(place.gpus)) == len(place.gpus) == (1 if need.gpu_share else need.gpus)
        nodes.take(need, place)
        held.append((need, place))
        taken: Counter[tuple[str, int]] = Counter()
        whole: set[tuple[str, int]] = set()
        for other, where in held:
            for gpu in where.gpus:
                taken[where.node, gpu] += other.gpu_share or WHOLE
                if not other.gpu_share:
                    whole.add((where.node, gpu))
        assert all(amount <= WHOLE for amount in taken.values())
        assert all(taken[gpu] == WHOLE for gpu in whole)
        for node in nodes:
            assert node.cpu >= 0
            assert node.memory >= 0
            assert [WHOLE - taken[node.name, gpu] for gpu in range(len(node.gpus))] == node.gpus
    for entry in held:
        nodes.give_back(*entry)
    assert [(n.name, n.cpu, n.memory, n.gpus) for n in nodes] == before


@settings(max_examples=60, deadline=None)
@given(groups, st.lists(needs, max_size=12), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1)), max_size=3))
def test_the_hub_counts_as_the_site_does(
    made: list[NodeGroup], wanted: list[Need], busy: list[tuple[int, int]]
) -> None:
    """After any demands the hub, which saw the site's report and charged each task, has the same free room."""
    nodes = Nodes(made)
    for cpu, gpus in busy:
        need = Need(cpu=cpu * 1000, gpus=gpus)
        if (place := nodes.choose(need)) is not None:
            nodes.take(need, place, foreign=True)
    status = Description(SiteFile("x", groups=tuple(made)), nodes, Images({})).capacity()
    cluster = {"metadata": {"name": "x"}, "spec": {"hubAcceptsClient": True}}
    fleet = Fleet.empty().apply(
        [ClusterSeen(cluster), CapacitySeen({"metadata": {"name": "x", "namespace": "x"}, "status": status})]
    )
    assert not fleet.problems
    for number, need in enumerate(wanted):
        shape = task_shape(_template(need), _gpu(need))
        place = nodes.choose(need)
        assert (int(fleet.fit(shape)[0]) > 0) == (place is not None)
        if place is not None:
            nodes.take(need, place)
            fleet = fleet.apply([Charge(f"w{number}", "x", shape, 1)])


def _template(need: Need) -> dict[str, Any]:
    requests = {"cpu": f"{need.cpu}m", "memory": str(need.memory)}
    return {"spec": {"containers": [{"name": "main", "resources": {"requests": requests}}]}}


def _gpu(need: Need) -> dict[str, Any] | None:
    if need.gpu_share:
        return {"share": f"{need.gpu_share}m"}
    return {"count": need.gpus} if need.gpus else None


def affinity(*expressions: dict[str, Any]) -> dict[str, Any]:
    terms = [{"matchExpressions": list(expressions)}]
    selector = {"nodeSelectorTerms": terms}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": selector}}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


_FPGA = "example.com/fpga"
_ENTRIES = st.lists(
    st.fixed_dictionaries(
        {
            "count": st.integers(0, 3),
            "cpu": st.integers(1, 4),
            "memory": st.just("4Gi"),
            "labels": st.dictionaries(st.sampled_from(["zone", "gen"]), st.sampled_from(["a", "7"])),
            "resources": st.dictionaries(st.sampled_from([_FPGA, "ephemeral-storage", "pods"]), st.integers(0, 3)),
        }
    ),
    min_size=1,
    max_size=3,
)
_LINES = st.one_of(
    st.builds(
        lambda operator, value: expression("zone", operator, value), st.sampled_from(["In", "NotIn"]), st.just("a")
    ),
    st.sampled_from([expression("gen", "Exists"), expression("gen", "Gt", "6"), expression("zone", "DoesNotExist")]),
)
_PODS = st.builds(
    lambda requests, lines, node: {
        "containers": [{"name": "m", "resources": {"requests": requests}}],
        **(affinity(*lines) if lines else {}),
        **({"nodeName": node} if node else {}),
    },
    st.dictionaries(st.sampled_from(["cpu", _FPGA, "ephemeral-storage"]), st.integers(0, 2)),
    st.lists(_LINES, max_size=2),
    st.sampled_from(["", "", "", "x-1-1", "x-2"]),
)


@settings(max_examples=120, deadline=None)
@given(_ENTRIES, st.lists(_PODS, min_size=1, max_size=10))
def test_labels_names_and_resources_mean_the_same_to_hub_and_site(
    entries: list[dict[str, Any]], pods: list[dict[str, Any]]
) -> None:
    site = parse_site({"name": "x", "runtime": "simulated", "nodes": entries})
    nodes = Nodes(site.groups)
    status = Description(site, nodes, Images({})).capacity()
    cluster = {"metadata": {"name": "x"}, "spec": {"hubAcceptsClient": True}}
    fleet = Fleet.empty().apply(
        [ClusterSeen(cluster), CapacitySeen({"metadata": {"name": "x", "namespace": "x"}, "status": status})]
    )
    assert not fleet.problems
    order = [node.name for node in sorted(nodes, key=lambda node: node.order)]
    for number, spec in enumerate(pods):
        shape = task_shape({"spec": spec})
        need = plan_pod({}, spec, Images({}), simulated=True, default_restart="Never").need
        place = nodes.choose(need)
        assert (int(fleet.fit(shape)[0]) > 0) == (place is not None)
        if place is None:
            assert fleet.explain_fit("x", shape).message
            continue
        nodes.take(need, place)
        fleet = fleet.apply([Charge(f"w{number}", "x", shape, 1)])
        # And it is the same node.
        assert order[int(fleet.held("x")[f"w{number}"].nodes[0])] == place.node


def test_cpu_tasks_leave_gpu_nodes_alone() -> None:
    nodes = Nodes([NodeGroup("a", 1, 8000, 8, Gpus("L4", 1)), NodeGroup("b", 2, 8000, 8)])
    chosen = []
    for _ in range(3):
        place = nodes.choose(Need(cpu=4000))
        assert place is not None
        nodes.take(Need(cpu=4000), place)
        chosen.append(place.node)
    assert chosen == ["b-0", "b-0", "b-1"]


@pytest.mark.parametrize(
    ("need", "says"),
    [
        (Need(cpu=9000), "needs 9 CPU"),
        (Need(gpus=3), "2 L4"),
        (Need(rule=NodeRule(selector=(("disk", "nvme"),))), "labels"),
        (Need(cpu=8000), ""),
    ],
)
def test_what_never_fits_is_said(need: Need, says: str) -> None:
    nodes = Nodes([NodeGroup("a", 1, 8000, 8, Gpus("L4", 2))])
    nodes.take(Need(cpu=8000), Place("a"))
    found = nodes.ever_fits(need)
    assert (says in found) if says else not found


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        ({}, True),
        ({"nodeSelector": {names.GPU_PRODUCT: "A100"}}, True),
        ({"nodeSelector": {names.GPU_PRODUCT: "L4"}}, False),
        ({"nodeSelector": {GROUP_LABEL: "a"}}, True),
        ({"nodeName": "a"}, True),
        (affinity(expression(names.GPU_PRODUCT, "In", "L4", "A100")), True),
        (affinity(expression(names.GPU_PRODUCT, "NotIn", "A100")), False),
        (affinity(expression(names.GPU_MEMORY, "Gt", "40959")), True),
        (affinity(expression(names.GPU_MEMORY, "Gt", "40960")), False),
        (affinity(expression(names.GPU_MEMORY, "Lt", "40961")), True),
        (affinity(expression("x", "Exists")), False),
        (affinity(expression("x", "DoesNotExist"), expression("y", "DoesNotExist")), True),
        (affinity(), False),
    ],
)
def test_labels_decide(spec: dict[str, Any], allowed: bool) -> None:
    nodes = Nodes([NodeGroup("a", 1, 1000, 1, Gpus("A100", 1, 40 << 30))])
    assert (nodes.choose(Need(rule=node_rule(spec))) is not None) == allowed


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({}, False),
        ({"operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"key": "gpu", "value": "only"}, True),
        ({"key": "gpu", "value": "other"}, False),
        ({"key": "gpu", "value": "only", "effect": "NoExecute"}, False),
    ],
)
def test_taints_keep_away_who_does_not_tolerate_them(toleration: dict[str, str], tolerated: bool) -> None:
    tainted = (Taint("gpu", "only", "NoSchedule"), Taint("soft", "", "PreferNoSchedule"))
    nodes = Nodes([NodeGroup("a", 1, 1000, 1, taints=tainted)])
    rule = node_rule({"tolerations": [toleration] if toleration else []})
    assert (nodes.choose(Need(rule=rule)) is not None) == tolerated


@pytest.mark.parametrize(
    "spec",
    [
        {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}},
        affinity(expression("x", "Near", "y")),
        affinity(expression("x", "Gt", "y")),
    ],
)
def test_rules_that_cannot_be_judged_are_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(InvalidObjectError, match=r"spec\.affinity"):
        node_rule(spec)


def test_capacity_tells_what_is_not_ours() -> None:
    site = parse_site(
        {
            "name": "x",
            "prices": {"gpuHour": {"L4": "0.45"}},
            "nodes": [
                {"count": 3, "cpu": 8, "memory": "8Gi", "gpu": {"model": "L4", "count": 2, "memory": "24Gi"}},
                {"name": "cpu", "cpu": 4, "memory": "4Gi", "taints": [{"key": "k", "effect": "NoExecute"}]},
            ],
            "busy": [{"gpus": 1, "cpu": 2}, {"gpus": 2, "cpu": 1}],
        }
    )
    nodes = Nodes(site.groups)
    nodes.occupy(site.busy)
    description = Description(site, nodes, Images({"a:*": "host"}))
    capacity = description.capacity()
    assert (capacity["simulated"], capacity["runtime"], capacity["images"]) == (True, "process", ["a:*", "host"])
    assert capacity["prices"] == {"gpuHour": {"L4": "450m"}}
    cpu, gpu = capacity["nodeGroups"]
    assert (cpu["name"], cpu["count"], cpu["taints"]) == ("cpu", 1, [{"key": "k", "effect": "NoExecute"}])
    assert "used" not in cpu
    assert gpu["gpu"] == {"model": "L4", "count": 2, "memory": "24Gi"}
    assert gpu["allocatable"] == {"cpu": "8", "memory": "8Gi", names.GPU: "2"}
    assert gpu["used"] == [
        {"nodes": 1, "resources": {"cpu": "2", names.GPU: "1"}},
        {"nodes": 1, "resources": {"cpu": "1", names.GPU: "2"}},
    ]
    # What came from the hub the hub charges itself.
    place = nodes.choose(Need(cpu=1000))
    assert place is not None
    nodes.take(Need(cpu=1000), place)
    assert description.capacity() == capacity
    nodes.take(Need(cpu=1000), place, foreign=True)
    assert description.capacity() != capacity
    status = description.cluster_status()
    assert status["capacity"] == {"cpu": "28", "memory": "28Gi", names.GPU: "6"}
    assert status["allocatable"] == {"cpu": "24", "memory": "28Gi", names.GPU: "3"}
    assert {"name": names.SIMULATED, "value": "true"} in status["clusterClaims"]
    assert Description.labels_of(site)[names.SIMULATED] == "true"
