"""x-kubernetes-validations: CEL rules where a schema has them, evaluated on what changed.

A rule over `oldSelf` holds for updates only, and only where the old value is known: members of lists by their keys,
never by position. What equals its old value is not evaluated again. Times and bytes are text to a rule: it writes
``timestamp(self.start)``, which Kubernetes takes as well. How CEL is run is in hub/api/cel.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hub.api import cel
from hub.api.errors import InvalidObjectError
from hub.api.frozen import freeze
from hub.apiserver.constraints import Path, spell
from hub.apiserver.invalid import Cause, FieldError, show, type_name

_CAUSES: Final[tuple[Cause, ...]] = (
    "FieldValueInvalid",
    "FieldValueRequired",
    "FieldValueDuplicate",
    "FieldValueForbidden",
)
_OLD = re.compile(r"\boldSelf\b")
_ESCAPED = re.compile(r"__")
# Names that CEL's grammar keeps for itself.
_KEYWORDS: Final = frozenset(
    (
        *("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if"),
        *("import", "let", "loop", "package", "namespace", "return", "var", "void", "while"),
    )
)
View = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Rule:
    program: cel.Program
    message: str
    message_program: cel.Program | None
    cause: Cause
    field_path: str
    transition: bool
    optional_old: bool
    view: View | None

    def problem(self, new: Any, old: Any, bound: cel.Bound, path: Path) -> FieldError | None:
        """`bound` has both as they are, for all rules that need no view of their own."""
        if self.transition and old is None and not self.optional_old:
            return None
        values = bound
        if self.view is not None:
            values = cel.Bound({"self": self.view(new), "oldSelf": None if old is None else self.view(old)})
        where = spell(path) + self.field_path
        try:
            holds = self.program.evaluate(values)
        except cel.CelError as error:
            return FieldError(where, f"Invalid value: {_shown(new)}: rule {self.program.text!r}: {error}")
        if holds is True:
            return None
        return FieldError(where, f"Invalid value: {_shown(new)}: {self._message(values)}", self.cause)

    def _message(self, values: cel.Bound) -> str:
        if self.message_program is not None:
            try:
                message = self.message_program.evaluate(values)
            except cel.CelError:
                message = None
            if isinstance(message, str) and message.strip():
                return message.strip()
        return self.message


@dataclass(slots=True)
class RuleNode:
    """The rules of one schema node, and the nodes below it that have any."""

    rules: tuple[Rule, ...] = ()
    properties: dict[str, RuleNode] = field(default_factory=dict)
    values: RuleNode | None = None
    items: RuleNode | None = None
    keys: tuple[str, ...] = ()

    def evaluate(self, new: Any, old: Any) -> list[FieldError]:
        """What the rules find wrong with `new` as the successor of `old` (None: there was none)."""
        found: list[FieldError] = []
        self._walk(new, old, None, found)
        return found

    def _walk(self, new: Any, old: Any, path: Path, found: list[FieldError]) -> None:
        if new is None or new is old or (old is not None and new == old):
            return
        if self.rules:
            bound = cel.Bound({"self": new, "oldSelf": old})
            problems = (rule.problem(new, old, bound, path) for rule in self.rules)
            found.extend(problem for problem in problems if problem is not None)
        if isinstance(new, Mapping):
            before = old if isinstance(old, Mapping) else {}
            for name, node in self.properties.items():
                if name in new:
                    node._walk(new[name], before.get(name), (path, name), found)
            if self.values is not None:
                for name, value in new.items():
                    if name not in self.properties:
                        self.values._walk(value, before.get(name), (path, name), found)
        elif isinstance(new, list) and self.items is not None:
            known = self._by_key(old)
            for index, member in enumerate(new):
                self.items._walk(member, known.get(self._key(member)), (path, index), found)

    def _by_key(self, members: Any) -> dict[Any, Any]:
        if not self.keys or not isinstance(members, list):
            return {}
        return {self._key(member): member for member in members}

    def _key(self, member: Any) -> Any:
        return tuple(freeze(member.get(key)) for key in self.keys) if isinstance(member, Mapping) else None


def compile_rules(schema: Mapping[str, Any], where: str) -> RuleNode | None:
    """None when `schema` has no rules, or no engine is installed to run them.

    Raises `InvalidObjectError` with the field of a rule that does not compile.
    """
    if not cel.available():
        return None
    return _node(schema, where)


def _node(schema: Mapping[str, Any], where: str) -> RuleNode | None:
    node = RuleNode()
    written = schema.get("x-kubernetes-validations")
    if written is not None:
        if not isinstance(written, list):
            raise InvalidObjectError("expected a list of rules", field=f"{where}.x-kubernetes-validations")
        node.rules = tuple(
            _rule(rule, schema, f"{where}.x-kubernetes-validations[{index}]") for index, rule in enumerate(written)
        )
    for name, member in (schema.get("properties") or {}).items():
        if (child := _node(member, f"{where}.properties[{name}]")) is not None:
            node.properties[name] = child
    if isinstance(values := schema.get("additionalProperties"), Mapping):
        node.values = _node(values, f"{where}.additionalProperties")
    if isinstance(items := schema.get("items"), Mapping):
        node.items = _node(items, f"{where}.items")
    if schema.get("x-kubernetes-list-type") == "map":
        node.keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
    return node if node.rules or node.properties or node.values or node.items else None


def _rule(rule: Any, schema: Mapping[str, Any], where: str) -> Rule:
    text = rule.get("rule") if isinstance(rule, Mapping) else None
    if not isinstance(text, str) or not text.strip():
        raise InvalidObjectError("expected a CEL expression", field=f"{where}.rule")
    cause = rule.get("reason", "FieldValueInvalid")
    if cause not in _CAUSES:
        raise InvalidObjectError(f"found {cause!r}; allowed: {', '.join(_CAUSES)}", field=f"{where}.reason")
    optional_old = rule.get("optionalOldSelf") is True
    sentence = rule.get("messageExpression")
    return Rule(
        program=_program(text, optional_old, f"{where}.rule"),
        message=str(rule.get("message") or "").strip() or f"failed rule: {' '.join(text.split())}",
        message_program=_program(sentence, optional_old, f"{where}.messageExpression") if sentence else None,
        cause=cause,
        field_path=str(rule.get("fieldPath") or ""),
        transition=_OLD.search(text) is not None,
        optional_old=optional_old,
        view=_view(schema) if _ESCAPED.search(text) else None,
    )


def _program(text: str, optional_old: bool, where: str) -> cel.Program:
    if optional_old:
        text = f"cel.bind(oldSelf, oldSelf == null ? optional.none() : optional.of(oldSelf), {text})"
    try:
        return cel.compile_expression(text)
    except cel.CelError as error:
        raise InvalidObjectError(str(error), field=where) from error


def _shown(value: Any) -> str:
    return f'"{type_name(value)}"' if isinstance(value, dict | list) else show(value)


def _view(schema: Mapping[str, Any]) -> View | None:
    """How a rule that escapes names sees values of `schema`; None: as they are."""
    members: dict[str, tuple[str, View | None]] = {}
    for name, member in (schema.get("properties") or {}).items():
        spelled, view = _escape(name), _view(member)
        if view is not None or spelled != name:
            members[name] = (spelled, view)
    values, items = schema.get("additionalProperties"), schema.get("items")
    value_view = _view(values) if isinstance(values, Mapping) else None
    item_view = _view(items) if isinstance(items, Mapping) else None
    if item_view is not None:
        return lambda value: [item_view(member) for member in value] if isinstance(value, list) else value
    if not members and value_view is None:
        return None

    def view_object(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        seen = {}
        for key, member in value.items():
            spelled, view = members.get(key, (key, value_view))
            seen[spelled] = member if view is None else view(member)
        return seen

    return view_object


def _escape(name: str) -> str:
    if name in _KEYWORDS:
        return f"__{name}__"
    for plain, spelled in (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")):
        name = name.replace(plain, spelled)
    return name
