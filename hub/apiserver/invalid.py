"""The one answer (422) to an object that is wrong, made of what is wrong with each field.

What is checked, and when, is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterable

from hub.admission.findings import (
    Cause,
    FieldError,
    duplicate,
    forbidden,
    not_supported,
    required,
    show,
    too_long,
    too_many,
    type_name,
    wrong,
    wrong_type,
)
from hub.api.errors import ApiError, api_error

__all__ = [
    "Cause",
    "FieldError",
    "duplicate",
    "forbidden",
    "invalid",
    "not_supported",
    "required",
    "show",
    "too_long",
    "too_many",
    "type_name",
    "wrong",
    "wrong_type",
]


def invalid(group: str, kind: str, name: str, errors: Iterable[FieldError]) -> ApiError:
    """The 422 for an object: one sentence with every error, and a cause for each."""
    found = list(dict.fromkeys(errors))
    said = ", ".join(map(str, found))
    qualified = f"{kind}.{group}" if group else kind
    return api_error(
        422,
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": f'{qualified} "{name}" is invalid: {said if len(found) == 1 else f"[{said}]"}',
            "reason": "Invalid",
            "details": {
                **{key: text for key, text in (("name", name), ("group", group), ("kind", kind)) if text},
                "causes": [
                    {"reason": error.cause, "message": error.message, "field": error.field or "<nil>"}
                    for error in found
                ],
            },
            "code": 422,
        },
    )
