"""Server-side apply: who owns what, who is in whose way, and what goes when nobody wants it any more."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api.errors import ConflictError, RefusedError
from hub.apiserver.apply import BEFORE_FIRST_APPLY, CLIENT_SIDE_APPLY, LAST_APPLIED, apply, owners_of, track
from hub.apiserver.fieldsets import fields_of, from_fields_v1, spell, to_fields_v1
from hub.apiserver.kinds import ServedKind, served_from_crd
from hub.apiserver.topology import topology_of

SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "n": {"type": "integer"},
                "m": {"type": "integer"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "whole": {
                    "type": "object",
                    "x-kubernetes-map-type": "atomic",
                    "additionalProperties": {"type": "string"},
                },
                "plain": {"type": "array", "items": {"type": "string"}},
                "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "parts": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name", "protocol"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string"},
                            "protocol": {"type": "string", "default": "TCP"},
                            "x": {"type": "integer"},
                            "y": {"type": "integer"},
                        },
                    },
                },
            },
        },
        "status": {"type": "object", "properties": {"seen": {"type": "integer"}}},
    },
}


def kind() -> ServedKind:
    (served,) = served_from_crd(
        {
            "metadata": {"name": "things.example.com"},
            "spec": {
                "group": "example.com",
                "scope": "Namespaced",
                "names": {"plural": "things", "kind": "Thing"},
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": SCHEMA},
                        "subresources": {"status": {}},
                    }
                ],
            },
        }
    )
    return served


THING = kind()
NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"


def thing(spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    obj: dict[str, Any] = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a", **metadata}}
    return obj if spec is None else {**obj, "spec": spec}


def stored(
    live: dict[str, Any] | None,
    config: dict[str, Any],
    manager: str = "one",
    *,
    force: bool = False,
    now: str = NOW,
    subresource: str = "",
) -> dict[str, Any]:
    """What a server would store: applied, then admitted; the original is looked after."""
    before = copy.deepcopy(live)
    applied = apply(THING, live, config, manager=manager, force=force, now=now, subresource=subresource)
    assert live == before
    admission = THING.admit(applied, live)
    assert admission.errors == ()
    return admission.obj


def owned(obj: dict[str, Any], manager: str) -> set[str]:
    return {spell(f) for owner in owners_of(obj["metadata"]) if owner.manager == manager for f in owner.fields}


def test_what_is_applied_is_owned_and_merged() -> None:
    first = stored(None, thing({"n": 1, "labels": {"a": "1"}}, labels={"x": "y"}), "one")
    both = stored(first, thing({"m": 2, "labels": {"b": "2"}}), "two")
    assert both["spec"] == {"n": 1, "m": 2, "labels": {"a": "1", "b": "2"}}
    assert owned(both, "one") == {".metadata.labels.x", ".spec.n", ".spec.labels.a"}
    assert owned(both, "two") == {".spec.m", ".spec.labels.b"}


def test_applying_again_changes_nothing_times_included() -> None:
    config = thing({"n": 1, "parts": [{"name": "a", "x": 1}], "set": ["b", "a"]}, labels={"x": "y"})
    first = stored(None, config)
    assert stored(first, config, now=LATER) == first


def test_a_field_of_another_owner_is_a_conflict_that_names_them() -> None:
    live = stored(None, thing({"n": 1, "m": 1}), "one")
    with pytest.raises(ConflictError) as caught:
        stored(live, thing({"n": 2, "m": 1}), "two")
    assert str(caught.value) == 'Apply failed with 1 conflict: conflict with "one": .spec.n'
    assert caught.value.status["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".spec.n"}
    ]
    with pytest.raises(ConflictError, match="2 conflicts") as caught:
        stored(live, thing({"n": 2, "m": 2}), "two")
    assert str(caught.value).endswith('conflicts with "one":\n- .spec.m\n- .spec.n')


def test_force_takes_the_field() -> None:
    live = stored(None, thing({"n": 1, "m": 1}), "one")
    taken = stored(live, thing({"n": 2}), "two", force=True)
    assert taken["spec"] == {"n": 2, "m": 1}
    assert owned(taken, "one") == {".spec.m"}
    assert owned(taken, "two") == {".spec.n"}


def test_the_same_value_is_shared() -> None:
    live = stored(stored(None, thing({"n": 1}), "one"), thing({"n": 1}), "two")
    assert owned(live, "one") == owned(live, "two") == {".spec.n"}
    left = stored(live, thing({}), "one")
    assert left["spec"] == {"n": 1}, "the other still wants it"
    assert stored(left, thing({}), "two").get("spec", {}) == {}


def test_what_a_manager_no_longer_wants_goes_and_what_empties_with_it() -> None:
    live = stored(None, thing({"n": 1, "labels": {"a": "1"}, "parts": [{"name": "a"}], "set": ["x"]}), "one")
    assert stored(live, thing({"n": 1}), "one")["spec"] == {"n": 1}


def test_members_of_keyed_lists_are_owned_one_by_one() -> None:
    live = stored(None, thing({"parts": [{"name": "a", "x": 1}, {"name": "b", "x": 2}]}), "one")
    live = stored(live, thing({"parts": [{"name": "a", "y": 5}, {"name": "c", "y": 6}]}), "two")
    by_name = {part["name"]: part for part in live["spec"]["parts"]}
    assert by_name["a"] == {"name": "a", "x": 1, "y": 5, "protocol": "TCP"}
    live = stored(live, thing({"parts": [{"name": "b", "x": 2}]}), "one")
    assert {part["name"]: part.get("x") for part in live["spec"]["parts"]} == {"a": None, "b": 2, "c": None}
    live = stored(live, thing({"parts": [{"name": "c", "y": 6}]}), "two")
    assert sorted(part["name"] for part in live["spec"]["parts"]) == ["b", "c"]


def test_a_key_that_is_left_out_has_its_default() -> None:
    live = stored(None, thing({"parts": [{"name": "a", "x": 1}]}), "one")
    live = stored(live, thing({"parts": [{"name": "a", "protocol": "TCP", "y": 1}]}), "two")
    assert len(live["spec"]["parts"]) == 1
    assert {word for owner in owners_of(live["metadata"]) for f in owner.fields for word in f if word[0] == "k"} == {
        'k:{"name":"a","protocol":"TCP"}'
    }


def test_sets_are_united_and_whole_things_are_one_piece() -> None:
    live = stored(None, thing({"set": ["a"], "whole": {"a": "1"}, "plain": ["x"]}), "one")
    both = stored(live, thing({"set": ["b"]}), "two")
    assert sorted(both["spec"]["set"]) == ["a", "b"]
    for part in ({"whole": {"b": "2"}}, {"plain": ["y"]}):
        with pytest.raises(ConflictError):
            stored(both, thing(part), "two")


def test_status_is_owned_through_its_subresource_only() -> None:
    live = stored(None, {**thing({"n": 1}), "status": {"seen": 1}}, "one")
    assert owned(live, "one") == {".spec.n"}
    said = stored(live, {**thing({"n": 5}), "status": {"seen": 1}}, "one", subresource="status")
    assert said["spec"] == {"n": 1}
    assert said["status"] == {"seen": 1}
    entries = [(o.manager, o.subresource) for o in owners_of(said["metadata"])]
    assert sorted(entries) == [("one", ""), ("one", "status")]


def test_what_was_there_before_the_first_apply_has_an_owner() -> None:
    live = thing({"n": 1}, creationTimestamp=NOW, uid="u", resourceVersion="1")
    with pytest.raises(ConflictError, match=f'"{BEFORE_FIRST_APPLY}" using example.com/v1 at {NOW}: .spec.n'):
        stored(live, thing({"n": 2}))
    same = stored(live, thing({"n": 1, "m": 2}))
    assert owned(same, BEFORE_FIRST_APPLY) == {".spec.n"}


def test_kubectl_goes_on_from_its_client_side_apply() -> None:
    live = thing({"n": 1, "m": 5}, annotations={LAST_APPLIED: json.dumps(thing({"n": 1}))}, labels={"by": "others"})
    applied = stored(live, thing({"n": 2}), "kubectl")
    assert applied["spec"] == {"n": 2, "m": 5}
    # What it gives to kubectl's server-side self, once that has applied, is not what others wrote.
    assert owned(applied, CLIENT_SIDE_APPLY) == {f".metadata.annotations.{LAST_APPLIED}"}
    assert owned(applied, BEFORE_FIRST_APPLY) == {".spec.m", ".metadata.labels.by"}
    with pytest.raises(ConflictError):
        stored(live, thing({"n": 2}), "other")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**thing({}), "kind": "Other"}, "expected Thing"),
        ({**thing({}), "apiVersion": "example.com/v2"}, "expected example.com/v1"),
        ({"apiVersion": "example.com/v1", "kind": "Thing"}, "needs metadata"),
        (thing({}, managedFields=[{"manager": "x"}]), "managedFields must be nil"),
        (thing({"nope": 1}), r"\.spec\.nope: field not declared in schema"),
        (thing({"set": ["a", "a"]}), "duplicate"),
        (thing({"parts": [{"name": "a"}, {"name": "a", "protocol": "TCP"}]}), "duplicate"),
    ],
)
def test_configurations_that_cannot_be_applied(config: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        stored(None, config)
    with pytest.raises(RefusedError, match="fieldManager is required"):
        apply(THING, None, thing({}), manager="", force=False, now=NOW)


def test_other_writes_move_what_they_change() -> None:
    live = stored(None, thing({"n": 1, "m": 1}), "one")
    edited = {**live, "spec": {"n": 2, "labels": {"a": "1"}}}
    tracked = track(THING, live, edited, manager="kubectl-edit", now=LATER)
    assert tracked is not None
    result = {**edited, "metadata": {**live["metadata"], "managedFields": tracked}}
    assert owned(result, "one") == set(), "m is gone, n is somebody else's"
    assert owned(result, "kubectl-edit") == {".spec.n", ".spec.labels.a"}
    assert track(THING, result, result, manager="kubectl-edit", now="2027-01-01T00:00:00Z") == tracked


def test_writes_keep_no_record_of_what_was_never_applied() -> None:
    assert track(THING, thing({"n": 1}), thing({"n": 2}), manager="x", now=NOW) is None
    live = stored(None, thing({"n": 1}), "one")
    cleared = {**live, "metadata": {**live["metadata"], "managedFields": [{}]}}
    assert track(THING, live, cleared, manager="x", now=NOW) is None
    careless = {**live, "metadata": {**live["metadata"], "managedFields": []}}
    assert track(THING, live, careless, manager="x", now=NOW) == live["metadata"]["managedFields"]


def test_fields_survive_their_written_form() -> None:
    fields = fields_of(thing({"parts": [{"name": "a", "x": 1}], "set": ["é"], "labels": {}}), topology_of(THING))
    assert from_fields_v1(json.loads(json.dumps(to_fields_v1(fields)))) == fields
    assert from_fields_v1({"f:a": {"nonsense": 1}, "x": [], "f:b": None}) == frozenset({("f:a",)}) - {("f:a",)}


letters = st.sampled_from("abc")
specs = st.fixed_dictionaries(
    {},
    optional={
        "n": st.integers(0, 3),
        "m": st.integers(0, 3),
        "labels": st.dictionaries(letters, letters, max_size=3),
        "whole": st.dictionaries(letters, letters, max_size=2),
        "plain": st.lists(letters, max_size=2),
        "set": st.lists(letters, max_size=3, unique=True),
        "parts": st.lists(
            st.fixed_dictionaries({"name": letters}, optional={"x": st.integers(0, 3), "y": st.integers(0, 3)}),
            max_size=3,
            unique_by=lambda part: part["name"],
        ),
    },
)
histories = st.lists(st.tuples(st.sampled_from(["one", "two", "three"]), specs), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(histories)
def test_any_history_of_applies_ends_with_what_its_managers_want(history: list[tuple[str, dict[str, Any]]]) -> None:
    live: dict[str, Any] | None = None
    for manager, spec in history:
        live = stored(live, thing(spec), manager, force=True)
        # Applied again, it changes nothing.
        assert stored(live, thing(spec), manager, force=True, now=LATER) == live
        # What the manager wants is there.
        wanted = THING.admit(thing(spec)).obj
        node = topology_of(THING)
        assert fields_of({"spec": spec}, node) <= fields_of({"spec": live.get("spec", {})}, node) | fields_of(
            {"spec": wanted.get("spec", {})}, node
        )
        for name in ("n", "m", "whole", "plain"):
            if name in spec:
                assert live["spec"][name] == spec[name]
    assert live is not None
    # Everything that is there is somebody's, but for defaults.
    everybody = frozenset().union(*(owner.fields for owner in owners_of(live["metadata"])))
    left = fields_of({"spec": live.get("spec", {})}, topology_of(THING)) - everybody
    assert {field for field in left if field[-1] != "f:protocol" and field != ("f:spec",)} == set()
    # And when nobody wants anything, nothing is left of it.
    for manager in ("one", "two", "three"):
        live = stored(live, thing(), manager)
    assert live.get("spec", {}) == {}
    assert "managedFields" not in live["metadata"]
