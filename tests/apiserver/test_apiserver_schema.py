"""Structural schemas: what is dropped, defaulted and refused, and in which words."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api.errors import InvalidObjectError
from hub.api.installed import installed_crds
from hub.api.re2 import compile_pattern
from hub.apiserver.builtin import builtin_kinds
from hub.apiserver.formats import STRING_FORMATS
from hub.apiserver.kinds import served_from_crd
from hub.apiserver.schema import compile_schema

KINDS = {
    (kind.plural, kind.version): kind
    for kind in (*builtin_kinds(), *(kind for crd in installed_crds() for kind in served_from_crd(crd)))
}
FLEET_JOBS = KINDS["fleetjobs", "v1alpha1"]


def fleet_job(**spec: Any) -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": "main", "image": "busybox", "command": ["date"]}]}}
    return {
        "apiVersion": "fleet.quarterdeck.dev/v1alpha1",
        "kind": "FleetJob",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {"template": template, **spec},
    }


def said(schema: dict[str, Any], value: Any, old: Any = None) -> list[str]:
    """The errors of one field `x` of this schema."""
    compiled = compile_schema({"type": "object", "properties": {"x": schema}})
    before = None if old is None else {"x": old}
    return [str(error) for error in compiled.admit({"x": value}, before).errors]


LIST_MAP = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
    "items": {"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer"}}},
}


@pytest.mark.parametrize(
    ("schema", "good", "bad", "error"),
    [
        ({"type": "integer"}, 1, "1", 'x: Invalid value: "string": x in body must be of type integer: "string"'),
        ({"type": "integer"}, 1.0, 1.5, 'x: Invalid value: "number": x in body must be of type integer: "number"'),
        ({"type": "integer"}, 1, True, 'x: Invalid value: "boolean": x in body must be of type integer: "boolean"'),
        (
            {"type": "integer", "format": "int32"},
            2**31 - 1,
            2**31,
            "x: Invalid value: 2147483648: x in body must be of type int32",
        ),
        (
            {"type": "integer", "minimum": 1},
            1,
            0,
            "x: Invalid value: 0: x in body should be greater than or equal to 1",
        ),
        (
            {"type": "number", "maximum": 2, "exclusiveMaximum": True},
            1.5,
            2,
            "x: Invalid value: 2: x in body should be less than 2",
        ),
        ({"type": "integer", "multipleOf": 5}, 10, 11, "x: Invalid value: 11: x in body should be a multiple of 5"),
        ({"type": "number"}, 1, math.nan, 'x: Invalid value: "number": x in body must be of type number: "number"'),
        (
            {"type": "string", "minLength": 1},
            "a",
            "",
            'x: Invalid value: "": x in body should be at least 1 chars long',
        ),
        ({"type": "string", "maxLength": 3}, "abc", "abcd", "x: Too long: may not be more than 3 bytes"),
        (
            {"type": "string", "pattern": "^[a-z]+$"},
            "abc",
            "abc\n",
            "x: Invalid value: \"abc\\n\": x in body should match '^[a-z]+$'",
        ),
        (
            {"type": "string", "enum": ["a", "b"]},
            "a",
            "c",
            'x: Unsupported value: "c": supported values: "a", "b"',
        ),
        ({"enum": [1], "type": "integer"}, 1, 2, "x: Unsupported value: 2: supported values: 1"),
        (
            {"type": "string", "format": "date-time"},
            "2026-02-28T23:59:60Z",
            "2026-02-30T00:00:00Z",
            'x: Invalid value: "2026-02-30T00:00:00Z": x in body must be of type date-time',
        ),
        (
            {"type": "array", "items": {"type": "string"}, "maxItems": 1},
            ["a"],
            ["a", "b"],
            "x: Too many: 2: must have at most 1 items",
        ),
        (
            {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            ["a", "b"],
            ["a", "a"],
            'x[1]: Duplicate value: "a"',
        ),
        (
            LIST_MAP,
            [{"name": "a"}, {"name": "b"}],
            [{"name": "a"}, {"name": "a"}],
            'x[1]: Duplicate value: {"name": "a"}',
        ),
        (
            {"type": "object", "additionalProperties": {"type": "integer"}},
            {"a.b": 1},
            {"a.b": "1"},
            'x.a.b: Invalid value: "string": x.a.b in body must be of type integer: "string"',
        ),
        (
            {"type": "object", "properties": {"y": {"type": "integer"}}, "required": ["y"]},
            {"y": 1},
            {},
            "x.y: Required value",
        ),
        (
            {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1},
            {"a": 1},
            {},
            "x: Invalid value: 0: x in body should have at least 1 properties",
        ),
        (
            {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "50%",
            1.5,
            'x: Invalid value: "number": x in body must be of type integer,string: "number"',
        ),
        (
            {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True},
            {"apiVersion": "v1", "kind": "Pod", "any": [1]},
            {"kind": "Pod"},
            "x.apiVersion: Required value: must not be empty",
        ),
    ],
)
def test_a_value_is_accepted_or_refused_in_kubernetes_words(
    schema: dict[str, Any], good: Any, bad: Any, error: str
) -> None:
    assert said(schema, good) == []
    assert said(schema, bad) == [error]


@pytest.mark.parametrize(
    ("junctor", "good", "bad"),
    [
        ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, [{"a": 1}, {"b": 1}], [{}, {"a": 1, "b": 1}]),
        ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, [{"a": 1}, {"a": 1, "b": 1}], [{}]),
        ({"not": {"required": ["a"]}}, [{}, {"b": 1}], [{"a": 1}]),
        (
            {"allOf": [{"required": ["a"]}, {"properties": {"b": {"minimum": 2}}}]},
            [{"a": 1, "b": 2}],
            [{}, {"a": 1, "b": 1}],
        ),
    ],
)
def test_junctors(junctor: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, **junctor}
    for value in good:
        assert said(schema, value) == [], value
    for value in bad:
        assert said(schema, value) != [], value


def test_pruning_keeps_what_is_described_and_lists_the_rest() -> None:
    schema = compile_schema(
        {
            "type": "object",
            "properties": {
                "a": {"type": "object", "properties": {"b": {"type": "string"}}},
                "kept": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "list": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}},
            },
        },
        root=True,
    )
    written = {
        "apiVersion": "v1",
        "kind": "X",
        "metadata": {"name": "a"},
        "a": {"b": "c", "d": 1},
        "kept": {"anything": [1, {"x": None}]},
        "list": [{"n": 1, "m": 2}],
        "e": 1,
    }
    before = copy.deepcopy(written)
    admission = schema.admit(written)
    assert written == before
    kept = {key: value for key, value in written.items() if key != "e"}
    assert admission.obj == {**kept, "a": {"b": "c"}, "list": [{"n": 1}]}
    assert admission.obj["kept"] is written["kept"]
    assert admission.unknown == ("a.d", "list[0].m", "e")


def test_defaults_reach_into_defaults_and_nulls_are_absent() -> None:
    schema = compile_schema(
        {
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object",
                    "default": {},
                    "properties": {
                        "n": {"type": "integer", "default": 3},
                        "list": {"type": "array", "items": {"type": "string"}, "default": ["a"]},
                        "may": {"type": "string", "nullable": True, "default": "x"},
                    },
                }
            },
        }
    )
    first, second = schema.admit({}).obj, schema.admit({}).obj
    assert first == {"spec": {"n": 3, "list": ["a"], "may": "x"}}
    assert first["spec"]["list"] is not second["spec"]["list"], "two objects share one default"
    assert schema.admit({"spec": {"n": None, "may": None}}).obj == {"spec": {"n": 3, "list": ["a"], "may": None}}
    required = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert said(required, {"n": None}) == ["x.n: Required value"]


def test_what_is_unchanged_is_not_held_against_a_write() -> None:
    stricter = {"type": "object", "properties": {"a": {"type": "integer", "maximum": 5}, "b": {"type": "integer"}}}
    assert said(stricter, {"a": 9, "b": 2}, old={"a": 9, "b": 1}) == []
    assert said(stricter, {"a": 8, "b": 2}, old={"a": 9, "b": 1}) != []
    assert said(stricter, {"a": 9, "b": 2}) != []


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"type": "text"}, "s.properties[x].type"),
        ({}, "s.properties[x].type"),
        ({"type": "array"}, "s.properties[x].items"),
        ({"$ref": "#/a"}, "s.properties[x].$ref"),
        ({"type": "string", "pattern": "("}, "s.properties[x].pattern"),
        ({"type": "integer", "minimum": "1"}, "s.properties[x].minimum"),
        ({"type": "string", "maxLength": -1}, "s.properties[x].maxLength"),
        ({"type": "integer", "default": "a"}, "s.properties[x].default"),
        ({"type": "string", "enum": "a"}, "s.properties[x].enum"),
        (
            {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "map"},
            "s.properties[x].x-kubernetes-list-map-keys",
        ),
        ({"type": "object", "properties": {"a": 1}}, "s.properties[x].properties[a]"),
    ],
)
def test_a_schema_that_is_not_structural_is_refused_by_field(schema: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        compile_schema({"type": "object", "properties": {"x": schema}}, where="s")
    assert field in (caught.value.field or str(caught.value))


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("^a$", "a", "a\n"),
        (r"^\d+\z", "12", "١٢"),
        ("^[[:alpha:]_]+$", "ab_", "a1"),
        ("^[$]$", "$", "a"),
        (r"^\$$", "$", "a$"),
        ("^[a[]+$", "a[", "b"),
    ],
)
def test_patterns_mean_what_re2_makes_of_them(pattern: str, matching: str, other: str) -> None:
    assert compile_pattern(pattern).search(matching)
    assert not compile_pattern(pattern).search(other)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("byte", ["", "YQ==", "YWJj"], ["YQ=", "a b"]),
        ("duration", ["1h30m", "250ms"], ["1", "abc"]),
        ("cidr", ["10.0.0.0/8", "::/0"], ["10.0.0.0", "x/8"]),
        ("uuid", ["123e4567-e89b-12d3-a456-426614174000"], ["123"]),
        ("date", ["2024-02-29"], ["2023-02-29"]),
        ("hostname", ["a.example.com"], ["-a", "a..b"]),
        ("uri", ["https://a/b", "/a"], ["nothing"]),
    ],
)
def test_formats(name: str, good: list[str], bad: list[str]) -> None:
    test = STRING_FORMATS[name]
    assert [text for text in good if not test(text)] == []
    assert [text for text in bad if test(text)] == []


def test_a_fleet_job_is_told_all_that_is_wrong_with_it() -> None:
    wrong = fleet_job(tasks=0, suspend="yes", gpu={"count": -1}, retry={"limitPerTask": 200}, colour="red")
    wrong["spec"]["template"]["spec"]["containers"].append({"name": "main"})
    admission = FLEET_JOBS.admit(wrong)
    assert [str(error) for error in admission.errors] == [
        'spec.template.spec.containers[1]: Duplicate value: {"name": "main"}',
        "spec.tasks: Invalid value: 0: spec.tasks in body should be greater than or equal to 1",
        'spec.suspend: Invalid value: "string": spec.suspend in body must be of type boolean: "string"',
        "spec.gpu.count: Invalid value: -1: spec.gpu.count in body should be greater than or equal to 0",
        "spec.retry.limitPerTask: Invalid value: 200: "
        "spec.retry.limitPerTask in body should be less than or equal to 100",
    ]
    assert admission.unknown == ("spec.colour",)
    assert FLEET_JOBS.admit(fleet_job(tasks=5)).errors == ()
    assert FLEET_JOBS.admit(fleet_job(tasks=5)).obj["spec"]["queueName"] == "default"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)
near_jobs = st.dictionaries(
    st.sampled_from(["tasks", "gpu", "retry", "template", "placement", "queueName", "nope", "suspend", "parallelism"]),
    json_values,
    max_size=5,
)


@settings(max_examples=150, deadline=None)
@given(near_jobs)
def test_admitting_is_idempotent_and_changes_nothing_in_place(spec: dict[str, Any]) -> None:
    obj = fleet_job(**spec)
    before = repr(obj)
    first = FLEET_JOBS.admit(obj)
    assert repr(obj) == before
    again = FLEET_JOBS.admit(first.obj)
    assert json.dumps(again.obj, sort_keys=True) == json.dumps(first.obj, sort_keys=True)
    assert again.unknown == ()
    assert bool(again.errors) == bool(first.errors)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(KINDS)), json_values, json_values, json_values)
def test_garbage_is_refused_and_never_breaks_anything(
    key: tuple[str, str], spec: Any, metadata: Any, status: Any
) -> None:
    kind = KINDS[key]
    obj = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec, "status": status}
    admission = kind.admit(obj, None)
    assert isinstance(admission.obj, dict)
    for error in admission.errors:
        assert error.message
    kind.admit(obj, admission.obj)
