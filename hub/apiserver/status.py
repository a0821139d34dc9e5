"""The answers that say no: metav1.Status objects as clients of Kubernetes know them, as errors of our tree.

Messages keep Kubernetes' wording where people and programs look for it. What is wrong with an object, field by field,
is hub/apiserver/invalid.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from hub.api.errors import ApiError, StorageError, api_error


def dump_status(status: Mapping[str, Any]) -> bytes:
    return orjson.dumps(status)


def failure(code: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> ApiError:
    status: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
    }
    if details is not None:
        status["details"] = dict(details)
    status["code"] = code
    return api_error(code, status)


def success(details: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": dict(details)}


def qualified(group: str, plural: str) -> str:
    return f"{plural}.{group}" if group else plural


def _details(group: str, plural: str, name: str = "", **more: Any) -> dict[str, Any]:
    details: dict[str, Any] = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    # Clients of Kubernetes find the plural under `kind`.
    details["kind"] = plural
    return {**details, **more}


def not_found(group: str, plural: str, name: str) -> ApiError:
    return failure(404, "NotFound", f'{qualified(group, plural)} "{name}" not found', _details(group, plural, name))


def no_such_path() -> ApiError:
    return failure(404, "NotFound", "the server could not find the requested resource")


def already_exists(group: str, plural: str, name: str) -> ApiError:
    return failure(
        409, "AlreadyExists", f'{qualified(group, plural)} "{name}" already exists', _details(group, plural, name)
    )


def conflict(group: str, plural: str, name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {qualified(group, plural)} "{name}": {why}'
    return failure(409, "Conflict", message, _details(group, plural, name))


def modified(group: str, plural: str, name: str) -> ApiError:
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(group, plural, name, why)


def forbidden(group: str, plural: str, name: str, why: str, cause: Mapping[str, Any] | None = None) -> ApiError:
    details = _details(group, plural, name)
    if cause:
        details["causes"] = [dict(cause)]
    return failure(403, "Forbidden", f'{qualified(group, plural)} "{name}" is forbidden: {why}', details)


def bad_request(message: str) -> ApiError:
    return failure(400, "BadRequest", message)


def unauthorized() -> ApiError:
    return failure(401, "Unauthorized", "Unauthorized")


def method_not_allowed(method: str) -> ApiError:
    message = f"the server does not allow this method on the requested resource: {method}"
    return failure(405, "MethodNotAllowed", message, {})


def not_acceptable(offered: str) -> ApiError:
    return failure(406, "NotAcceptable", f"only the following media types are accepted: {offered}")


def unsupported_media_type(found: str, supported: str) -> ApiError:
    return failure(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format ({found or 'none given'}); supported: {supported}",
    )


def too_many_requests() -> ApiError:
    return failure(
        429,
        "TooManyRequests",
        "too many of your requests wait already; please try again later",
        {"retryAfterSeconds": 1},
    )


def too_large(what: str, limit: int, code: int = 413) -> ApiError:
    return failure(code, "RequestEntityTooLarge", f"{what} is too large: at most {limit} bytes")


def expired(message: str) -> ApiError:
    return failure(410, "Expired", message)


def compacted(version: int, oldest: int) -> ApiError:
    return expired(f"too old resource version: {version} ({oldest})")


def internal_error(message: str = "an error on the server; its log has the details") -> ApiError:
    return failure(500, "InternalError", message)


def storage_refused(error: StorageError) -> ApiError:
    """Nothing of the write is kept; it may be tried again."""
    hint = f" ({error.hint})" if error.hint else ""
    refused = failure(507, "InsufficientStorage", f"the write was not stored: {error}{hint}")
    refused.hint = error.hint
    return refused
