"""Label and field selectors as clients write them: parsed once a request, then asked of many objects.

Labels: ``a=b``, ``a==b``, ``a!=b``, ``a in (b,c)``, ``a notin (b,c)``, ``a``, ``!a``, ``a>1``, ``a<2``, joined by
commas, all of which must hold. Fields: ``path=value``, ``==``, ``!=``; which paths there are is the kind's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from hub.api.errors import InvalidObjectError
from hub.apiserver.metadata import label_key_problem, label_value_problem

Operator = Literal["in", "notin", "exists", "absent", "above", "below"]
_TOKEN = re.compile(r"\s*(?:(?P<op>==|!=|=|!|>|<|\(|\)|,)|(?P<word>[^\s=!<>(),]+))")
_WRITTEN: Final[Mapping[str, Operator]] = {
    "In": "in",
    "NotIn": "notin",
    "Exists": "exists",
    "DoesNotExist": "absent",
}
_ALWAYS_SELECTABLE: Final = frozenset({"metadata.name", "metadata.namespace"})


@dataclass(frozen=True, slots=True)
class Requirement:
    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        found = labels.get(self.key)
        operator = self.operator
        if operator == "in":
            return found in self.values
        if operator == "notin":
            return found is None or found not in self.values
        if operator == "exists":
            return found is not None
        if operator == "absent":
            return found is None
        bound = int(next(iter(self.values)))
        if found is None or not re.fullmatch(r"[+-]?[0-9]{1,19}", found):
            return False
        return int(found) > bound if operator == "above" else int(found) < bound


@dataclass(frozen=True, slots=True)
class LabelSelector:
    requirements: tuple[Requirement, ...] = ()

    @property
    def everything(self) -> bool:
        return not self.requirements

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.holds(labels) for requirement in self.requirements)

    def equalities(self) -> dict[str, str]:
        """Labels that must have exactly one value: what an index can answer."""
        return {r.key: next(iter(r.values)) for r in self.requirements if r.operator == "in" and len(r.values) == 1}


def parse_label_selector(text: str) -> LabelSelector:
    """The empty text selects everything. Raises `InvalidObjectError`."""
    if not text.strip():
        return LabelSelector()
    tokens = _tokens(text)
    requirements: list[Requirement] = []
    while True:
        requirements.append(_requirement(tokens, text))
        if not tokens:
            return LabelSelector(tuple(requirements))
        if tokens.pop(0) != ",":
            raise _unreadable(text, "a comma was expected")


def _tokens(text: str) -> list[str]:
    tokens = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise _unreadable(text, f"it stops making sense at {text[position:]!r}")
        tokens.append(match["op"] or match["word"])
        position = match.end()
    return tokens


def _requirement(tokens: list[str], text: str) -> Requirement:
    if not tokens:
        raise _unreadable(text, "it ends with a comma")
    if tokens[0] == "!":
        tokens.pop(0)
        return Requirement(_key(tokens, text), "absent")
    key = _key(tokens, text)
    if not tokens or tokens[0] == ",":
        return Requirement(key, "exists")
    operator = tokens.pop(0)
    if operator in ("=", "==", "!="):
        return Requirement(key, "notin" if operator == "!=" else "in", frozenset({_value(tokens, text)}))
    if operator in (">", "<"):
        bound = _value(tokens, text)
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", bound):
            raise _unreadable(text, f"{bound!r} is not an integer to compare with")
        return Requirement(key, "above" if operator == ">" else "below", frozenset({bound}))
    if operator in ("in", "notin"):
        return Requirement(key, operator, _values(tokens, text))  # type: ignore[arg-type]  # one of the two
    raise _unreadable(text, f"{operator!r} is no operator: write =, ==, !=, in, notin, > or <")


def _key(tokens: list[str], text: str) -> str:
    key = tokens.pop(0) if tokens else ""
    if problem := label_key_problem(key):
        raise _unreadable(text, f"{key!r} is not a label's key: {problem}")
    return key


def _value(tokens: list[str], text: str) -> str:
    value = "" if not tokens or tokens[0] == "," else tokens.pop(0)
    if problem := label_value_problem(value):
        raise _unreadable(text, f"{value!r} is not a label's value: {problem}")
    return value


def _values(tokens: list[str], text: str) -> frozenset[str]:
    if not tokens or tokens.pop(0) != "(":
        raise _unreadable(text, "values in parentheses were expected")
    values: set[str] = set()
    while True:
        value = "" if tokens and tokens[0] in (",", ")") else tokens.pop(0) if tokens else ""
        if problem := label_value_problem(value):
            raise _unreadable(text, f"{value!r} is not a label's value: {problem}")
        values.add(value)
        closing = tokens.pop(0) if tokens else ""
        if closing == ")":
            return frozenset(values)
        if closing != ",":
            raise _unreadable(text, "a closing parenthesis was expected")


def _unreadable(text: str, why: str) -> InvalidObjectError:
    return InvalidObjectError(f"unable to parse label selector {text!r}: {why}")


def label_selector_of(selector: Mapping[str, Any] | None) -> LabelSelector:
    """A metav1.LabelSelector; an empty one selects everything. Raises `InvalidObjectError`."""
    if not isinstance(selector, Mapping):
        raise InvalidObjectError("expected a label selector, an object")
    requirements = [
        Requirement(str(key), "in", frozenset({str(value)}))
        for key, value in sorted((selector.get("matchLabels") or {}).items())
    ]
    for expression in selector.get("matchExpressions") or ():
        operator = _WRITTEN.get(str(expression.get("operator")))
        if operator is None:
            raise InvalidObjectError(
                f"found {expression.get('operator')!r}; allowed: {', '.join(_WRITTEN)}", field="operator"
            )
        values = frozenset(map(str, expression.get("values") or ()))
        if (operator in ("in", "notin")) != bool(values):
            raise InvalidObjectError(f"{expression.get('operator')} and {len(values)} values do not go together")
        requirements.append(Requirement(str(expression.get("key")), operator, values))
    return LabelSelector(tuple(requirements))


@dataclass(frozen=True, slots=True)
class FieldRequirement:
    path: tuple[str, ...]
    equal: bool
    value: str

    def holds(self, obj: Mapping[str, Any]) -> bool:
        return (_text_at(obj, self.path) == self.value) is self.equal


@dataclass(frozen=True, slots=True)
class FieldSelector:
    requirements: tuple[FieldRequirement, ...] = ()

    @property
    def everything(self) -> bool:
        return not self.requirements

    def matches(self, obj: Mapping[str, Any]) -> bool:
        """Asked of an object in the version of the request."""
        return all(requirement.holds(obj) for requirement in self.requirements)

    @property
    def name(self) -> str | None:
        """The one name that can match, where the selector says it."""
        return self._only(("metadata", "name"))

    @property
    def namespace(self) -> str | None:
        return self._only(("metadata", "namespace"))

    def _only(self, path: tuple[str, ...]) -> str | None:
        return next((r.value for r in self.requirements if r.path == path and r.equal), None)

    @property
    def of_metadata(self) -> bool:
        """Whether name and namespace are all it asks about."""
        return all(r.path in (("metadata", "name"), ("metadata", "namespace")) for r in self.requirements)


def parse_field_selector(text: str, selectable: Iterable[str] = ()) -> FieldSelector:
    """`selectable`: paths of this kind besides name and namespace. Raises `InvalidObjectError`."""
    known = _ALWAYS_SELECTABLE | set(selectable)
    requirements = []
    for term in _split(text):
        match = re.fullmatch(r"\s*([^=!\s]+?)\s*(==|!=|=)(.*)", term, re.DOTALL)
        if match is None:
            raise InvalidObjectError(f"unable to parse field selector {text!r}: write path=value or path!=value")
        path, operator, value = match.groups()
        if path not in known:
            raise InvalidObjectError(
                f"field label not supported: {path}", hint=f"Supported here: {', '.join(sorted(known))}."
            )
        requirements.append(
            FieldRequirement(tuple(path.split(".")), operator != "!=", re.sub(r"\\([\\,=])", r"\1", value))
        )
    return FieldSelector(tuple(requirements))


def _split(text: str) -> list[str]:
    """Terms between commas that no backslash takes back."""
    terms = re.findall(r"(?:\\.|[^,\\])+", text)
    return [term for term in terms if term.strip()]


def _text_at(value: Any, path: tuple[str, ...]) -> str:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if value is None or isinstance(value, Mapping | list):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
