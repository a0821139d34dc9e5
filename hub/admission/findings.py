"""What is wrong with an object, field by field, in the words that users of Kubernetes know.

Whoever checks objects yields `FieldError`s and raises nothing. How a refusal is answered is the server's business.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Cause = Literal[
    "FieldValueInvalid",
    "FieldValueRequired",
    "FieldValueNotSupported",
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueTooLong",
    "FieldValueTooMany",
    "FieldValueTypeInvalid",
    "FieldValueNotFound",
]
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class FieldError:
    """`field` is a path such as ``spec.tasks``; `message` says what was found and what is allowed, without the path."""

    field: str
    message: str
    cause: Cause = "FieldValueInvalid"

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def show(value: Any) -> str:
    """A value as it stands in a message: JSON, cut where it gets long."""
    if isinstance(value, dict | list):
        text = "object" if isinstance(value, dict) else "array"
        return json.dumps(text) if len(value) > 8 else _cut(json.dumps(value, default=str, ensure_ascii=False))
    return _cut(json.dumps(value, default=str, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def wrong(field: str, value: Any, detail: str) -> FieldError:
    return FieldError(field, f"Invalid value: {show(value)}: {detail}")


def wrong_type(field: str, value: Any, wanted: str) -> FieldError:
    name = "null" if value is None else type_name(value)
    detail = f'{field} in body must be of type {wanted}: "{name}"' if field else f"must be of type {wanted}"
    return FieldError(field, f"Invalid value: {json.dumps(name)}: {detail}", "FieldValueTypeInvalid")


def required(field: str, detail: str = "") -> FieldError:
    return FieldError(field, f"Required value{f': {detail}' if detail else ''}", "FieldValueRequired")


def not_supported(field: str, value: Any, allowed: Sequence[Any]) -> FieldError:
    values = ", ".join(show(member) for member in allowed)
    return FieldError(field, f"Unsupported value: {show(value)}: supported values: {values}", "FieldValueNotSupported")


def duplicate(field: str, value: Any) -> FieldError:
    return FieldError(field, f"Duplicate value: {show(value)}", "FieldValueDuplicate")


def forbidden(field: str, detail: str) -> FieldError:
    return FieldError(field, f"Forbidden: {detail}", "FieldValueForbidden")


def too_long(field: str, maximum: int) -> FieldError:
    return FieldError(field, f"Too long: may not be more than {maximum} bytes", "FieldValueTooLong")


def too_many(field: str, found: int, maximum: int) -> FieldError:
    return FieldError(field, f"Too many: {found}: must have at most {maximum} items", "FieldValueTooMany")


def type_name(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    for kind, name in ((str, "string"), (int, "integer"), (float, "number"), (dict, "object"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "null"
