"""A PlacementSpec becomes a rule, or an error that names the field and says what is allowed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api.cluster import PlacementSpec
from hub.api.errors import InvalidObjectError
from hub.placement.prioritizers import scorers_for
from hub.placement.rule import ClusterRule, ClusterToleration, Predicate, Requirement, ScoreWeight
from hub.placement.rules import parse_rule
from hub.scoring.builtin import ColumnScorer, default_scorers
from hub.scoring.interface import WeightedScorer

CPU = "ResourceAllocatableCPU"


def selector(**parts: Any) -> dict[str, Any]:
    return {"predicates": [{"requiredClusterSelector": parts}]}


def labels(*expressions: dict[str, Any], **match: str) -> dict[str, Any]:
    return selector(labelSelector={"matchLabels": match, "matchExpressions": list(expressions)})


def prioritizers(*configurations: dict[str, Any], mode: str = "Additive") -> dict[str, Any]:
    return {"prioritizerPolicy": {"mode": mode, "configurations": list(configurations)}}


def built_in(name: Any, **more: Any) -> dict[str, Any]:
    return {"scoreCoordinate": {"type": "BuiltIn", "builtIn": name}, **more}


ADD_ON = {"type": "AddOn", "addOn": {"resourceName": "gpu", "scoreName": "free"}}


def test_everything_at_once() -> None:
    spec = {
        "clusterSets": ["b", "a", "b"],
        "numberOfClusters": 3,
        "predicates": [
            {
                "requiredClusterSelector": {
                    "labelSelector": {
                        "matchLabels": {"region": "eu"},
                        "matchExpressions": [{"key": "env", "operator": "In", "values": ["prod", "dev", "prod"]}],
                    },
                    "claimSelector": {"matchExpressions": [{"key": "spot", "operator": "DoesNotExist"}]},
                    "celSelector": {"celExpressions": ["managedCluster.metadata.name != 'x'"]},
                }
            },
            {},
        ],
        "tolerations": [{"key": "gpu", "operator": "Exists"}, {"key": "a", "value": "b", "tolerationSeconds": 60}],
        "prioritizerPolicy": {
            "configurations": [{"scoreCoordinate": ADD_ON, "weight": -2}, built_in(CPU)],
        },
    }
    PlacementSpec.model_validate(spec)
    assert parse_rule("ns", spec, "ref") == ClusterRule(
        namespace="ns",
        sets=("a", "b"),
        predicates=(
            Predicate(
                labels=(Requirement("env", "In", ("dev", "prod")), Requirement("region", "In", ("eu",))),
                claims=(Requirement("spot", "DoesNotExist"),),
                cel=("managedCluster.metadata.name != 'x'",),
            ),
            Predicate(),
        ),
        tolerations=(ClusterToleration("gpu", "Exists"), ClusterToleration("a", "Equal", "b", seconds=60)),
        weights=(ScoreWeight("AddOn/gpu/free", -2), ScoreWeight(CPU, 1)),
        limit=3,
        reference="ref",
    )


def test_nothing_said_is_a_rule_too() -> None:
    assert parse_rule("ns", {}) == ClusterRule(namespace="ns")
    assert parse_rule("ns", {"predicates": None, "prioritizerPolicy": None, "sortBy": "Score"}) == ClusterRule("ns")


def test_the_same_said_otherwise_is_the_same_rule() -> None:
    one = labels({"key": "b", "operator": "Exists"}, a="1")
    other = labels({"key": "a", "operator": "In", "values": ["1"]}, {"key": "b", "operator": "Exists", "values": []})
    assert hash(parse_rule("ns", one)) == hash(parse_rule("ns", other))
    assert parse_rule("ns", one) == parse_rule("ns", other)


def spread(**more: Any) -> dict[str, Any]:
    return {"spreadPolicy": {"spreadConstraints": [{"topologyKey": "zone", "topologyKeyType": "Label", **more}]}}


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ([], "placement", "is not a map"),
        ({"clusterSets": "a"}, "clusterSets", "list of names"),
        ({"clusterSets": [1]}, "clusterSets", "list of names"),
        ({"numberOfClusters": -1}, "numberOfClusters", "write 0 or more"),
        ({"numberOfClusters": "3"}, "numberOfClusters", "write 0 or more"),
        ({"numberOfClusters": True}, "numberOfClusters", "write 0 or more"),
        ({"predicates": {}}, "predicates", "is not a list"),
        ({"predicates": [7]}, "predicates[0]", "is not a map"),
        ({"predicates": [{"requiredClusterSelector": []}]}, "predicates[0].requiredClusterSelector", "is not a map"),
        (labels({"key": "a", "operator": "Like", "values": ["b"]}),
         "predicates[0].requiredClusterSelector.labelSelector.matchExpressions[0].operator",
         "write In, NotIn, Exists, DoesNotExist"),
        (labels({"key": "a", "operator": "In"}),
         "predicates[0].requiredClusterSelector.labelSelector.matchExpressions[0].values", "at least one value"),
        (labels({"key": "a", "operator": "Exists", "values": ["b"]}),
         "predicates[0].requiredClusterSelector.labelSelector.matchExpressions[0].values", "takes no values"),
        (labels({"key": "a", "operator": "In", "values": "b"}),
         "predicates[0].requiredClusterSelector.labelSelector.matchExpressions[0].values", "is not a list"),
        (labels({"operator": "Exists"}),
         "predicates[0].requiredClusterSelector.labelSelector.matchExpressions[0].key", "needs a key"),
        (selector(labelSelector={"matchLabels": {"gpus": 4}}),
         "predicates[0].requiredClusterSelector.labelSelector.matchLabels.gpus", 'in quotes, "4"'),
        (selector(claimSelector={"matchExpressions": [{"key": "a", "operator": "in"}]}),
         "predicates[0].requiredClusterSelector.claimSelector.matchExpressions[0].operator", "write In"),
        (selector(celSelector={"celExpressions": ["managedCluster.("]}),
         "predicates[0].requiredClusterSelector.celSelector.celExpressions[0]", "is not a CEL expression"),
        (selector(celSelector={"celExpressions": ["true", "nobody.here"]}),
         "predicates[0].requiredClusterSelector.celSelector.celExpressions[1]", "undeclared reference to 'nobody"),
        (selector(celSelector={"celExpressions": ["'text'"]}),
         "predicates[0].requiredClusterSelector.celSelector.celExpressions[0]", "true or false"),
        (selector(celSelector={"celExpressions": [" "]}),
         "predicates[0].requiredClusterSelector.celSelector.celExpressions[0]", "1 to 4096 characters"),
        (selector(celSelector={"celExpressions": [7]}),
         "predicates[0].requiredClusterSelector.celSelector.celExpressions", "list of expressions"),
        ({"tolerations": [{"key": "a", "operator": "Is"}]}, "tolerations[0].operator", "write Equal or Exists"),
        ({"tolerations": [{"operator": "Equal"}]}, "tolerations[0].operator", "operator must be Exists"),
        ({"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}, "tolerations[0].value", "must be empty"),
        ({"tolerations": [{"key": "a", "effect": "NoSchedule"}]}, "tolerations[0].effect",
         "NoSelect, PreferNoSelect, NoSelectIfNew"),
        ({"tolerations": [{"key": "a", "tolerationSeconds": "5"}]}, "tolerations[0].tolerationSeconds", "of seconds"),
        ({"tolerations": [{"key": 5}]}, "tolerations[0].key", "is not a string"),
        (prioritizers(mode="Bogus"), "prioritizerPolicy.mode", "write Additive or Exact"),
        (prioritizers(built_in(CPU, weight=11)), "prioritizerPolicy.configurations[0].weight", "write −10 to 10"),
        (prioritizers(built_in(CPU, weight=1.5)), "prioritizerPolicy.configurations[0].weight", "write −10 to 10"),
        (prioritizers(built_in("Spread")), "prioritizerPolicy.configurations[0].scoreCoordinate.builtIn",
         "write Balance, Steady, ResourceAllocatableCPU, ResourceAllocatableMemory"),
        (prioritizers(built_in(None)), "prioritizerPolicy.configurations[0].scoreCoordinate.builtIn", "write Balance"),
        (prioritizers(built_in("Balance")), "prioritizerPolicy.configurations[0].scoreCoordinate.builtIn",
         "compares decisions of Placements"),
        (prioritizers(built_in("Steady", weight=3)), "prioritizerPolicy.configurations[0].scoreCoordinate.builtIn",
         "compares decisions of Placements"),
        (prioritizers({"scoreCoordinate": {"type": "Other"}}),
         "prioritizerPolicy.configurations[0].scoreCoordinate.type", "BuiltIn or AddOn"),
        (prioritizers({"scoreCoordinate": {"type": "AddOn", "addOn": {"resourceName": "x"}}}),
         "prioritizerPolicy.configurations[0].scoreCoordinate.addOn", "resourceName and scoreName"),
        (prioritizers(built_in(CPU), built_in(CPU, weight=2)), "prioritizerPolicy.configurations[1].scoreCoordinate",
         "has a weight already"),
        ({"spreadPolicy": {"spreadConstraints": [{"topologyKey": "zone"}]}},
         "spreadPolicy.spreadConstraints[0].topologyKeyType", "write Label or Claim"),
        ({"spreadPolicy": {"spreadConstraints": [{"topologyKeyType": "Label"}]}},
         "spreadPolicy.spreadConstraints[0].topologyKey", "the label or claim"),
        (spread(maxSkew=0), "spreadPolicy.spreadConstraints[0].maxSkew", "write 1 or more"),
        (spread(whenUnsatisfiable="Never"), "spreadPolicy.spreadConstraints[0].whenUnsatisfiable", "DoNotSchedule"),
    ],
)  # fmt: skip
def test_what_is_refused(spec: Any, field: str, words: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        parse_rule("ns", spec)
    assert caught.value.field == field
    assert words in str(caught.value)


def test_placements_may_balance() -> None:
    spec = prioritizers(built_in("Balance", weight=2), built_in("Steady", weight=0))
    assert parse_rule("ns", spec, jobs=False).weights == (ScoreWeight("Balance", 2), ScoreWeight("Steady", 0))
    # Switched off is fine for a job, too.
    assert parse_rule("ns", prioritizers(built_in("Steady", weight=0))).weights == (ScoreWeight("Steady", 0),)


def weights(spec: dict[str, Any]) -> dict[str, float]:
    rule = parse_rule("ns", spec)
    return {entry.scorer.name: entry.weight for entry in scorers_for(rule, default_scorers())}


def test_which_scorers_count_for_a_job() -> None:
    defaults = {entry.scorer.name: entry.weight for entry in default_scorers()}
    assert weights({}) == defaults
    assert weights(prioritizers(built_in(CPU, weight=3))) == {**defaults, CPU: 3}
    add_on = {"scoreCoordinate": ADD_ON, "weight": -1}
    assert weights(prioritizers(add_on, mode="Exact")) == {"AddOn/gpu/free": -1}
    assert weights(prioritizers(mode="Exact")) == {}
    assert weights(prioritizers(built_in(CPU, weight=0))) == defaults


def test_a_weight_for_a_scorer_that_the_hub_has() -> None:
    ours = WeightedScorer(ColumnScorer("AddOn/gpu/free", "elsewhere"), 5.0)
    rule = parse_rule("ns", prioritizers({"scoreCoordinate": ADD_ON, "weight": -1}))
    assert scorers_for(rule, [ours]) == (WeightedScorer(ours.scorer, -1.0),)
    off = parse_rule("ns", prioritizers({"scoreCoordinate": ADD_ON, "weight": 0}))
    assert scorers_for(off, [ours]) == ()


def fields_of(spec: Any) -> str:
    """The field that is refused; a hashable rule has none."""
    try:
        return f"no field: {hash(parse_rule('ns', spec))}"
    except InvalidObjectError as error:
        return error.field


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["key", "operator", "values", "type", "labelSelector", "weight"]), inner)
        ),
        max_leaves=8,
    ),
    st.sampled_from(
        ["clusterSets", "numberOfClusters", "predicates", "tolerations", "prioritizerPolicy", "spreadPolicy"]
    ),
)
def test_any_value_is_a_rule_or_an_error_by_field(value: Any, part: str) -> None:
    for spec in ({part: value}, {part: [value]}, selector(labelSelector=value), prioritizers(value)):
        assert fields_of(spec)
