"""Placements beside a model of OCM's scheduler, step by step: the same clusters, scores, groups and conditions.

The model reads objects and nothing of ours. Left out are what is different on purpose (docs/placement.md): taints with
PreferNoSelect, clusters that are not accepted, and what a missing score counts, which is set to OCM's 0 here.
"""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub.api import names
from hub.api.timestamps import format_time, from_timestamp, parse_time
from hub.cli.plan_input import Settings
from hub.server.reading import Source

Json = dict[str, Any]
OCM = "cluster.open-cluster-management.io"
NOW = "2026-01-01T00:10:00Z"
NOW_SECONDS = parse_time(NOW).timestamp()
CLUSTERS = [f"c{n}" for n in range(8)]


# The model.


def holds(line: Json, values: dict[str, str]) -> bool:
    value = values.get(line["key"])
    if line["operator"] == "In":
        return value in line["values"]
    if line["operator"] == "NotIn":
        return value not in line["values"]
    return (value is not None) == (line["operator"] == "Exists")


def selected(selector: Json, cluster: Json) -> bool:
    labels, claims = cluster["metadata"]["labels"], {c["name"]: c["value"] for c in cluster["status"]["clusterClaims"]}
    label = selector.get("labelSelector") or {}
    return (
        all(labels.get(key) == value for key, value in (label.get("matchLabels") or {}).items())
        and all(holds(line, labels) for line in label.get("matchExpressions") or ())
        and all(holds(line, claims) for line in (selector.get("claimSelector") or {}).get("matchExpressions") or ())
    )


def tolerated(taint: Json, tolerations: list[Json], chosen: bool) -> bool:
    if taint["effect"] == "NoSelectIfNew" and chosen:
        return True
    for toleration in tolerations:
        if toleration.get("effect", taint["effect"]) != taint["effect"]:
            continue
        if toleration.get("key", taint["key"]) != taint["key"]:
            continue
        if toleration.get("operator", "Equal") == "Equal" and toleration.get("value", "") != taint.get("value", ""):
            continue
        seconds = toleration.get("tolerationSeconds")
        if seconds is None or parse_time(taint["timeAdded"]).timestamp() + seconds > NOW_SECONDS:
            return True
    return False


def scores_of(name: str, clusters: list[Json], world: Json, current: set[str]) -> dict[str, int]:
    """A cluster without an entry counts 0."""
    listed = [cluster["metadata"]["name"] for cluster in clusters]
    if name == "Steady":
        return {cluster: 100 if cluster in current else 0 for cluster in listed}
    if name == "Balance":
        counts: dict[str, int] = {}
        for placement, chosen in world["decisions"].items():
            for cluster in chosen if placement != "p" else ():
                counts[cluster] = counts.get(cluster, 0) + 1
        most = max(counts.values(), default=0)
        return {c: 2 * int(100 * (0.5 - counts[c] / most)) if c in counts else 100 for c in listed}
    if name.startswith("AddOn/"):
        found = {}
        for cluster in listed:
            value, ended = world["scores"].get(cluster, (0, False))
            found[cluster] = 0 if ended else value
        return found
    resource = {"ResourceAllocatableCPU": "cpu", "ResourceAllocatableMemory": "memory"}[name]
    amounts = {
        c["metadata"]["name"]: int(c["status"]["allocatable"][resource])
        for c in clusters
        if resource in c["status"]["allocatable"] and resource in c["status"]["capacity"]
    }
    if not amounts:
        return {}
    low, high = min(amounts.values()), max(amounts.values())
    if low == high:
        return dict.fromkeys(amounts, 100)
    return {c: int(((x - low) / (high - low) - 0.5) * 2 * 100) for c, x in amounts.items()}


def model(world: Json) -> Json:
    spec = world["placement"]["spec"]
    current = set(world["decisions"]["p"])
    bound = sorted(name for name in world["bindings"] if name in world["sets"])
    wanted = spec.get("clusterSets") or []
    eligible = [name for name in bound if not wanted or name in wanted]
    if not bound or not eligible:
        return {
            "reason": "NoManagedClusterSetBindings" if not bound else "NoIntersection",
            "decisions": [],
            "groups": [],
        }
    members = [
        cluster
        for cluster in world["clusters"]
        if cluster["metadata"]["labels"][names.CLUSTER_SET] in eligible
        and "deletionTimestamp" not in cluster["metadata"]
    ]
    if not members:
        return {"reason": "AllManagedClusterSetsEmpty", "decisions": [], "groups": []}
    predicates = [entry["requiredClusterSelector"] for entry in spec.get("predicates") or ()]
    left = [c for c in members if not predicates or any(selected(selector, c) for selector in predicates)]
    left = [
        cluster
        for cluster in left
        if all(
            tolerated(taint, spec.get("tolerations") or [], cluster["metadata"]["name"] in current)
            for taint in cluster["spec"]["taints"]
        )
    ]
    policy = spec.get("prioritizerPolicy") or {}
    weights = {} if policy.get("mode") == "Exact" else {"Balance": 1, "Steady": 1}
    for entry in policy.get("configurations") or ():
        coordinate = entry["scoreCoordinate"]
        name = coordinate.get("builtIn") or "AddOn/r/s"
        weights[name] = entry.get("weight", 1)
    total = {cluster["metadata"]["name"]: 0 for cluster in left}
    for name, weight in weights.items():
        for cluster, score in scores_of(name, left, world, current).items() if weight else ():
            total[cluster] += weight * score
    order = sorted(total, key=lambda name: (-total[name], name))
    limit = spec.get("numberOfClusters")
    chosen = order if limit is None else order[:limit]
    if not chosen:
        reason = "NoManagedClusterMatched"
    elif limit is not None and len(chosen) < limit:
        reason = "NotAllDecisionsScheduled"
    else:
        reason = "AllDecisionsScheduled"
    return {
        "reason": reason,
        "decisions": [(name, total[name]) for name in chosen],
        "groups": grouped(spec, chosen, {cluster["metadata"]["name"]: cluster for cluster in left}),
    }


def grouped(spec: Json, chosen: list[str], clusters: dict[str, Json]) -> list[tuple[str, list[str]]]:
    strategy = (spec.get("decisionStrategy") or {}).get("groupStrategy") or {}
    length, total = strategy.get("clustersPerDecisionGroup", "100%"), len(chosen)
    size = -(-int(length[:-1]) * total // 100) if isinstance(length, str) and length.endswith("%") else int(length)
    if size <= 0 or size > total:
        size = total
    left, found = sorted(chosen), []
    for group in [*(strategy.get("decisionGroups") or ()), {"groupName": "", "groupClusterSelector": {}}]:
        own = [name for name in left if selected(group["groupClusterSelector"], clusters[name])]
        left = [name for name in left if name not in own]
        found += [(group["groupName"], own[at : at + size]) for at in range(0, len(own), max(size, 1))]
    return found or [("", [])]


# The worlds.

texts = st.sampled_from(["eu", "us", "ap"])
keys = st.sampled_from(["region", "tier"])


def lines() -> st.SearchStrategy[Json]:
    return st.builds(
        lambda key, operator, values: {
            "key": key,
            "operator": operator,
            **({"values": sorted(values)} if operator in ("In", "NotIn") else {}),
        },
        keys, st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]), st.sets(texts, min_size=1),
    )  # fmt: skip


def selectors() -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries(
        {},
        optional={
            "labelSelector": st.fixed_dictionaries(
                {},
                optional={
                    "matchLabels": st.dictionaries(keys, texts, max_size=1),
                    "matchExpressions": st.lists(lines(), max_size=2),
                },
            ),
            "claimSelector": st.fixed_dictionaries({"matchExpressions": st.lists(lines(), max_size=1)}),
        },
    )


def ago(seconds: int) -> str:
    return format_time(from_timestamp(NOW_SECONDS - seconds))


taints = st.builds(
    lambda key, value, effect, age: (
        {"key": key, "effect": effect, "timeAdded": ago(age)} | ({"value": value} if value else {})
    ),
    st.sampled_from(["k", "l"]), st.sampled_from(["", "v"]), st.sampled_from(["NoSelect", "NoSelectIfNew"]),
    st.sampled_from([0, 60, 600]),
)  # fmt: skip


@st.composite
def tolerations(draw: st.DrawFn) -> Json:
    found: Json = {"operator": draw(st.sampled_from(["Exists", "Equal"]))}
    if found["operator"] == "Equal" or draw(st.booleans()):
        found["key"] = draw(st.sampled_from(["k", "l"]))
    if found["operator"] == "Equal" and draw(st.booleans()):
        found["value"] = "v"
    if draw(st.booleans()):
        found["effect"] = draw(st.sampled_from(["NoSelect", "NoSelectIfNew"]))
    if draw(st.booleans()):
        found["tolerationSeconds"] = draw(st.sampled_from([-1, 0, 60, 61, 900]))
    return found


@st.composite
def clusters(draw: st.DrawFn, name: str) -> Json:
    def resources() -> Json:
        return draw(
            st.fixed_dictionaries(
                {}, optional={"cpu": st.integers(0, 9).map(str), "memory": st.sampled_from(["0", "1024", "4096"])}
            )
        )

    labels = draw(st.dictionaries(keys, texts, max_size=2))
    metadata: Json = {
        "name": name,
        "labels": {**labels, names.CLUSTER_SET: draw(st.sampled_from(["one", "one", "two"]))},
    }
    if draw(st.integers(0, 9)) == 0:
        metadata |= {"deletionTimestamp": NOW, "finalizers": ["x"]}
    claims = draw(st.dictionaries(keys, texts, max_size=1))
    return {
        "apiVersion": f"{OCM}/v1",
        "kind": "ManagedCluster",
        "metadata": metadata,
        "spec": {"hubAcceptsClient": True, "taints": draw(st.lists(taints, max_size=1, unique_by=lambda t: t["key"]))},
        "status": {
            "allocatable": resources(),
            "capacity": resources(),
            "clusterClaims": [{"name": key, "value": value} for key, value in claims.items()],
        },
    }


BUILT_IN = ["Balance", "Steady", "ResourceAllocatableCPU", "ResourceAllocatableMemory"]
configurations = st.lists(
    st.builds(
        lambda name, weight: {
            "scoreCoordinate": {"type": "BuiltIn", "builtIn": name}
            if name
            else {"type": "AddOn", "addOn": {"resourceName": "r", "scoreName": "s"}},
            **({} if weight == 1 else {"weight": weight}),
        },
        st.sampled_from([*BUILT_IN, ""]), st.integers(-10, 10),
    ),
    max_size=5, unique_by=lambda entry: entry["scoreCoordinate"].get("builtIn", ""),
)  # fmt: skip
strategies = st.fixed_dictionaries(
    {},
    optional={
        "clustersPerDecisionGroup": st.sampled_from(["100%", "40%", "1%", "7%", 1, 3, "2", 200]),
        "decisionGroups": st.lists(
            st.builds(lambda name, selector: {"groupName": name, "groupClusterSelector": selector},
                      st.sampled_from(["first", "second"]), selectors()),
            max_size=2, unique_by=lambda group: group["groupName"],
        ),
    },
)  # fmt: skip
specs = st.fixed_dictionaries(
    {},
    optional={
        "clusterSets": st.lists(st.sampled_from(["one", "two", "three"]), max_size=2, unique=True),
        "numberOfClusters": st.integers(0, 9),
        "predicates": st.lists(selectors().map(lambda s: {"requiredClusterSelector": s}), max_size=2),
        "tolerations": st.lists(tolerations(), max_size=2),
        "prioritizerPolicy": st.fixed_dictionaries(
            {"configurations": configurations}, optional={"mode": st.sampled_from(["Additive", "Exact"])}
        ),
        "decisionStrategy": st.fixed_dictionaries({"groupStrategy": strategies}),
    },
)
choices = st.lists(st.sampled_from(CLUSTERS), max_size=6, unique=True)


@st.composite
def worlds(draw: st.DrawFn) -> Json:
    listed = draw(st.lists(st.sampled_from(CLUSTERS), max_size=8, unique=True))
    return {
        "clusters": [draw(clusters(name)) for name in sorted(listed)],
        "sets": ["one", "two"],
        "bindings": draw(st.lists(st.sampled_from(["one", "one", "two", "three"]), max_size=3, unique=True)),
        "decisions": {
            "p": sorted(set(draw(choices)) & set(listed)),
            **{f"other-{n}": sorted(set(draw(choices)) & set(listed)) for n in range(draw(st.integers(0, 4)))},
        },
        # Score, and whether it is past its time.
        "scores": draw(st.dictionaries(st.sampled_from(CLUSTERS), st.tuples(st.integers(-100, 100), st.booleans()))),
        "placement": {"spec": draw(specs)},
    }


def objects_of(world: Json) -> list[Json]:
    found: list[Json] = [
        *world["clusters"],
        *(
            {"apiVersion": f"{OCM}/v1beta2", "kind": "ManagedClusterSet", "metadata": {"name": name}}
            for name in world["sets"]
        ),
    ]
    for name in world["bindings"]:
        meta = {"name": name, "namespace": "ns"}
        found.append(
            {"apiVersion": f"{OCM}/v1beta2", "kind": "ManagedClusterSetBinding", "metadata": meta,
             "spec": {"clusterSet": name}}
        )  # fmt: skip
    for placement, chosen in world["decisions"].items():
        meta = {"name": f"{placement}-decision-1", "namespace": "ns", "labels": {names.PLACEMENT: placement}}
        status = {"decisions": [{"clusterName": name, "reason": ""} for name in chosen]}
        found.append({"apiVersion": f"{OCM}/v1beta1", "kind": "PlacementDecision", "metadata": meta, "status": status})
    for cluster, (value, ended) in world["scores"].items():
        status = {"scores": [{"name": "s", "value": value}], "validUntil": ago(1) if ended else ago(-1)}
        found.append(
            {"apiVersion": f"{OCM}/v1alpha1", "kind": "AddOnPlacementScore",
             "metadata": {"name": "r", "namespace": cluster}, "status": status}
        )  # fmt: skip
    annotations = {names.MISSING_SCORE: "Neutral"}
    meta = {"name": "p", "namespace": "ns", "annotations": annotations}
    found.append({"apiVersion": f"{OCM}/v1beta1", "kind": "Placement", "metadata": meta, **world["placement"]})
    return found


def world_of(count: int, **spec: Any) -> Json:
    """`count` equal clusters."""
    return {
        "clusters": [
            {
                "apiVersion": f"{OCM}/v1", "kind": "ManagedCluster",
                "metadata": {"name": f"c{n:03}", "labels": {names.CLUSTER_SET: "one"}},
                "spec": {"hubAcceptsClient": True, "taints": []},
                "status": {"allocatable": {}, "capacity": {}, "clusterClaims": []},
            }
            for n in range(count)
        ],
        "sets": ["one", "two"], "bindings": ["one"], "decisions": {"p": []}, "scores": {}, "placement": {"spec": spec},
    }  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(worlds())
@example(world_of(0))
@example(world_of(3, numberOfClusters=0))
@example(world_of(250))
@example(world_of(230, decisionStrategy={"groupStrategy": {"clustersPerDecisionGroup": "50%"}}))
def test_a_placement_is_decided_as_by_the_model(world: Json) -> None:
    expected = model(world)
    document = Settings.read(NOW, "1", None, None).decide([Source(obj) for obj in objects_of(world)])
    found = document["placements"][0]
    satisfied = next(c for c in found["conditions"] if c["type"] == "PlacementSatisfied")
    assert satisfied["reason"] == expected["reason"]
    assert [(d["clusterName"], d["score"]) for d in found["decisions"]] == expected["decisions"]
    if not expected["groups"]:
        return
    assert [(g["decisionGroupName"], g["clusterCount"]) for g in found["groups"]] == [
        (name, len(members)) for name, members in expected["groups"]
    ]
    assert [g["decisionGroupIndex"] for g in found["groups"]] == list(range(len(found["groups"])))
    group_of = {d["clusterName"]: d["group"] for d in found["decisions"]}
    assert group_of == {member: name for name, members in expected["groups"] for member in members}
    # A hundred clusters an object at most, numbered on through the groups.
    objects = [len(g["decisions"]) for g in found["groups"]]
    assert objects == [max(1, -(-len(members) // 100)) for _, members in expected["groups"]]
    listed = [name for g in found["groups"] for name in g["decisions"]]
    assert listed == [f"p-decision-{n}" for n in range(1, sum(objects) + 1)]


def test_what_somebody_else_decides_and_what_leaves_stays_as_it_is() -> None:
    world = world_of(3)
    world["decisions"]["p"] = ["c001"]
    said = [{"type": "PlacementSatisfied", "status": "False", "reason": "Theirs", "message": ""}]
    for metadata in ({"annotations": {names.SCHEDULING_DISABLE: "true"}}, {"deletionTimestamp": NOW}):
        objects = objects_of(world)
        objects[-1]["metadata"] |= metadata
        objects[-1]["status"] = {"conditions": said}
        document = Settings.read(NOW, "1", None, None).decide([Source(obj) for obj in objects])
        found = document["placements"][0]
        assert [d["clusterName"] for d in found["decisions"]] == ["c001"]
        assert found["conditions"] == said
