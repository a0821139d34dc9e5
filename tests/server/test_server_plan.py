"""The state made from objects, and the document of what is decided about it."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest
from plan_objects import KUEUE, NOW, OCM, a_fleet, holding, job, meta, queue, site, workload

from hub.api.errors import InvalidObjectError
from hub.api.indexset import IndexSet
from hub.api.timestamps import parse_time
from hub.jobs.spec import JobSpec
from hub.jobs.workload import workload_object
from hub.jobs.works import slice_to_work
from hub.scoring.builtin import default_scorers
from hub.server.explanation_document import explanation_document
from hub.server.plan_document import plan_document
from hub.server.reading import Objects, Source, sort_objects
from hub.server.snapshot import State
from hub.server.world_reading import addon_columns


def state_of(objects: list[Any], *, live: bool = False) -> tuple[Objects, State]:
    found = sort_objects(Source(obj, "objects.yaml") for obj in objects)
    state = State(found, parse_time(NOW).timestamp(), default_scorers(), live=live)
    if not live:
        found.check()
    return found, state


def decide(objects: list[Any], cycles: Any = 1, *, live: bool = False) -> dict[str, Any]:
    return plan_document(*state_of(objects, live=live), cycles)


def reasons(document: dict[str, Any], cycle: int = 0) -> dict[str, str]:
    return {entry["workload"]: entry["reason"] for entry in document["cycles"][cycle]["pending"]}


def test_a_fleet_is_decided() -> None:
    document = decide(a_fleet(), "settle")
    assert [len(cycle["admitted"]) for cycle in document["cycles"]] == [1, 0]
    assert document["settled"]
    first = document["cycles"][0]
    assert first["admitted"] == [
        {
            "workload": "default/sweep",
            "admission": {
                "clusterQueue": "research",
                "podSetAssignments": [
                    {"name": "main", "flavors": {"cpu": "default"}, "resourceUsage": {"cpu": "10"}, "count": 10}
                ],
            },
            "clusters": ["south"],
        }
    ]
    assert reasons(document) == {
        "default/lost": "QueueNotFound",
        "default/sweep": "WaitingForQuota",
        "default/train": "NoClusterFits",
    }
    assert {e["workload"]: e["inadmissible"] for e in first["pending"]}["default/sweep"] is False
    assert document["queues"] == [
        {
            "clusterQueue": "research",
            "usage": {"default": {"cpu": "10", "nvidia.com/gpu": "0"}},
            "weightedShare": 400,
            "dominantResource": "cpu",
            "pending": 1,
        },
        {
            "clusterQueue": "vision",
            "usage": {"default": {"cpu": "0", "nvidia.com/gpu": "0"}},
            "weightedShare": 0,
            "dominantResource": "",
            "pending": 1,
        },
    ]
    by_name = {entry["job"]: entry for entry in document["jobs"]}
    assert by_name["default/sweep"]["clusters"] == [{"cluster": "south", "tasks": 80}]
    assert by_name["default/lost"]["reason"] == "QueueNotFound"
    assert document["ignored"] == ["ConfigMap"]


def test_the_order_of_the_input_does_not_matter() -> None:
    objects = a_fleet()
    expected = orjson.dumps(decide(objects, "settle"))
    for seed in range(5):
        random.Random(seed).shuffle(objects)
        assert orjson.dumps(decide(objects, "settle")) == expected


def test_without_clusters_only_quota_is_decided_in_files_but_a_live_hub_has_none() -> None:
    objects = [*queue("research", cpu=3), job("sweep", "research", tasks=9)]
    admitted = decide(objects)["cycles"][0]["admitted"]
    assert "clusters" not in admitted[0]
    assert admitted[0]["admission"]["podSetAssignments"][0]["count"] == 3
    assert reasons(decide(objects, live=True)) == {"default/sweep": "NoClusters"}


def test_workloads_of_others_hold_and_get_quota() -> None:
    objects = [
        *queue("q", cpu=10),
        workload(
            "held", "q", (4, 1), status=holding("q", cpu="4") | {"reclaimablePods": [{"name": "set0", "count": 1}]}
        ),
        workload("done", "q", (9, 1), status={"conditions": [{"type": "Finished", "status": "True"}]}),
        workload("fits", "q", (2, 3)),
        workload("waits", "q", (2, 1)),
        workload("asleep", "q", (1, 1), active=False),
        workload("empty", "q", (0, 1)),
    ]
    document = decide(objects, "settle")
    assert [entry["workload"] for entry in document["cycles"][0]["admitted"]] == ["default/empty", "default/fits"]
    assert reasons(document) == {"default/waits": "WaitingForQuota", "default/asleep": "Suspended"}
    # 3 of the 4 pods of `held` still run, and 2 × 3 of `fits`.
    assert document["queues"][0]["usage"]["default"]["cpu"] == "9"


def test_several_pod_sets_get_quota_each_and_no_place() -> None:
    objects = [
        *site("north", nodes=9),
        *queue("q", cpu=10),
        workload("both", "q", (1, 2), (3, 1)),
        workload("one", "q", (4, 1)),
    ]
    both, one = decide(objects)["cycles"][0]["admitted"]
    assert both["clusters"] == []
    assert both["message"] == "its pod sets get quota and are not placed on a cluster"
    assert [(p["name"], p["count"], p["resourceUsage"]) for p in both["admission"]["podSetAssignments"]] == [
        ("set0", 1, {"cpu": "2"}),
        ("set1", 3, {"cpu": "3"}),
    ]
    assert one["clusters"] == ["north"]
    apart = workload("apart", "q", (1, 1), (1, 1))
    for number, zone in enumerate("ab"):
        apart["spec"]["podSets"][number]["template"]["spec"]["nodeSelector"] = {"zone": zone}
    # Each pod set is held against the flavors for itself.
    assert [entry["workload"] for entry in decide([*queue("q", cpu=10), apart])["cycles"][0]["admitted"]] == [
        "default/apart"
    ]


def test_a_workload_that_mirrors_a_job_here_is_not_counted_twice() -> None:
    wanted = job("sweep", "research", tasks=2)
    wanted["metadata"] |= {"uid": "uid-sweep", "creationTimestamp": NOW}
    mirror = workload_object(JobSpec.from_fleet_job(wanted))
    document = decide([*queue("research", cpu=9), wanted, mirror])
    assert [entry["workload"] for entry in document["cycles"][0]["admitted"]] == ["default/sweep"]
    assert document["queues"][0]["usage"]["default"]["cpu"] == "2"
    # Without the job it is somebody's all the same.
    assert len(decide([*queue("research", cpu=9), mirror])["cycles"][0]["admitted"]) == 1


def test_slices_that_exist_hold_room_and_quota() -> None:
    wanted = job("sweep", "research", tasks=4)
    wanted["metadata"] |= {"uid": "uid-sweep", "creationTimestamp": NOW}
    spec = JobSpec.from_fleet_job(wanted)
    work = slice_to_work(spec, "north", IndexSet.parse("0-1"), 1, 2, (("cpu", "default"),), "research", 1)
    objects = [*site("north", nodes=1, cpu=3), *queue("research", cpu=9), wanted, work]
    document = decide(objects, "settle")
    assert document["cycles"][0]["admitted"][0]["admission"]["podSetAssignments"][0]["count"] == 1
    assert document["queues"][0]["usage"]["default"]["cpu"] == "3"
    assert document["jobs"][0]["clusters"] == [{"cluster": "north", "tasks": 4}]
    found = explanation_document(*state_of(objects), "default/sweep")
    assert found is not None
    assert [(a["epoch"], a["cluster"], a["tasks"]) for a in found["job"]["attempts"]] == [(1, "north", "0-1")]
    assert found["job"]["verdict"]["admitted"][0]["tasks"] == "2-3"


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (queue("q", cpu=-1)[1], "objects.yaml: ClusterQueue q: spec.resourceGroups[0].flavors[0].resources[cpu]"),
        (job("j", "q", gpu={"count": 1, "share": "2"}), "objects.yaml: FleetJob j: spec.gpu.share: 2 is not a part"),
        (workload("w", "q", (1, "much")), "objects.yaml: Workload w: spec.podSets[0].template.spec.containers[0]"),
    ],
)
def test_what_is_malformed_is_an_error_in_files_and_a_reason_in_a_hub(broken: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidObjectError) as error:
        decide([broken])
    assert str(error.value).startswith(said)
    document = decide([*queue("ok", cpu=4), broken, job("fine", "ok")], live=True)
    assert reasons(document)["default/fine"] == "NoClusters"


def test_a_job_whose_placement_is_missing_says_so() -> None:
    document = decide([*site("north"), *queue("q", cpu=4), job("j", "q", placementRef={"name": "eu"})])
    assert reasons(document) == {"default/j": "InvalidSpec"}
    placement = {
        "apiVersion": f"{OCM}/v1beta1",
        "kind": "Placement",
        "metadata": meta("eu", "default"),
        "spec": {"predicates": [{"requiredClusterSelector": {"labelSelector": {"matchLabels": {"region": "eu"}}}}]},
    }
    bound = [
        {
            "apiVersion": f"{OCM}/v1beta2",
            "kind": "ManagedClusterSetBinding",
            "metadata": meta("global", "default"),
            "spec": {"clusterSet": "global"},
        }
    ]
    objects = [*site("east", region="asia"), *site("west", region="eu"), *queue("q", cpu=4), placement, *bound]
    document = decide([*objects, job("j", "q", placementRef={"name": "eu"})])
    assert document["cycles"][0]["admitted"][0]["clusters"] == ["west"]
    assert document["placements"] == [
        {
            "placement": "default/eu",
            "decisions": [{"clusterName": "west", "score": 100, "group": ""}],
            "conditions": [
                {
                    "type": "PlacementMisconfigured",
                    "status": "False",
                    "reason": "Succeedconfigured",
                    "message": "Placement configurations check pass",
                },
                {
                    "type": "PlacementSatisfied",
                    "status": "True",
                    "reason": "AllDecisionsScheduled",
                    "message": "All cluster decisions scheduled",
                },
            ],
            "groups": [
                {
                    "decisionGroupIndex": 0,
                    "decisionGroupName": "",
                    "decisions": ["eu-decision-1"],
                    "clusterCount": 1,
                }
            ],
        }
    ]
    found = explanation_document(*state_of(objects), "default/eu")
    assert found is not None
    east, west = found["placement"]["clusters"]
    assert (east["reason"], west["rank"], west["total"]) == ("SelectorMismatch", 1, 100)
    assert {score["scorer"]: score["weighted"] for score in west["scores"]} == {"Balance": 100, "Steady": 0}


@pytest.mark.parametrize(
    ("strategy", "groups"),
    [
        ({"clustersPerDecisionGroup": 2}, [("", ["a", "b"]), ("", ["c", "d"]), ("", ["e"])]),
        ({"clustersPerDecisionGroup": "40%"}, [("", ["a", "b"]), ("", ["c", "d"]), ("", ["e"])]),
        (
            {
                "decisionGroups": [
                    {"groupName": "canary", "groupClusterSelector": {"labelSelector": {"matchLabels": {"ring": "0"}}}}
                ]
            },
            [("canary", ["b", "e"]), ("", ["a", "c", "d"])],
        ),
    ],
)
def test_decision_groups(strategy: dict[str, Any], groups: list[tuple[str, list[str]]]) -> None:
    placement = {
        "apiVersion": f"{OCM}/v1beta1",
        "kind": "Placement",
        "metadata": meta("all", "default"),
        "spec": {"decisionStrategy": {"groupStrategy": strategy}},
    }
    binding = {
        "apiVersion": f"{OCM}/v1beta2",
        "kind": "ManagedClusterSetBinding",
        "metadata": meta("global", "default"),
        "spec": {"clusterSet": "global"},
    }
    sites = [obj for name in "abcde" for obj in site(name, ring="0" if name in "be" else "1")]
    document = decide([placement, binding, *sites])["placements"][0]
    assert [(g["decisionGroupName"], g["clusterCount"]) for g in document["groups"]] == [
        (name, len(members)) for name, members in groups
    ]
    of = {d["clusterName"]: d["group"] for d in document["decisions"]}
    assert of == {member: name for name, members in groups for member in members}
    placement["spec"]["decisionStrategy"] = {"groupStrategy": {"clustersPerDecisionGroup": "many"}}
    conditions = decide([placement, binding, *sites])["placements"][0]["conditions"]
    assert [(c["type"], c["status"]) for c in conditions] == [("PlacementMisconfigured", "True")]


def test_scores_of_addons_are_columns_while_they_are_valid() -> None:
    def scores(cluster: str, value: int, **status: Any) -> dict[str, Any]:
        return {
            "metadata": meta("gpu", cluster),
            "status": {"scores": [{"name": "free", "value": value}]} | status,
        }

    now = parse_time(NOW).timestamp()
    objects = [
        scores("a", 7),
        scores("b", 9, validUntil="2025-12-31T00:00:00Z"),
        scores("c", -3, validUntil="2027-01-01T00:00:00Z"),
    ]
    assert addon_columns(objects, now) == {"AddOn/gpu/free": {"a": 7.0, "c": -3.0}}


def test_a_job_of_which_nothing_waits_is_explained_by_one_more_task() -> None:
    objects = a_fleet()
    found, state = state_of(objects)
    plan_document(found, state)
    document = explanation_document(found, state, "default/sweep")
    assert document is not None
    assert document["job"]["verdict"]["reason"] == "WaitingForQuota"
    single = [*site("north"), *queue("q", cpu=4), job("j", "q")]
    found, state = state_of(single)
    plan_document(found, state)
    document = explanation_document(found, state, "default/j")
    assert document is not None
    assert document["job"]["attempts"][0]["why"] == "the only cluster there is"
    more = document["job"]["oneMoreTask"]
    assert [part["cluster"] for part in more["verdict"]["admitted"]] == ["north"]
    assert explanation_document(found, state, "default/nobody") is None


def test_the_first_line_of_an_explanation_is_what_was_decided() -> None:
    found = explanation_document(*state_of(a_fleet()), "default/train")
    assert found is not None
    assert (found["job"]["reason"], found["job"]["verdict"]["reason"]) == ("NoClusterFits", "NoClusterFits")


def test_old_kueue_objects_and_kinds_that_nobody_reads() -> None:
    objects = queue("q", cpu=4)
    objects[1]["apiVersion"] = "kueue.x-k8s.io/v1beta1"
    old = workload("old", "q", (1, 1))
    old["apiVersion"] = "kueue.x-k8s.io/v1beta1"
    extra = [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta("x")},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta("y")},
        {"apiVersion": KUEUE, "kind": "AdmissionCheck", "metadata": meta("check")},
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta("plain", "default"), "spec": {}},
    ]
    document = decide([*objects, old, *extra])
    assert document["ignored"] == ["Deployment.apps", "Job.batch without a queue name"]
    assert [entry["workload"] for entry in document["cycles"][0]["admitted"]] == ["default/old"]


def test_plain_jobs_with_a_queue_go_the_same_way() -> None:
    plain = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta("plain", "default", labels={"kueue.x-k8s.io/queue-name": "q"}, uid="01234567-89ab"),
        "spec": {
            "suspend": True,
            "completions": 3,
            "parallelism": 3,
            "template": {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}},
        },
    }
    document = decide([*site("north"), *queue("q", cpu=4), plain])
    assert document["jobs"] == [
        {
            "job": "default/plain",
            "clusters": [{"cluster": "north", "tasks": 3}],
            "reason": "Admitted",
            "message": document["jobs"][0]["message"],
        }
    ]
    found = explanation_document(*state_of([*site("north"), *queue("q", cpu=4), plain]), "default/plain")
    assert found is not None
    assert found["job"]["kind"] == "Job"


@pytest.mark.parametrize(
    "poison",
    [
        job("huge", "q", cpu="1e30"),
        job("huge", "q", cpu="9223372036854775807"),
        job("huge", "q", gpu={"count": 10**30}),
        job("huge", "q", gpu={"count": 1, "minMemory": "1e30"}),
        job("huge", "q", tasks=100_000, cpu="1e15"),
        workload("huge", "q", (2**31 - 1, "1e18")),
    ],
)
@pytest.mark.parametrize("quota", [4, "1e30"])
def test_an_absurd_wish_stops_nobody_else(poison: dict[str, Any], quota: Any) -> None:
    objects = [*site("north", gpus=2), *queue("q", cpu=quota, gpus=2), poison, job("fine", "q")]
    document = decide(objects, "settle")
    assert [entry["workload"] for entry in document["cycles"][0]["admitted"]] == ["default/fine"]
    assert document["cycles"][0]["pending"][0]["inadmissible"]
    found = explanation_document(*state_of(objects), "default/huge")
    assert found is not None
    assert decide([obj for obj in objects if obj["kind"] not in ("ManagedCluster", "ClusterCapacity")])["queues"]


def test_a_workload_without_pod_sets_is_malformed() -> None:
    with pytest.raises(InvalidObjectError, match=r"Workload w: spec.podSets: at least one is needed"):
        decide([*queue("q", cpu=4), workload("w", "q")])


def test_an_old_score_counts_where_a_placement_prefers_it_and_its_jobs_follow_a_choice_as_a_whole() -> None:
    def score(cluster: str, value: int, **status: Any) -> dict[str, Any]:
        return {
            "apiVersion": f"{OCM}/v1alpha1",
            "kind": "AddOnPlacementScore",
            "metadata": meta("gpu", cluster),
            "status": {"scores": [{"name": "free", "value": value}]} | status,
        }

    def placed(missing: str, **spec: Any) -> dict[str, Any]:
        coordinate = {"type": "AddOn", "addOn": {"resourceName": "gpu", "scoreName": "free"}}
        policy = {"mode": "Exact", "configurations": [{"scoreCoordinate": coordinate}]}
        annotations = {"fleet.quarterdeck.dev/missing-score": missing}
        return {
            "apiVersion": f"{OCM}/v1beta1",
            "kind": "Placement",
            "metadata": meta("p", "default") | {"annotations": annotations},
            "spec": {"numberOfClusters": 1, "prioritizerPolicy": policy, **spec},
        }

    binding = {
        "apiVersion": f"{OCM}/v1beta2",
        "kind": "ManagedClusterSetBinding",
        "metadata": meta("global", "default"),
        "spec": {"clusterSet": "global"},
    }
    world = [binding, *site("a"), *site("b"), score("a", -10), score("b", 90, validUntil="2000-01-01T00:00:00Z")]
    for missing, expected in (("Worst", "a"), ("LastKnown(1h)", "a"), ("LastKnown(10000000h)", "b")):
        document = decide([placed(missing), *world])["placements"][0]
        assert [d["clusterName"] for d in document["decisions"]] == [expected], missing

    spread = {"spreadConstraints": [{"topologyKey": "zone", "topologyKeyType": "Label"}]}
    follower = job("follows", "research", placementRef={"name": "p"})
    for chosen in ("north", "south"):
        decision = {
            "apiVersion": f"{OCM}/v1beta1",
            "kind": "PlacementDecision",
            "metadata": meta("p-decision-1", "default") | {"labels": {f"{OCM}/placement": "p"}},
            "status": {"decisions": [{"clusterName": chosen, "reason": ""}]},
        }
        document = decide([placed("Worst", spreadPolicy=spread), decision, binding, follower, *a_fleet()], "settle")
        found = {entry["job"]: entry for entry in document["jobs"]}["default/follows"]
        assert [entry["cluster"] for entry in found["clusters"]] == [chosen]
