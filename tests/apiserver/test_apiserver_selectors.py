"""Label and field selectors: every operator, what absent labels mean, and what cannot be read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api.errors import InvalidObjectError
from hub.apiserver.selectors import label_selector_of, parse_field_selector, parse_label_selector

LABELS = {"app": "web", "tier": "front", "example.com/x": "1", "n": "10"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web , tier = front", True),
        ("app=web,tier=back", False),
        ("app!=web", False),
        ("missing!=web", True),
        ("app in (web, api)", True),
        ("app in (api)", False),
        ("missing in (web)", False),
        ("app notin (api,db)", True),
        ("app notin (web)", False),
        ("missing notin (web)", True),
        ("app", True),
        ("missing", False),
        ("!app", False),
        ("!missing", True),
        ("n>9", True),
        ("n>10", False),
        ("n<11", True),
        ("app>1", False),
        ("missing<5", False),
        ("example.com/x=1", True),
        ("app=", False),
        ("missing=", False),
        ("app in (web),!missing,n>1", True),
    ],
)
def test_label_selectors(text: str, holds: bool) -> None:
    assert parse_label_selector(text).matches(LABELS) is holds


def test_a_label_without_a_value_equals_the_empty_text() -> None:
    assert parse_label_selector("a=").matches({"a": ""})
    assert parse_label_selector("a in (,b)").matches({"a": ""})


@pytest.mark.parametrize(
    "text",
    [
        "=a",
        "a b",
        "a in",
        "a in (b",
        "a in b",
        "a,",
        ",a",
        "a=b=c",
        "a>x",
        "a==!b",
        "a/b/c=d",
        "-a=b",
        "a=b c",
        "a in ()x",
        "!",
    ],
)
def test_label_selectors_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InvalidObjectError, match="label selector"):
        parse_label_selector(text)


def test_what_an_index_can_answer() -> None:
    selector = parse_label_selector("a=b,c in (d),e in (f,g),h!=i")
    assert selector.equalities() == {"a": "b", "c": "d"}
    assert parse_label_selector(" ").everything


@pytest.mark.parametrize(
    ("selector", "holds"),
    [
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "api"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_written_selectors(selector: dict[str, Any], holds: bool) -> None:
    assert label_selector_of(selector).matches(LABELS) is holds


@pytest.mark.parametrize(
    "selector",
    [
        None,
        {"matchExpressions": [{"key": "a", "operator": "Near"}]},
        {"matchExpressions": [{"key": "a", "operator": "In"}]},
        {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]},
    ],
)
def test_written_selectors_that_make_no_sense(selector: Any) -> None:
    with pytest.raises(InvalidObjectError):
        label_selector_of(selector)


POD = {
    "metadata": {"name": "a", "namespace": "b"},
    "spec": {"nodeName": "n1", "hostNetwork": True},
    "status": {"phase": "Running"},
}
PATHS = ("status.phase", "spec.nodeName", "spec.hostNetwork")


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("metadata.name=a", True),
        ("metadata.name==a,metadata.namespace=b", True),
        ("metadata.name!=a", False),
        ("status.phase!=Succeeded,status.phase!=Failed", True),
        ("spec.nodeName=n1", True),
        ("spec.hostNetwork=true", True),
        ("spec.nodeName=", False),
    ],
)
def test_field_selectors(text: str, holds: bool) -> None:
    assert parse_field_selector(text, PATHS).matches(POD) is holds


def test_an_absent_field_is_the_empty_text() -> None:
    assert parse_field_selector("spec.nodeName=", PATHS).matches({"metadata": {}, "spec": {}})


def test_field_selectors_know_when_names_are_all_they_ask() -> None:
    selector = parse_field_selector("metadata.name=a,metadata.namespace!=b", PATHS)
    assert (selector.name, selector.namespace, selector.of_metadata) == ("a", None, True)
    assert not parse_field_selector("status.phase=a", PATHS).of_metadata


def test_values_may_hold_commas_when_escaped() -> None:
    selector = parse_field_selector(r"status.phase=a\,b\=c", PATHS)
    assert selector.matches({"status": {"phase": "a,b=c"}})


def test_fields_that_cannot_be_selected_are_named_with_those_that_can() -> None:
    with pytest.raises(InvalidObjectError, match=r"field label not supported: spec\.x") as caught:
        parse_field_selector("spec.x=1", PATHS)
    assert "status.phase" in caught.value.hint
    with pytest.raises(InvalidObjectError):
        parse_field_selector("metadata.name", PATHS)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab=!<>(),in notx/. \\1", max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_label_selector, lambda text: parse_field_selector(text, PATHS)):
        try:
            selector = parse(text)  # type: ignore[no-untyped-call]
        except InvalidObjectError:
            continue
        selector.matches(LABELS)
