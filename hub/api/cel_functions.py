"""Kubernetes' own functions in CEL: quantities, versions, lists, sets, regular expressions; addresses and URLs are
hub/api/cel_addresses.py.

Quantities and versions travel through the engine as text in one canonical form, so that `==` means what it should; a
version carries a mark, so that `isLessThan` knows what it compares.
Of the list library indexOf is missing (the engine keeps that name for strings).
What is wrong with an argument is an exception here and an evaluation error there. Imported with the engine only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from cel_expr_python import cel

from hub.api.cel_addresses import add_addresses
from hub.api.frozen import freeze
from hub.api.quantity import NANO, Quantity
from hub.api.re2 import compile_pattern

_T = cel.Type
_MARK = "semver:"
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?", re.ASCII
)


def parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def test(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return test


def _quantity(text: str) -> str:
    return str(Quantity(text))


def _compare(left: str, right: str) -> int:
    if left.startswith(_MARK) or right.startswith(_MARK):
        return _compare_versions(left, right)
    difference = Quantity(left).nano - Quantity(right).nano
    return (difference > 0) - (difference < 0)


def _as_integer(text: str) -> int:
    nano = Quantity(text).nano
    if nano % NANO:
        raise ValueError(f"{text} is not a whole number")
    return nano // NANO


def _version(text: str) -> tuple[Any, ...]:
    match = _SEMVER.fullmatch(text.removeprefix(_MARK))
    if match is None:
        raise ValueError(f"{text!r} is not a semantic version")
    major, minor, patch, pre = match.groups()
    # A release sorts after its pre-releases; numbers before words, numbers by value.
    parts = tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in pre.split(".")) if pre else ()
    return int(major), int(minor), int(patch), pre is None, parts


def _semver(text: str, normalize: bool = False) -> str:
    """Normalised, ``v1.2`` is 1.2.0: a leading v and leading zeros go, missing numbers are 0."""
    if normalize:
        numbers, mark, rest = re.match(r"v?([\d.]*)([-+]?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
        parts = [part.lstrip("0") or "0" for part in numbers.split(".") if part.isdecimal()]
        text = ".".join([*parts, "0", "0"][: max(3, len(parts))] if parts else [numbers]) + mark + rest
    _version(text)
    # What is built from what does not matter for which is newer.
    return _MARK + text.partition("+")[0]


def _compare_versions(left: str, right: str) -> int:
    return (_version(left) > _version(right)) - (_version(left) < _version(right))


def _is_semver(text: str, normalize: bool) -> bool:
    return parses(lambda written: _semver(written, normalize))(text)


def _frozen(values: list[Any]) -> set[Any]:
    return set(map(freeze, values))


def _sorted(values: list[Any]) -> bool:
    return all(left <= right for left, right in pairwise(values))


def _find(text: str, pattern: str) -> str:
    match = compile_pattern(pattern).search(text)
    return match[0] if match else ""


def _find_all(text: str, pattern: str) -> list[str]:
    return [match[0] for match in compile_pattern(pattern).finditer(text)]


def declarations() -> list[cel.FunctionDecl]:
    """What the environment adds to the language and its extensions."""
    table: dict[str, list[cel.Overload]] = {}

    def add(
        name: str, returns: cel.Type, parameters: list[cel.Type], impl: Callable[..., Any], *, member: bool = False
    ) -> None:
        overloads = table.setdefault(name, [])
        identity = f"k8s_{name}_{len(overloads)}"
        overloads.append(
            cel.Overload(identity, return_type=returns, parameters=parameters, is_member=member, impl=impl)
        )

    text, number, whether, anything = _T.STRING, _T.INT, _T.BOOL, _T.DYN
    many = _T.List(_T.DYN)

    add("quantity", text, [text], _quantity)
    add("isQuantity", whether, [text], parses(Quantity))
    add("isLessThan", whether, [text, text], lambda a, b: _compare(a, b) < 0, member=True)
    add("isGreaterThan", whether, [text, text], lambda a, b: _compare(a, b) > 0, member=True)
    add("compareTo", number, [text, text], _compare, member=True)
    add("add", text, [text, text], lambda a, b: str(Quantity(a) + Quantity(b)), member=True)
    add("add", text, [text, number], lambda a, b: str(Quantity(a) + Quantity(b)), member=True)
    add("sub", text, [text, text], lambda a, b: str(Quantity(a) - Quantity(b)), member=True)
    add("sub", text, [text, number], lambda a, b: str(Quantity(a) - Quantity(b)), member=True)
    add("sign", number, [text], lambda a: _compare(a, "0"), member=True)
    add("isInteger", whether, [text], parses(_as_integer), member=True)
    add("asInteger", number, [text], _as_integer, member=True)
    add("asApproximateFloat", _T.DOUBLE, [text], lambda a: Quantity(a).nano / NANO, member=True)

    add("semver", text, [text], _semver)
    add("semver", text, [text, whether], _semver)
    add("isSemver", whether, [text], parses(_version))
    add("isSemver", whether, [text, whether], _is_semver)
    add("compareVersions", number, [text, text], _compare_versions)
    add("major", number, [text], lambda a: _version(a)[0], member=True)
    add("minor", number, [text], lambda a: _version(a)[1], member=True)
    add("patch", number, [text], lambda a: _version(a)[2], member=True)

    add("sum", anything, [many], sum, member=True)
    add("min", anything, [many], min, member=True)
    add("max", anything, [many], max, member=True)
    add("isSorted", whether, [many], _sorted, member=True)

    add("sets.contains", whether, [many, many], lambda a, b: _frozen(b) <= _frozen(a))
    add("sets.equivalent", whether, [many, many], lambda a, b: _frozen(a) == _frozen(b))
    add("sets.intersects", whether, [many, many], lambda a, b: bool(_frozen(a) & _frozen(b)))

    add("find", text, [text, text], _find, member=True)
    add("findAll", _T.List(text), [text, text], _find_all, member=True)

    add_addresses(add)
    return [cel.FunctionDecl(name, overloads) for name, overloads in table.items()]
