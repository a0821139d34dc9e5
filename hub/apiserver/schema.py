"""Structural schemas, compiled to closures: one walk over an object prunes, defaults and checks it.

`compile_schema(openAPIV3Schema)` once a version, `Schema.admit(obj, old)` once a write. Nothing is changed in place: an
object that is already as it should be comes back as itself, parts that did not change are shared. What is unchanged
since `old` is not held against a write (a stricter CRD, an object of an older release), as in Kubernetes.

The walk itself is in hub/apiserver/structural.py, CEL rules in hub/apiserver/rules.py. metadata is not described by
CRDs: see hub/apiserver/metadata.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hub.api.errors import InvalidObjectError
from hub.apiserver.constraints import Findings, Path
from hub.apiserver.invalid import FieldError
from hub.apiserver.rules import RuleNode, compile_rules
from hub.apiserver.structural import Check, compile_node

_MISSING: Final = object()
_KEPT: Final = {"x-kubernetes-preserve-unknown-fields": True}
_ROOT_FIELDS: Final = ("apiVersion", "kind", "metadata")


@dataclass(frozen=True, slots=True)
class Admission:
    """`obj` pruned and with defaults; `errors` why it is refused; `unknown` the fields that were dropped, as paths."""

    obj: dict[str, Any]
    errors: tuple[FieldError, ...] = ()
    unknown: tuple[str, ...] = ()


class Schema:
    """One compiled schema; `rules` is None when it has no CEL rules."""

    __slots__ = ("_check", "rules")

    def __init__(self, check: Check, rules: RuleNode | None) -> None:
        self._check = check
        self.rules = rules

    def conform(self, obj: Mapping[str, Any]) -> Admission:
        """As `admit`, but for the rules: for objects that are incomplete."""
        findings = Findings()
        admitted = self._check(obj, None, findings)
        return Admission(admitted, tuple(error for _, error in findings.errors), tuple(findings.unknown))

    def admit(self, obj: Mapping[str, Any], old: Mapping[str, Any] | None = None) -> Admission:
        """What of `obj` is stored in place of `old` (None when it is created). Never raises, whatever `obj` holds."""
        findings = Findings()
        admitted = self._check(obj, None, findings)
        if findings.errors and old is not None:
            findings.errors = [(path, error) for path, error in findings.errors if not _unchanged(path, admitted, old)]
        errors = [error for _, error in findings.errors]
        if not errors and self.rules is not None:
            errors = self.rules.evaluate(admitted, old)
        return Admission(admitted, tuple(errors), tuple(findings.unknown))


def compile_schema(openapi: Mapping[str, Any], *, where: str = "", root: bool = False) -> Schema:
    """Raises `InvalidObjectError` (with `where` before the field) for what is not a structural schema.

    `root` is for whole objects: apiVersion, kind and metadata belong to them whether the schema names them or not.
    """
    if root:
        written = openapi.get("properties") or {}
        if not isinstance(written, Mapping):
            raise InvalidObjectError("expected an object", field=f"{where}.properties")
        properties: dict[str, Any] = {name: dict(_KEPT) for name in _ROOT_FIELDS}
        # A schema may narrow what names are allowed, nothing else of metadata.
        metadata = written.get("metadata")
        narrowed = metadata.get("properties") if isinstance(metadata, Mapping) else None
        names = {name: narrowed[name] for name in ("name", "generateName") if name in narrowed} if narrowed else None
        if names:
            properties["metadata"]["properties"] = names
        openapi = {**openapi, "properties": {**written, **properties}}
    check = compile_node(openapi, where)
    return Schema(check, compile_rules(openapi, where))


def _unchanged(path: Path, new: Any, old: Any) -> bool:
    keys: list[str | int] = []
    while path is not None:
        path, key = path
        keys.append(key)
    for key in reversed(keys):
        new, old = _member(new, key), _member(old, key)
        if old is _MISSING:
            return False
    # Equal in Python is not always equal in JSON: True is no 1.
    return bool(keys) and new == old and type(new) is type(old)


def _member(value: Any, key: str | int) -> Any:
    if isinstance(value, Mapping) and isinstance(key, str):
        return value.get(key, _MISSING)
    if isinstance(value, list) and isinstance(key, int) and key < len(value):
        return value[key]
    return _MISSING
