"""Which clusters a rule allows, and that the mask and the reasons always say the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api import names
from hub.api.reasons import Reason
from hub.fleet.changes import ClusterGone, ClusterSeen
from hub.fleet.fleet import Fleet
from hub.placement.filters import eligible, verdicts
from hub.placement.rule import ClusterRule, ClusterToleration, Predicate, Requirement
from hub.placement.rules import parse_rule
from hub.placement.sets import ClusterSets

NOW = 1767225660.0  # 2026-01-01T00:01:00Z
ADDED = "2026-01-01T00:00:00Z"


def cluster(
    name: str,
    labels: dict[str, str] | None = None,
    *,
    taints: list[dict[str, Any]] | None = None,
    claims: dict[str, str] | None = None,
    accepted: bool = True,
    available: str = "True",
    leaving: bool = False,
) -> ClusterSeen:
    metadata: dict[str, Any] = {"name": name, "labels": labels or {}}
    if leaving:
        metadata["deletionTimestamp"] = ADDED
    condition = {"type": "ManagedClusterConditionAvailable", "status": available, "lastTransitionTime": ADDED}
    return ClusterSeen(
        {
            "metadata": metadata,
            "spec": {"hubAcceptsClient": accepted, "taints": taints or []},
            "status": {
                "conditions": [condition],
                "clusterClaims": [{"name": n, "value": v} for n, v in (claims or {}).items()],
            },
        }
    )


def taint(key: str = "k", value: str = "", effect: str = "NoSelect", added: str | None = ADDED) -> dict[str, Any]:
    return {"key": key, "value": value, "effect": effect, **({"timeAdded": added} if added else {})}


def chosen(fleet: Fleet, rule: ClusterRule, sets: ClusterSets | None = None, **more: Any) -> list[str]:
    now = more.pop("now", NOW)
    mask = eligible(fleet, sets or ClusterSets(), rule, now, **more)
    said = verdicts(fleet, sets or ClusterSets(), rule, now, **more)
    assert list(said) == list(fleet.names)
    assert [verdict is None for verdict in said.values()] == mask.tolist()
    return [name for name, fits in zip(fleet.names, mask.tolist(), strict=True) if fits]


def why(fleet: Fleet, rule: ClusterRule, name: str, sets: ClusterSets | None = None) -> tuple[Reason, str]:
    verdict = verdicts(fleet, sets or ClusterSets(), rule, NOW)[name]
    assert verdict is not None
    return verdict[0], verdict[0].message(**verdict[1])


FLEET = Fleet.empty().apply(
    [
        cluster("a", {"region": "eu", "gpu": "yes"}, claims={"vendor": "x"}),
        cluster("b", {"region": "us"}, claims={"vendor": "y"}),
        cluster("c"),
    ]
)


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([Requirement("region", "In", ("eu", "asia"))], "a"),
        ([Requirement("region", "NotIn", ("eu",))], "b c"),
        ([Requirement("region", "Exists")], "a b"),
        ([Requirement("region", "DoesNotExist")], "c"),
        ([Requirement("region", "Exists"), Requirement("gpu", "DoesNotExist")], "b"),
        ([], "a b c"),
    ],
)
def test_labels_and_claims(lines: list[Requirement], names: str) -> None:
    assert chosen(FLEET, ClusterRule(predicates=(Predicate(labels=tuple(lines)),))) == names.split()


def test_predicates_are_ored_and_their_selectors_anded() -> None:
    eu_x = Predicate(labels=(Requirement("region", "In", ("eu",)),), claims=(Requirement("vendor", "In", ("x",)),))
    eu_y = Predicate(labels=(Requirement("region", "In", ("eu",)),), claims=(Requirement("vendor", "In", ("y",)),))
    nowhere = Predicate(labels=(Requirement("region", "DoesNotExist"),))
    assert chosen(FLEET, ClusterRule(predicates=(eu_x,))) == ["a"]
    assert chosen(FLEET, ClusterRule(predicates=(eu_y,))) == []
    assert chosen(FLEET, ClusterRule(predicates=(eu_y, nowhere, eu_x))) == ["a", "c"]
    reason, words = why(FLEET, ClusterRule(predicates=(eu_y, nowhere)), "b")
    assert (reason, words) == (Reason.SELECTOR_MISMATCH, "does not match region=eu, claim vendor=y or !region")


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("managedCluster.metadata.labels['region'] == 'eu'", "a"),
        ("managedCluster.metadata.name.startsWith('b')", "b"),
        ("managedCluster.status.clusterClaims.exists(c, c.name == 'vendor' && c.value == 'y')", "b"),
        ("has(managedCluster.metadata.labels.gpu)", "a"),
        ("size(managedCluster.status.conditions) > 0", "a b c"),
        # Fails where the label is missing, is no truth at all: no match, no error.
        ("managedCluster.metadata.labels['gpu'].size() == 3", "a"),
        ("managedCluster.metadata.labels['region']", ""),
    ],
)
def test_cel(expression: str, names: str) -> None:
    rule = parse_rule(
        "ns", {"predicates": [{"requiredClusterSelector": {"celSelector": {"celExpressions": [expression]}}}]}
    )
    assert chosen(FLEET, rule) == names.split()


def test_cel_sees_every_event() -> None:
    rule = ClusterRule(predicates=(Predicate(cel=("managedCluster.metadata.annotations['x'] == '1'",)),))
    assert chosen(FLEET, rule) == []
    obj = dict(FLEET.facts("b").object)
    obj["metadata"] = {**obj["metadata"], "annotations": {"x": "1"}}
    assert chosen(FLEET.apply([ClusterSeen(obj)]), rule) == ["b"]


@pytest.mark.parametrize(
    ("taints", "tolerations", "fits"),
    [
        ([taint()], [], False),
        ([taint(effect="PreferNoSelect")], [], True),
        ([taint(effect="NoSelectIfNew")], [], False),
        ([taint()], [ClusterToleration("k", "Exists")], True),
        ([taint()], [ClusterToleration("other", "Exists")], False),
        ([taint()], [ClusterToleration("", "Exists")], True),
        ([taint(value="v")], [ClusterToleration("k", "Equal", "v")], True),
        ([taint(value="v")], [ClusterToleration("k", "Equal", "w")], False),
        ([taint()], [ClusterToleration("k", "Exists", effect="NoSelectIfNew")], False),
        ([taint()], [ClusterToleration("k", "Exists", effect="NoSelect")], True),
        ([taint(), taint("l")], [ClusterToleration("k", "Exists")], False),
        ([taint(), taint("l")], [ClusterToleration("k", "Exists"), ClusterToleration("l", "Exists")], True),
        # The taint is 60 s old.
        ([taint()], [ClusterToleration("k", "Exists", seconds=61)], True),
        ([taint()], [ClusterToleration("k", "Exists", seconds=60)], False),
        ([taint()], [ClusterToleration("k", "Exists", seconds=0)], False),
        ([taint()], [ClusterToleration("k", "Exists", seconds=-5)], False),
        ([taint()], [ClusterToleration("k", "Exists", seconds=5), ClusterToleration("", "Exists")], True),
        ([taint(added=None)], [ClusterToleration("k", "Exists", seconds=10**6)], False),
        ([taint(added="yesterday")], [ClusterToleration("k", "Exists")], True),
    ],
)
def test_taints(taints: list[dict[str, Any]], tolerations: list[ClusterToleration], fits: bool) -> None:
    fleet = Fleet.empty().apply([cluster("a", taints=taints)])
    assert chosen(fleet, ClusterRule(tolerations=tuple(tolerations))) == (["a"] if fits else [])


def test_time_passes_without_an_event() -> None:
    fleet = Fleet.empty().apply([cluster("a", taints=[taint()])])
    rule = ClusterRule(tolerations=(ClusterToleration("k", "Exists", seconds=60),))
    assert [chosen(fleet, rule, now=NOW + t) for t in (-1, 0, 1)] == [["a"], [], []]


def test_no_select_if_new_keeps_what_is_chosen() -> None:
    fleet = Fleet.empty().apply(
        [
            cluster(n, taints=[taint(effect=e)])
            for n, e in (("a", "NoSelectIfNew"), ("b", "NoSelectIfNew"), ("c", "NoSelect"))
        ]
    )
    assert chosen(fleet, ClusterRule()) == []
    assert chosen(fleet, ClusterRule(), current=("a", "c", "gone")) == ["a"]


def test_the_first_reason_is_the_one_to_act_on() -> None:
    fleet = Fleet.empty().apply(
        [
            cluster("denied", accepted=False, available="Unknown"),
            cluster("asks", accepted=False),
            cluster("leaving", leaving=True),
            cluster("silent", available="Unknown"),
            cluster("tainted", taints=[taint("gpu", "old")]),
            cluster("unlabelled"),
        ]
    )
    rule = ClusterRule()
    assert why(fleet, rule, "denied") == (Reason.CLUSTER_NOT_ACCEPTED, "not accepted by the hub")
    assert why(fleet, rule, "asks") == (Reason.CLUSTER_NOT_ACCEPTED, "not accepted by the hub")
    assert why(fleet, rule, "leaving") == (Reason.CLUSTER_LEAVING, "is being removed from the fleet")
    assert why(fleet, rule, "silent") == (Reason.CLUSTER_UNREACHABLE, "silent for 1m")
    assert why(fleet, rule, "tainted") == (Reason.CLUSTER_TAINTED, "has taint gpu=old:NoSelect")
    assert chosen(fleet, rule) == ["unlabelled"]
    never = Fleet.empty().apply([ClusterSeen({"metadata": {"name": "n"}, "spec": {"hubAcceptsClient": True}})])
    assert why(never, rule, "n") == (Reason.CLUSTER_UNREACHABLE, "silent for an unknown time")


def cluster_set(name: str, **selector: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"clusterSelector": selector} if selector else {}}


def binding(namespace: str, name: str, target: str | None = None) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": name}, "spec": {"clusterSet": target or name}}


SET_FLEET = Fleet.empty().apply(
    [
        cluster("e1", {names.CLUSTER_SET: "eu"}),
        cluster("e2", {names.CLUSTER_SET: "eu", "gpu": "yes"}),
        cluster("u1", {names.CLUSTER_SET: "us", "gpu": "yes"}),
        cluster("z1"),
    ]
)
SETS = ClusterSets.parse(
    [
        cluster_set("eu"),
        cluster_set("us", selectorType="ExclusiveClusterSetLabel"),
        cluster_set("gpus", selectorType="LabelSelector", labelSelector={"matchLabels": {"gpu": "yes"}}),
        cluster_set("none", selectorType="LabelSelector"),
        cluster_set("all", selectorType="LabelSelector", labelSelector={}),
    ],
    [
        binding("research", "eu"),
        binding("research", "gpus"),
        binding("ops", "global"),
        binding("home", "default"),
        binding("odd", "none"),
        binding("every", "all"),
    ],
)


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        # No namespace: every cluster may serve.
        (ClusterRule(), "e1 e2 u1 z1"),
        # Nobody ever bound anything to this namespace.
        (ClusterRule("new"), "e1 e2 u1 z1"),
        # Bound sets restrict; the rule's own restrict further.
        (ClusterRule("research"), "e1 e2 u1"),
        (ClusterRule("research", sets=("gpus",)), "e2 u1"),
        (ClusterRule("research", sets=("gpus", "us")), "e2 u1"),
        (ClusterRule("research", sets=("us",)), ""),
        # As in OCM: sets that are named, and Placement objects, need bindings.
        (ClusterRule("new", sets=("eu",)), ""),
        (ClusterRule("new", reference="p"), ""),
        (ClusterRule("research", reference="p"), "e1 e2 u1"),
        # Sets that always exist.
        (ClusterRule("ops"), "e1 e2 u1 z1"),
        (ClusterRule("home"), "z1"),
        # A selector that is missing chooses nothing, an empty one everything.
        (ClusterRule("odd"), ""),
        (ClusterRule("every"), "e1 e2 u1 z1"),
        (ClusterRule(sets=("eu",)), "e1 e2"),
    ],
)
def test_sets_and_bindings(rule: ClusterRule, found: str) -> None:
    assert chosen(SET_FLEET, rule, SETS) == found.split()
    if not found:
        reason, words = why(SET_FLEET, rule, "e1", SETS)
        assert reason is Reason.CLUSTER_NOT_BOUND
        assert words.endswith(f"bound to namespace {rule.namespace}")


def test_members_move_with_their_labels() -> None:
    fleet = SET_FLEET.apply([cluster("z1", {names.CLUSTER_SET: "us"})])
    assert SETS.members(fleet, "default").tolist() == [False] * 4
    assert SETS.members(fleet, "us").tolist() == [False, False, True, True]
    assert SETS.members(fleet, "unknown").tolist() == [False] * 4


def test_a_broken_set_or_binding_stops_no_other() -> None:
    sets = ClusterSets.parse(
        [
            cluster_set("good"),
            cluster_set("bad", selectorType="Regex"),
            cluster_set("worse", selectorType="LabelSelector", labelSelector={"matchExpressions": [{"key": "a"}]}),
            {"metadata": {"name": "worst"}, "spec": []},
            # The hub keeps this one as it is.
            cluster_set("global", selectorType="LabelSelector"),
        ],
        [
            binding("ns", "good"),
            binding("ns", "bad"),
            binding("ns", "nobody"),
            binding("ns", "renamed", target="good"),
            {"metadata": {"name": "x", "namespace": "ns"}, "spec": None},
        ],
    )
    assert sets.bound("ns") == ("good",)
    assert sets.sets.keys() == {"default", "global", "good"}
    assert {key: text.split(": ")[0] for key, text in sets.problems.items()} == {
        "bad": "spec.clusterSelector.selectorType",
        "worse": "spec.clusterSelector.labelSelector.matchExpressions[0].operator",
        "worst": "spec",
        "ns/bad": "spec.clusterSet",
        "ns/nobody": "spec.clusterSet",
        "ns/renamed": "spec.clusterSet",
        "ns/x": "spec.clusterSet",
    }
    assert sets.members(SET_FLEET, "global").all()


LABELS = st.dictionaries(st.sampled_from(["region", "gpu", names.CLUSTER_SET]), st.sampled_from(["eu", "us", "yes"]))
EVENTS = st.one_of(
    st.builds(
        lambda name, labels, taints, ok: cluster(name, labels, taints=taints, available=ok),
        st.sampled_from(["a", "b", "c"]),
        LABELS,
        st.lists(st.sampled_from([taint(), taint("l", effect="NoSelectIfNew"), taint("m", "x")]), max_size=2),
        st.sampled_from(["True", "True", "Unknown"]),
    ),
    st.builds(ClusterGone, st.sampled_from(["a", "b", "c"])),
)
RULES = st.builds(
    ClusterRule,
    namespace=st.sampled_from(["", "new", "research"]),
    predicates=st.lists(
        st.builds(
            Predicate,
            labels=st.lists(
                st.builds(
                    Requirement,
                    st.sampled_from(["region", "gpu"]),
                    st.sampled_from(["In", "NotIn"]),
                    st.sampled_from([("eu",), ("eu", "us")]),
                ),
                max_size=2,
            ).map(tuple),
            cel=st.sampled_from([(), ("managedCluster.metadata.labels['gpu'] == 'yes'",)]),
        ),
        max_size=2,
    ).map(tuple),
    tolerations=st.lists(
        st.builds(ClusterToleration, st.sampled_from(["k", "l", "m"]), st.just("Exists")), max_size=2
    ).map(tuple),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(EVENTS, max_size=12), st.lists(RULES, min_size=1, max_size=3))
def test_masks_kept_from_event_to_event_equal_masks_made_anew(events: list[Any], rules: list[ClusterRule]) -> None:
    fleet = Fleet.empty()
    for event in events:
        fleet = fleet.apply([event])
        for rule in rules:
            chosen(fleet, rule, SETS)
    anew = Fleet.empty().apply(events)
    for rule in rules:
        assert chosen(fleet, rule, SETS) == chosen(anew, rule, SETS)
