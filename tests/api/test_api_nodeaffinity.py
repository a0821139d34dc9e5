"""Required node affinity: what each operator means, what is refused by field, and that order of writing is nothing."""

from __future__ import annotations

from typing import Any

import pytest

from hub.api.errors import InvalidObjectError
from hub.api.nodeaffinity import NAMED_BYTES, NodeRequirement, nameable, required_terms, term_holds


def affinity(*terms: Any) -> dict[str, Any]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def line(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator} | ({"values": list(values)} if values else {})


def of(*lines: dict[str, Any]) -> dict[str, Any]:
    return {"matchExpressions": list(lines)}


@pytest.mark.parametrize(
    ("operator", "values", "holds_for"),
    [
        ("In", ("a", "7"), {"a", "7"}),
        ("NotIn", ("a",), {None, "7", "-3", "x9", "9223372036854775808"}),
        ("Exists", (), {"a", "7", "-3", "x9", "9223372036854775808"}),
        ("DoesNotExist", (), {None}),
        ("Gt", ("-4",), {"7", "-3"}),
        ("Lt", ("7",), {"-3"}),
        ("Lt", ("+8",), {"-3", "7"}),
    ],
)
def test_operators(operator: str, values: tuple[str, ...], holds_for: set[str | None]) -> None:
    found = (None, "a", "7", "-3", "x9", "9223372036854775808")
    requirement = NodeRequirement("k", operator, values)
    assert {value for value in found if requirement.holds(value)} == holds_for


def test_terms_are_alternatives_and_lines_are_not() -> None:
    terms = required_terms(
        affinity(of(line("a", "Exists"), line("b", "In", "1")), of(line("c", "In", "2"))), "affinity"
    )
    labels: list[tuple[dict[str, str], bool]] = [({"a": "", "b": "1"}, True), ({"a": ""}, False), ({"c": "2"}, True)]
    for found, holds in labels:
        assert any(term_holds(term, found) for term in terms) == holds


def test_a_term_without_lines_holds_nowhere() -> None:
    assert required_terms(affinity({}), "affinity") == ((),)
    assert not term_holds((), {"a": "b"}, "n")


@pytest.mark.parametrize("absent", [None, {}, {"nodeAffinity": None}, {"nodeAffinity": {}}, {"podAffinity": {}}])
def test_nothing_is_required(absent: Any) -> None:
    assert required_terms(absent, "affinity") == ()


def test_only_names_of_nodes_are_fields() -> None:
    (term,) = required_terms(affinity({"matchFields": [line("metadata.name", "In", "n1")]}), "affinity")
    assert [term_holds(term, {"metadata.name": "n1"}, name) for name in ("n1", "n2", None)] == [True, False, False]
    (term,) = required_terms(affinity({"matchFields": [line("metadata.name", "NotIn", "n1")]}), "affinity")
    assert [term_holds(term, {}, name) for name in ("n1", "n2", None)] == [False, True, True]


def test_order_of_writing_makes_no_difference() -> None:
    a, b = line("a", "In", "1", "2"), line("b", "Exists")
    one = required_terms(affinity(of(a, b), of(b)), "affinity")
    assert one == required_terms(affinity(of(b), of(b, line("a", "In", "2", "1", "2")), of(b)), "affinity")


@pytest.mark.parametrize(
    ("written", "field"),
    [
        ([], "affinity"),
        ({"nodeAffinity": 3}, "affinity.nodeAffinity"),
        (affinity(), "nodeSelectorTerms"),
        (affinity("x"), "nodeSelectorTerms[0]"),
        (affinity({"matchExpressions": {}}), "matchExpressions"),
        (affinity(of(line("", "Exists"))), "matchExpressions[0].key"),
        (affinity(of(line("k", "Near", "1"))), "matchExpressions[0].operator"),
        (affinity(of(line("k", "In"))), "matchExpressions[0].values"),
        (affinity(of(line("k", "Exists", "v"))), "matchExpressions[0].values"),
        (affinity(of(line("k", "Gt", "1", "2"))), "matchExpressions[0].values"),
        (affinity(of(line("k", "Gt", "--1"))), "matchExpressions[0].values"),
        (affinity(of(line("k", "Lt", "9223372036854775808"))), "matchExpressions[0].values"),
        (affinity(of({"key": "k", "operator": "In", "values": "v"})), "matchExpressions[0].values"),
        (affinity({"matchFields": [line("metadata.name", "In", "a", "b")]}), "matchFields[0]"),
        (affinity({"matchFields": [line("spec.unschedulable", "In", "true")]}), "matchFields[0]"),
    ],
)
def test_what_an_api_server_would_not_take_is_refused_by_field(written: Any, field: str) -> None:
    if written == []:
        written = ["not a map"]
    with pytest.raises(InvalidObjectError) as caught:
        required_terms(written, "affinity")
    assert caught.value.field.endswith(field)


def test_many_names_are_too_many_to_report() -> None:
    assert nameable(f"node-{n}" for n in range(1000))
    assert not nameable("x" * 61 for _ in range(NAMED_BYTES // 64 + 1))
