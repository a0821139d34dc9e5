"""JSON patches and strategic merge patches: the formats' own laws and directives."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api.mergepatch import create_merge_patch
from hub.apiserver.builtin import builtin_registry
from hub.apiserver.jsonpatch import (
    InvalidPatchError,
    PatchFailedError,
    PatchTestFailedError,
    apply_json_patch,
)
from hub.apiserver.patching import merge_patch
from hub.apiserver.strategic import StrategicPatchError, apply_strategic_patch

DOCUMENT: dict[str, Any] = {"a": {"b": [1, 2, 3]}, "c/d": "x", "e~f": None}


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ([{"op": "add", "path": "/g", "value": 1}], {**DOCUMENT, "g": 1}),
        ([{"op": "add", "path": "/a/b/1", "value": 9}], {**DOCUMENT, "a": {"b": [1, 9, 2, 3]}}),
        ([{"op": "add", "path": "/a/b/-", "value": 9}], {**DOCUMENT, "a": {"b": [1, 2, 3, 9]}}),
        ([{"op": "add", "path": "/a/b/3", "value": 9}], {**DOCUMENT, "a": {"b": [1, 2, 3, 9]}}),
        ([{"op": "add", "path": "", "value": {"x": 1}}], {"x": 1}),
        ([{"op": "remove", "path": "/a/b/0"}], {**DOCUMENT, "a": {"b": [2, 3]}}),
        ([{"op": "remove", "path": "/c~1d"}], {"a": {"b": [1, 2, 3]}, "e~f": None}),
        ([{"op": "replace", "path": "/e~0f", "value": 2}], {**DOCUMENT, "e~f": 2}),
        ([{"op": "move", "from": "/c~1d", "path": "/a/z"}], {"a": {"b": [1, 2, 3], "z": "x"}, "e~f": None}),
        ([{"op": "copy", "from": "/a/b", "path": "/g"}], {**DOCUMENT, "g": [1, 2, 3]}),
        (
            [{"op": "test", "path": "/a/b", "value": [1, 2, 3]}, {"op": "remove", "path": "/a"}],
            {"c/d": "x", "e~f": None},
        ),
        ([{"op": "test", "path": "/e~0f", "value": None}], DOCUMENT),
    ],
)
def test_json_patch_operations(operations: list[dict[str, Any]], result: Any) -> None:
    before = copy.deepcopy(DOCUMENT)
    assert apply_json_patch(DOCUMENT, operations) == result
    assert before == DOCUMENT


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/nothing"},
        {"op": "remove", "path": ""},
        {"op": "replace", "path": "/nothing", "value": 1},
        {"op": "add", "path": "/nothing/x", "value": 1},
        {"op": "add", "path": "/a/b/4", "value": 1},
        {"op": "replace", "path": "/a/b/-", "value": 1},
        {"op": "remove", "path": "/a/b/01"},
        {"op": "remove", "path": "/a/b/-1"},
        {"op": "add", "path": "/c~1d/x", "value": 1},
        {"op": "move", "from": "/a", "path": "/a/b/0"},
        {"op": "copy", "from": "/nothing", "path": "/x"},
        {"op": "test", "path": "/a/b", "value": [1, 2]},
        {"op": "test", "path": "/nothing", "value": None},
    ],
)
def test_a_patch_that_does_not_apply(operation: dict[str, Any]) -> None:
    with pytest.raises(PatchFailedError):
        apply_json_patch(DOCUMENT, [operation])


def test_a_failed_test_is_told_from_other_failures() -> None:
    with pytest.raises(PatchTestFailedError, match="/metadata/resourceVersion"):
        apply_json_patch(
            {"metadata": {"resourceVersion": "2"}}, [{"op": "test", "path": "/metadata/resourceVersion", "value": "1"}]
        )
    with pytest.raises(PatchTestFailedError):
        apply_json_patch({"a": True}, [{"op": "test", "path": "/a", "value": 1}])


@pytest.mark.parametrize(
    "patch",
    [
        {"op": "add"},
        ["x"],
        [{"op": "jump", "path": "/a"}],
        [{"op": "add", "path": "/a"}],
        [{"op": "add", "path": "a", "value": 1}],
        [{"op": "remove"}],
        [{"op": "move", "path": "/a"}],
        [{"op": "remove", "path": "/a"}] * 10_001,
    ],
)
def test_what_is_no_json_patch(patch: Any) -> None:
    with pytest.raises(InvalidPatchError):
        apply_json_patch(DOCUMENT, patch)


def test_copies_that_double_a_document_are_bounded() -> None:
    doubling = [{"op": "copy", "from": "/x", "path": f"/x/{n}"} for n in range(40)]
    with pytest.raises(PatchFailedError, match="copies"):
        apply_json_patch({"x": {"text": "y" * 1000}}, doubling)


values = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=10,
)
objects = st.dictionaries(st.text("abc", max_size=2), values, max_size=4)


@settings(max_examples=80, deadline=None)
@given(objects, objects)
def test_a_merge_patch_leads_from_one_object_to_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    patch = create_merge_patch(old, new)
    before = json.dumps(old)
    assert json.dumps(merge_patch(old, patch or {}), sort_keys=True) == json.dumps(new, sort_keys=True)
    assert json.dumps(old) == before


@settings(max_examples=80, deadline=None)
@given(objects, objects)
def test_a_merge_patch_applied_twice_changes_nothing_more(old: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merge_patch(old, patch)
    assert merge_patch(once, patch) == once


pointers = st.lists(st.sampled_from(["a", "b", "ab", "", "0", "1", "-"]), max_size=3).map(
    lambda parts: "".join("/" + part for part in parts)
)
operations = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "jump"]), "path": pointers},
    optional={"value": values, "from": pointers},
)


@settings(max_examples=120, deadline=None)
@given(objects, st.lists(operations, max_size=4))
def test_any_json_patch_applies_or_is_refused_and_leaves_the_original(
    document: dict[str, Any], patch: list[dict[str, Any]]
) -> None:
    before = json.dumps(document)
    with contextlib.suppress(InvalidPatchError, PatchFailedError):
        apply_json_patch(document, patch)
    assert json.dumps(document) == before


@settings(max_examples=80, deadline=None)
@given(objects, values)
def test_what_was_added_can_be_tested_and_removed(document: dict[str, Any], value: Any) -> None:
    added = apply_json_patch(
        document, [{"op": "add", "path": "/new", "value": value}, {"op": "test", "path": "/new", "value": value}]
    )
    assert apply_json_patch(added, [{"op": "remove", "path": "/new"}]) == document


PODS = builtin_registry().find("", "v1", "pods")
assert PODS is not None
SCHEMA = PODS.openapi


def pod(**more: Any) -> dict[str, Any]:
    containers = [{"name": "a", "image": "x", "env": [{"name": "A", "value": "1"}]}, {"name": "b", "image": "y"}]
    return {"metadata": {"name": "p", "finalizers": ["f/1", "f/2"]}, "spec": {"containers": containers, **more}}


@pytest.mark.parametrize(
    ("patch", "containers"),
    [
        ({"containers": [{"name": "b", "image": "z"}]}, [("a", "x"), ("b", "z")]),
        ({"containers": [{"name": "c", "image": "z"}]}, [("a", "x"), ("b", "y"), ("c", "z")]),
        ({"containers": [{"name": "a", "$patch": "delete"}]}, [("b", "y")]),
        ({"containers": [{"$patch": "replace"}, {"name": "c", "image": "z"}]}, [("c", "z")]),
        (
            {
                "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
                "containers": [{"name": "a", "image": "z"}],
            },
            [("b", "y"), ("a", "z")],
        ),
        (
            {
                "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
                "containers": [{"name": "c", "image": "z"}],
            },
            [("c", "z"), ("a", "x"), ("b", "y")],
        ),
    ],
)
def test_lists_are_merged_by_key(patch: dict[str, Any], containers: list[tuple[str, str]]) -> None:
    before = pod()
    patched = apply_strategic_patch(before, {"spec": patch}, SCHEMA)
    assert [(c["name"], c["image"]) for c in patched["spec"]["containers"]] == containers
    assert before == pod()


def test_lists_inside_of_merged_members_are_merged_too() -> None:
    env = [{"name": "B", "value": "2"}, {"name": "A", "value": None}]
    patched = apply_strategic_patch(pod(), {"spec": {"containers": [{"name": "a", "env": env}]}}, SCHEMA)
    assert patched["spec"]["containers"][0] == {
        "name": "a",
        "image": "x",
        "env": [{"name": "A"}, {"name": "B", "value": "2"}],
    }


def test_lists_without_a_key_are_replaced() -> None:
    patched = apply_strategic_patch(pod(tolerations=[{"key": "a"}]), {"spec": {"tolerations": [{"key": "b"}]}}, SCHEMA)
    assert patched["spec"]["tolerations"] == [{"key": "b"}]


def test_primitive_lists_are_united_and_can_lose_members() -> None:
    patch = {"metadata": {"finalizers": ["f/3", "f/1"], "$deleteFromPrimitiveList/finalizers": ["f/2"]}}
    assert apply_strategic_patch(pod(), patch, SCHEMA)["metadata"]["finalizers"] == ["f/1", "f/3"]


def test_directives_of_objects() -> None:
    before = pod(nodeSelector={"a": "1", "b": "2"})
    replaced = apply_strategic_patch(before, {"spec": {"nodeSelector": {"$patch": "replace", "c": "3"}}}, SCHEMA)
    assert replaced["spec"]["nodeSelector"] == {"c": "3"}
    deleted = apply_strategic_patch(before, {"spec": {"nodeSelector": {"$patch": "delete"}}}, SCHEMA)
    assert "nodeSelector" not in deleted["spec"]
    kept = apply_strategic_patch(before, {"spec": {"nodeSelector": {"$retainKeys": ["b", "c"], "c": "3"}}}, SCHEMA)
    assert kept["spec"]["nodeSelector"] == {"b": "2", "c": "3"}
    merged = apply_strategic_patch(before, {"spec": {"nodeSelector": {"a": None, "d": "4"}}}, SCHEMA)
    assert merged["spec"]["nodeSelector"] == {"b": "2", "d": "4"}


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({"spec": {"containers": [{"image": "z"}]}}, "spec.containers[0]"),
        ({"spec": {"containers": ["z"]}}, "spec.containers[0]"),
        ({"spec": {"$patch": "jump"}}, "spec.$patch"),
        ({"spec": {"$retainKeys": "a"}}, "spec.$retainKeys"),
    ],
)
def test_strategic_patches_that_make_no_sense(patch: Any, field: str) -> None:
    with pytest.raises(StrategicPatchError) as caught:
        apply_strategic_patch(pod(), patch, SCHEMA)
    assert caught.value.field == field


directives = st.dictionaries(
    st.sampled_from(
        [
            "spec",
            "containers",
            "name",
            "image",
            "env",
            "$patch",
            "$retainKeys",
            "$setElementOrder/containers",
            "metadata",
        ]
    ),
    st.recursive(
        st.none() | st.sampled_from(["delete", "replace", "merge", "a"]),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(["containers", "name", "$patch", "env", "finalizers"]), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


@settings(max_examples=120, deadline=None)
@given(directives)
def test_any_strategic_patch_applies_or_is_refused_and_leaves_no_directive(patch: dict[str, Any]) -> None:
    try:
        patched = apply_strategic_patch(pod(), patch, SCHEMA)
    except StrategicPatchError:
        return
    assert "$" not in json.dumps(patched)
