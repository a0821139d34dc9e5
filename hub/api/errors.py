"""The one tree of exceptions.

    QuarterdeckError                     everything we raise on purpose
    ├── InvalidObjectError               input that can never work as written; retrying is pointless
    │   ├── InvalidQuantityError
    │   ├── InvalidIndexSetError
    │   └── UsageError                   a command line that asks for something impossible
    ├── ApiError                         an API server said no (carries the Status object)
    │   ├── NotFoundError (404)   ConflictError (409)   AlreadyExistsError (409)   GoneError (410)
    │   └── RefusedError (400, 403, 415, 422)   UnauthorizedError (401)   OverloadedError (429, 5xx)
    ├── UnreachableError                 nobody answered: retry with back-off
    ├── StorageError                     the disk refused; nothing that was acknowledged is lost
    │   ├── DataDirectoryBusyError       another process holds it
    │   └── CorruptStoreError
    └── PluginError                      a plugin raised, hung or answered nonsense; it costs itself only

A message says what happened, where, what was expected, and what to do. Callers branch on the class, never on the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class QuarterdeckError(Exception):
    """Base of everything Quarterdeck raises on purpose. `hint` is the next step for the person who reads it."""

    hint: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        if hint:
            self.hint = hint


class InvalidObjectError(QuarterdeckError, ValueError):
    """An object that can never be accepted as written. `field` is its path, such as ``spec.gpu.count``."""

    def __init__(self, message: str, *, field: str = "", hint: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message, hint=hint)
        self.field = field


class InvalidQuantityError(InvalidObjectError):
    def __init__(self, value: object) -> None:
        super().__init__(
            f"{value!r} is not a quantity: write a number with an optional unit, such as 2, 500m, 1.5, 16Gi or 1e3",
        )


class InvalidIndexSetError(InvalidObjectError):
    pass


class UsageError(InvalidObjectError):
    pass


class ApiError(QuarterdeckError):
    """An API server refused a request. `status` is the Kubernetes Status object it answered with."""

    def __init__(self, code: int, status: Mapping[str, Any], *, hint: str = "") -> None:
        super().__init__(str(status.get("message") or f"the API server answered {code}"), hint=hint)
        self.code = code
        self.status = status

    @property
    def reason(self) -> str:
        return str(self.status.get("reason", ""))


class NotFoundError(ApiError):
    pass


class ConflictError(ApiError):
    pass


class AlreadyExistsError(ApiError):
    pass


class GoneError(ApiError):
    pass


class RefusedError(ApiError):
    pass


class UnauthorizedError(ApiError):
    pass


class OverloadedError(ApiError):
    pass


class UnreachableError(QuarterdeckError):
    pass


class StorageError(QuarterdeckError):
    pass


class DataDirectoryBusyError(StorageError):
    pass


class CorruptStoreError(StorageError):
    pass


class PluginError(QuarterdeckError):
    pass


def api_error(code: int, status: Mapping[str, Any]) -> ApiError:
    """The class of the tree that an HTTP answer belongs to."""
    if code == 409:
        return (AlreadyExistsError if status.get("reason") == "AlreadyExists" else ConflictError)(code, status)
    classes: dict[int, type[ApiError]] = {
        400: RefusedError,
        401: UnauthorizedError,
        403: RefusedError,
        404: NotFoundError,
        410: GoneError,
        415: RefusedError,
        422: RefusedError,
        429: OverloadedError,
    }
    return classes.get(code, OverloadedError if code >= 500 else ApiError)(code, status)
