"""JSON patches (RFC 6902), applied without changing what they are applied to.

What a patch does not touch is shared between old and new. Two kinds of failure, because servers answer them
differently: a patch that is none (`InvalidPatchError`), and one that does not apply here (`PatchFailedError`; a test
that does not hold is its subclass).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from hub.api.errors import InvalidObjectError
from hub.api.frozen import freeze

MAX_OPERATIONS: Final = 10_000
# What all copies of one patch may add up to, as JSON: doubling a document twenty times is not a use.
MAX_COPIED: Final = 3 * 1024 * 1024
_NEEDS: Final = {
    "add": ("value",),
    "replace": ("value",),
    "test": ("value",),
    "remove": (),
    "move": ("from",),
    "copy": ("from",),
}
Pointer = tuple[str, ...]


class InvalidPatchError(InvalidObjectError):
    """Not a JSON patch."""


class PatchFailedError(InvalidObjectError):
    """A patch that cannot be applied to this document."""


class PatchTestFailedError(PatchFailedError):
    pass


def apply_json_patch(document: Any, patch: Any) -> Any:
    """The patched document. Raises `InvalidPatchError`, `PatchFailedError`."""
    copied = 0
    for operation, path, start, value in _parse(patch):
        if operation == "test":
            if freeze(_at(document, path)) != freeze(value):
                raise PatchTestFailedError(f"testing value {_spell(path)} failed")
            continue
        if operation in ("move", "copy"):
            value = _at(document, start)
        if operation == "copy":
            copied += _size(value)
            if copied > MAX_COPIED:
                raise PatchFailedError(f"the copies of one patch may add up to {MAX_COPIED} bytes")
        if operation == "move":
            if path[: len(start)] == start and len(path) > len(start):
                raise PatchFailedError(f"{_spell(start)} cannot be moved into itself")
            document = _edit(document, start, 0, _remove)
        if operation == "remove":
            document = _edit(document, path, 0, _remove)
        elif not path:
            document = value
        elif operation == "replace":
            document = _edit(document, path, 0, _replacing(value))
        else:
            document = _edit(document, path, 0, _adding(value))
    return document


def _size(value: Any) -> int:
    try:
        return len(orjson.dumps(value))
    except TypeError as error:
        raise PatchFailedError("what would be copied is nested too deeply") from error


def _parse(patch: Any) -> list[tuple[str, Pointer, Pointer, Any]]:
    if not isinstance(patch, Sequence) or isinstance(patch, str | bytes):
        raise InvalidPatchError("a JSON patch is a list of operations")
    if len(patch) > MAX_OPERATIONS:
        raise InvalidPatchError(f"a JSON patch may have {MAX_OPERATIONS} operations, found {len(patch)}")
    operations = []
    for index, entry in enumerate(patch):
        where = f"[{index}]"
        if not isinstance(entry, Mapping):
            raise InvalidPatchError("expected an object", field=where)
        operation = entry.get("op")
        if not isinstance(operation, str) or operation not in _NEEDS:
            raise InvalidPatchError(f"found {operation!r}; allowed: {', '.join(_NEEDS)}", field=f"{where}.op")
        for name in _NEEDS[operation]:
            if name not in entry:
                raise InvalidPatchError("is required", field=f"{where}.{name}")
        start = _pointer(entry["from"], f"{where}.from") if "from" in _NEEDS[operation] else ()
        operations.append((operation, _pointer(entry.get("path"), f"{where}.path"), start, entry.get("value")))
    return operations


def _pointer(text: Any, where: str) -> Pointer:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise InvalidPatchError(f"found {text!r}; expected a path such as /metadata/labels/a", field=where)
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:])


def _spell(path: Pointer) -> str:
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path) or "the whole document"


def _at(document: Any, path: Pointer) -> Any:
    for depth, part in enumerate(path):
        if isinstance(document, Mapping) and part in document:
            document = document[part]
        elif isinstance(document, list):
            document = document[_index(document, part, path[: depth + 1])]
        else:
            raise _nothing_at(path[: depth + 1])
    return document


def _edit(document: Any, path: Pointer, depth: int, change: Callable[[Any, str, Pointer], Any]) -> Any:
    """A copy of `document` with the container at the end of `path` changed; only containers on the way are copied."""
    if not path:
        raise PatchFailedError("the whole document cannot be removed")
    part = path[depth]
    if depth == len(path) - 1:
        if not isinstance(document, dict | list):
            raise _nothing_at(path)
        return change(document.copy(), part, path)
    if isinstance(document, dict) and part in document:
        return {**document, part: _edit(document[part], path, depth + 1, change)}
    if isinstance(document, list):
        index = _index(document, part, path[: depth + 1])
        inner = _edit(document[index], path, depth + 1, change)
        return [*document[:index], inner, *document[index + 1 :]]
    raise _nothing_at(path[: depth + 1])


def _remove(container: Any, part: str, path: Pointer) -> Any:
    if isinstance(container, dict):
        if part not in container:
            raise _nothing_at(path)
        del container[part]
    else:
        del container[_index(container, part, path)]
    return container


def _replacing(value: Any) -> Callable[[Any, str, Pointer], Any]:
    def change(container: Any, part: str, path: Pointer) -> Any:
        if isinstance(container, dict):
            if part not in container:
                raise _nothing_at(path)
            container[part] = value
        else:
            container[_index(container, part, path)] = value
        return container

    return change


def _adding(value: Any) -> Callable[[Any, str, Pointer], Any]:
    def change(container: Any, part: str, path: Pointer) -> Any:
        if isinstance(container, dict):
            container[part] = value
        elif part == "-":
            container.append(value)
        else:
            container.insert(_index(container, part, path, end=1), value)
        return container

    return change


def _index(values: list[Any], part: str, path: Pointer, *, end: int = 0) -> int:
    if not (part.isascii() and part.isdecimal()) or (len(part) > 1 and part[0] == "0") or len(part) > 9:
        raise _nothing_at(path)
    index = int(part)
    if index >= len(values) + end:
        raise _nothing_at(path)
    return index


def _nothing_at(path: Pointer) -> PatchFailedError:
    return PatchFailedError(f"there is nothing at {_spell(path)}")
