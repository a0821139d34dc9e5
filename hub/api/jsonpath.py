"""The part of kubectl's JSONPath that status feedback and printer columns use.

`.a.b`, `['a.b']`, `[0]`, `[-1]`, `[1:3]`, `[*]`, `.*` and `[?(@.type=="Ready")]` (with ==, !=, <, <=, >, >=, or alone:
exists), with or without the outer braces and the leading `$`. What it does not do: recursive descent, unions,
range/end, text around the path. A path that leads nowhere finds nothing; only a path that can't be read is an error.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from hub.api.errors import InvalidObjectError

_Step = Callable[[Any], Iterator[Any]]

_TOKEN: Final = re.compile(
    r"""
      \.(?P<field>(?:[^.\[\]{}'"\\\s*]|\\.)+)
    | (?P<all>\.\*|\[\*\])
    | \[(?P<index>-?\d+)\]
    | \[(?P<start>-?\d*):(?P<stop>-?\d*)\]
    | \[(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\]
    | \[\?\(\s*@(?P<left>[^=!<>\s)]*)\s*
        (?:(?P<op>==|!=|<=|>=|<|>)\s*(?P<right>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s)]+))?\s*\)\]
    """,
    re.VERBOSE,
)
_OPERATORS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class JSONPath:
    text: str
    steps: tuple[_Step, ...]

    def find(self, obj: Any) -> list[Any]:
        """Every value the path leads to, in order; an empty list when there is none."""
        found: list[Any] = [obj]
        for step in self.steps:
            found = [value for item in found for value in step(item)]
            if not found:
                break
        return found


@lru_cache(maxsize=2048)
def compile(path: str) -> JSONPath:
    """Raises `InvalidObjectError` when `path` is outside what is described above."""
    body = path.strip()
    if body.startswith("{") and body.endswith("}"):
        body = body[1:-1].strip()
    body = body.removeprefix("$").removeprefix("@")
    if body in ("", "."):
        return JSONPath(path, ())
    if body[0] not in ".[":
        body = "." + body
    steps: list[_Step] = []
    position = 0
    while position < len(body):
        match = _TOKEN.match(body, position)
        if match is None:
            raise InvalidObjectError(
                f"{path!r} is not a JSONPath we read, from {body[position:]!r} on: write .a.b, [0], [*] or "
                '[?(@.type=="Ready")]'
            )
        steps.append(_step(match))
        position = match.end()
    return JSONPath(path, tuple(steps))


def _step(match: re.Match[str]) -> _Step:
    groups = match.groupdict()
    if groups["field"] is not None:
        return _field(re.sub(r"\\(.)", r"\1", groups["field"]))
    if groups["quoted"] is not None:
        return _field(re.sub(r"\\(.)", r"\1", groups["quoted"][1:-1]))
    if groups["all"] is not None:
        return _every
    if groups["index"] is not None:
        return _index(int(groups["index"]))
    if groups["start"] is not None:
        bounds = [int(part) if part else None for part in (groups["start"], groups["stop"])]
        return _slice(slice(*bounds))
    return _filter(groups["left"], groups["op"], groups["right"])


def _field(name: str) -> _Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, Mapping) and name in value:
            yield value[name]

    return step


def _every(value: Any) -> Iterator[Any]:
    items: Iterable[Any] = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    yield from items


def _index(number: int) -> _Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= number < len(value):
            yield value[number]

    return step


def _slice(bounds: slice) -> _Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from value[bounds]

    return step


def _filter(left: str, op: str | None, right: str | None) -> _Step:
    path = compile(left)
    wanted = _literal(right) if right is not None else None

    def holds(item: Any) -> bool:
        found = path.find(item)
        if op is None:
            return bool(found)
        try:
            return any(_OPERATORS[op](value, wanted) for value in found)
        except TypeError:
            return False

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from filter(holds, value)

    return step


def _literal(text: str) -> Any:
    if text[0] in "\"'":
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidObjectError(f"{text!r} in a JSONPath filter must be a number, true, false or quoted") from error
