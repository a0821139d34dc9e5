"""CEL: the language as Kubernetes has it, and rules of schemas over old and new values."""

from __future__ import annotations

from typing import Any

import pytest

from hub.api import cel
from hub.api.errors import InvalidObjectError
from hub.apiserver.schema import compile_schema

pytestmark = pytest.mark.skipif(not cel.available(), reason="cel-expr-python comes with the hub's extra")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("self.a == 1 && self.b == 'x'", {"a": 1, "b": "x"}),
        ("self.n == 1.5 && self.n > 1", {"n": 1.5}),
        ("has(self.a) && !has(self.b)", {"a": 1}),
        ("self.list.all(x, x > 0) && self.list.exists(x, x == 2)", {"list": [1, 2]}),
        ("self.list.map(x, x * 2) == [2, 4]", {"list": [1, 2]}),
        ("self.list.filter(x, x > 1).size() == 1", {"list": [1, 2]}),
        ("self.?a.?b.orValue(3) == 3", {"a": {}}),
        ("cel.bind(x, self.a + 1, x * x) == 4", {"a": 1}),
        ("self.s.matches('^[a-z]+$') && self.s.lowerAscii() == 'abc'", {"s": "abc"}),
        ("self.s.split(',')[1] == 'b'", {"s": "a,b"}),
        ("size(self.s) == 5", {"s": "héllo"}),
        ("'a' in self.m && self.m['a'] == 1", {"m": {"a": 1}}),
        ("self.map(k, k).size() == 2", {"a": 1, "b": 2}),
        ("duration('90s') == duration('1m30s')", {}),
        ("timestamp(self.t) < timestamp('2026-01-01T00:00:01Z')", {"t": "2026-01-01T00:00:00Z"}),
        ("quantity(self.q) == quantity('1024Mi')", {"q": "1Gi"}),
        (
            "quantity(self.q).isGreaterThan(quantity('500m')) && quantity('1').compareTo(quantity('2')) == -1",
            {"q": "1"},
        ),
        ("quantity('1Gi').add(quantity('1Gi')) == quantity('2Gi') && quantity('3').sub(1) == quantity('2')", {}),
        ("isQuantity('5k') && !isQuantity('5x') && quantity('5k').asInteger() == 5000", {}),
        ("quantity('500m').asApproximateFloat() == 0.5 && quantity('-1').sign() == -1", {}),
        ("self.list.sum() == 6 && self.list.min() == 1 && self.list.max() == 3", {"list": [1, 2, 3]}),
        ("self.list.isSorted() && ![2, 1].isSorted()", {"list": [1, 2]}),
        ("sets.contains(self.list, [1]) && sets.intersects(self.list, [2, 9])", {"list": [1, 2]}),
        ("sets.equivalent([1, 2], [2, 1, 1])", {}),
        ("self.s.find('[0-9]+') == '12' && self.s.findAll('[0-9]+') == ['12', '3']", {"s": "a12b3"}),
        ("isIP('10.0.0.1') && isCIDR('10.0.0.0/8') && !isIP('x')", {}),
        ("isSemver('1.2.3-rc.1') && compareVersions('1.10.0', '1.9.0') == 1 && minor_is_two", {"x": 1}),
        ("semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.2.3') == semver('1.2.3+build')", {}),
        ("semver('v1.2', true) == semver('1.2.0') && !isSemver('v1.2') && isSemver('v01.2', true)", {}),
        ("semver('1.2.3').compareTo(semver('1.2.3')) == 0 && semver('2.1.0').major() == 2", {}),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsIP(ip('11.0.0.1'))", {}),
        ("cidr('10.1.0.0/16').prefixLength() == 16 && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')", {}),
        ("ip('::1').family() == 6 && ip('127.0.0.1').isLoopback() && ip('8.8.8.8').isGlobalUnicast()", {}),
        (
            "url(self.u).getHostname() == 'a.b' && url(self.u).getPort() == '8443'",
            {"u": "https://a.b:8443/p?x=1"},
        ),
        ("url(self.u).getQuery()['x'] == ['1'] && isURL(self.u) && !isURL('a b')", {"u": "https://a.b/p?x=1"}),
        ("compareVersions('1.0.0-rc.1', '1.0.0') == -1 && '1.2.3'.major() == 1", {}),
    ],
)
def test_expressions(expression: str, value: Any) -> None:
    expression = expression.replace("minor_is_two", "'1.2.3'.minor() == 2")
    assert cel.compile_expression(expression).evaluate({"self": value}) is True


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("self.missing == 1", "no such key"),
        ("1 / self.zero == 1", "divide by zero"),
        ("quantity('x') == ''", "is not a quantity"),
        ("oldSelf.a == 1", "oldSelf"),
    ],
)
def test_expressions_without_a_value_are_errors(expression: str, words: str) -> None:
    with pytest.raises(cel.CelError, match=words):
        cel.compile_expression(expression).evaluate({"self": {"zero": 0}})


@pytest.mark.parametrize("expression", ["self.a ==", "nope(self)", "'a' + 1", "a" * 20_000])
def test_what_does_not_compile_is_an_error(expression: str) -> None:
    with pytest.raises(cel.CelError):
        cel.compile_expression(expression)


def test_an_expression_that_costs_too_much_ends() -> None:
    program = cel.compile_expression("self.all(x, self.all(y, self.all(z, x + y + z >= 0)))")
    with pytest.raises(cel.CelError, match="budget"):
        program.evaluate({"self": list(range(1000))})


def rules(*written: dict[str, Any], **schema: Any) -> dict[str, Any]:
    return {"type": "object", "x-kubernetes-validations": list(written), **schema}


def said(schema: dict[str, Any], new: Any, old: Any = None) -> list[str]:
    compiled = compile_schema({"type": "object", "properties": {"x": schema}})
    return [str(e) for e in compiled.admit({"x": new}, None if old is None else {"x": old}).errors]


NUMBERS = {"properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}


def test_a_rule_refuses_with_its_message_reason_and_field() -> None:
    rule = {"rule": "self.a < self.b", "message": "a must be less", "reason": "FieldValueForbidden", "fieldPath": ".a"}
    schema = rules(rule, **NUMBERS)
    assert said(schema, {"a": 1, "b": 2}) == []
    assert said(schema, {"a": 2, "b": 1}) == ['x.a: Invalid value: "object": a must be less']
    compiled = compile_schema({"type": "object", "properties": {"x": schema}})
    assert compiled.admit({"x": {"a": 2, "b": 1}}).errors[0].cause == "FieldValueForbidden"
    assert said(rules({"rule": "self.a < 1"}, **NUMBERS), {"a": 1}) == [
        'x: Invalid value: "object": failed rule: self.a < 1'
    ]


def test_a_message_can_be_computed_and_falls_back() -> None:
    told = {"rule": "self.a < 1", "message": "plain", "messageExpression": "'found ' + string(self.a)"}
    assert said(rules(told, **NUMBERS), {"a": 5}) == ['x: Invalid value: "object": found 5']
    broken = {"rule": "self.a < 1", "message": "plain", "messageExpression": "string(self.b)"}
    assert said(rules(broken, **NUMBERS), {"a": 5}) == ['x: Invalid value: "object": plain']


def test_a_rule_without_a_value_refuses_and_says_so() -> None:
    assert said(rules({"rule": "self.b == 1"}, **NUMBERS), {"a": 1}) == [
        'x: Invalid value: "object": rule \'self.b == 1\': no such key: "b"'
    ]


def test_transition_rules_hold_for_updates_only() -> None:
    schema = rules({"rule": "self.a == oldSelf.a", "message": "fixed"}, **NUMBERS)
    assert said(schema, {"a": 1}) == []
    assert said(schema, {"a": 1, "b": 2}, {"a": 1}) == []
    assert said(schema, {"a": 2}, {"a": 1}) == ['x: Invalid value: "object": fixed']


def test_an_optional_old_value_lets_a_rule_see_creation() -> None:
    rule = {"rule": "oldSelf.hasValue() ? self.a >= oldSelf.value().a : self.a == 0", "optionalOldSelf": True}
    schema = rules(rule, **NUMBERS)
    assert said(schema, {"a": 0}) == []
    assert said(schema, {"a": 1}) != []
    assert said(schema, {"a": 2}, {"a": 1}) == []
    assert said(schema, {"a": 1}, {"a": 2}) != []


def test_members_of_lists_are_compared_by_key_never_by_position() -> None:
    item = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "n": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.n == oldSelf.n", "message": "fixed"}],
    }
    keyed = {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    before = [{"name": "a", "n": 1}, {"name": "b", "n": 2}]
    assert said(keyed, [{"name": "b", "n": 2}, {"name": "a", "n": 1}, {"name": "c", "n": 9}], before) == []
    assert said(keyed, [{"name": "b", "n": 3}], before) == ['x[0]: Invalid value: "object": fixed']
    assert said({"type": "array", "items": item}, [{"name": "b", "n": 3}], before) == []


def test_rules_of_map_values() -> None:
    value = {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0", "message": "positive"}]}
    assert said({"type": "object", "additionalProperties": value}, {"a": 1, "b": 0}) == [
        "x.b: Invalid value: 0: positive"
    ]


def test_what_is_unchanged_is_not_judged_again() -> None:
    schema = rules({"rule": "self.a < 1", "message": "less"}, **NUMBERS)
    whole = compile_schema(
        {"type": "object", "properties": {"x": schema, "y": {"type": "integer"}}},
    )
    assert whole.admit({"x": {"a": 5}, "y": 2}, {"x": {"a": 5}, "y": 1}).errors == ()


def test_names_that_cel_keeps_for_itself_are_escaped() -> None:
    schema = rules(
        {"rule": "self.__in__ == 1 && self.a__dash__b == 2"},
        properties={"in": {"type": "integer"}, "a-b": {"type": "integer"}},
    )
    assert said(schema, {"in": 1, "a-b": 2}) == []
    assert said(schema, {"in": 2, "a-b": 2}) != []


def test_times_are_compared_when_a_rule_says_that_they_are_times() -> None:
    schema = rules(
        {"rule": "timestamp(self.end) - timestamp(self.start) <= duration('1h')", "message": "too long"},
        properties={
            "start": {"type": "string", "format": "date-time"},
            "end": {"type": "string", "format": "date-time"},
        },
    )
    assert said(schema, {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T02:00:00+01:00"}) == []
    assert said(schema, {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T02:00:00Z"}) != []


@pytest.mark.parametrize(
    "rule", [{"rule": "self.a =="}, {"rule": ""}, {}, {"rule": "true", "reason": "Because"}, "true"]
)
def test_rules_that_are_none_are_refused_by_field(rule: Any) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        compile_schema(rules(rule), where="s")
    assert caught.value.field.startswith("s.x-kubernetes-validations[0]")


def test_without_an_engine_rules_are_left_to_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cel, "available", lambda: False)
    assert said(rules({"rule": "false"}), {}) == []
