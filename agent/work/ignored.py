"""Fields that a ServerSideApply strategy leaves to others (`ignoreFields`). Pure."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from hub.api.errors import InvalidObjectError

Json = dict[str, Any]
CONFIG_HASH: Final = "open-cluster-management.io/config-spec-hash"
_STEP: Final = re.compile(r"\.((?:[^.\[\]\\]|\\.)+)|\[(\d+)\]|\[['\"]((?:[^'\"\\]|\\.)*)['\"]\]")


def without_ignored(manifest: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> Json:
    """A copy without the `OnSpokePresent` fields. Raises `InvalidObjectError` for a path we can't follow."""
    body = copy.deepcopy(dict(manifest))
    for entry in entries:
        if entry.get("jqPathExpressions"):
            raise InvalidObjectError("jqPathExpressions are not supported here; use jsonPointers or jsonPaths")
        if entry.get("condition", "OnSpokePresent") != "OnSpokePresent":
            continue
        for pointer in entry.get("jsonPointers") or ():
            _remove(body, _pointer_steps(pointer))
        for path in entry.get("jsonPaths") or ():
            _remove(body, _path_steps(path))
    return body


def content_hash(body: Mapping[str, Any]) -> str:
    return hashlib.md5(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), usedforsecurity=False).hexdigest()


def _pointer_steps(pointer: str) -> list[str]:
    if not pointer.startswith("/"):
        raise InvalidObjectError(f"{pointer!r} is not a JSON pointer: start it with /")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]


def _path_steps(path: str) -> list[str]:
    body = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    body = body if body.startswith((".", "[")) else "." + body
    steps, position = [], 0
    while position < len(body):
        match = _STEP.match(body, position)
        if match is None:
            raise InvalidObjectError(
                f"{path!r} can't be ignored: write plain fields and indexes, such as .spec.replicas"
            )
        steps.append(re.sub(r"\\(.)", r"\1", next(group for group in match.groups() if group is not None)))
        position = match.end()
    return steps


def _remove(body: Any, steps: Sequence[str]) -> None:
    for step in steps[:-1]:
        body = _child(body, step)
    last = steps[-1]
    if isinstance(body, dict):
        body.pop(last, None)
    elif isinstance(body, list) and last.isdecimal() and int(last) < len(body):
        del body[int(last)]


def _child(body: Any, step: str) -> Any:
    if isinstance(body, dict):
        return body.get(step)
    if isinstance(body, list) and step.isdecimal() and int(step) < len(body):
        return body[int(step)]
    return None
