"""Kubernetes' own functions in CEL: quantities, lists, sets, regular expressions, addresses, versions.

Quantities and versions travel through the engine as text in one canonical form, so that `==` means what it should.
Of the list library indexOf is missing (the engine keeps that name for strings).
What is wrong with an argument is an exception here and an evaluation error there. Imported with the engine only.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from cel_expr_python import cel

from hub.api.quantity import NANO, Quantity
from hub.apiserver.constraints import freeze
from hub.apiserver.formats import compile_pattern

_T = cel.Type
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?", re.ASCII
)


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
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
    difference = Quantity(left).nano - Quantity(right).nano
    return (difference > 0) - (difference < 0)


def _as_integer(text: str) -> int:
    nano = Quantity(text).nano
    if nano % NANO:
        raise ValueError(f"{text} is not a whole number")
    return nano // NANO


def _version(text: str) -> tuple[Any, ...]:
    match = _SEMVER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a semantic version")
    major, minor, patch, pre = match.groups()
    # A release sorts after its pre-releases; numbers before words, numbers by value.
    parts = tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in pre.split(".")) if pre else ()
    return int(major), int(minor), int(patch), pre is None, parts


def _compare_versions(left: str, right: str) -> int:
    return (_version(left) > _version(right)) - (_version(left) < _version(right))


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
    add("isQuantity", whether, [text], _parses(Quantity))
    add("isLessThan", whether, [text, text], lambda a, b: _compare(a, b) < 0, member=True)
    add("isGreaterThan", whether, [text, text], lambda a, b: _compare(a, b) > 0, member=True)
    add("compareTo", number, [text, text], _compare, member=True)
    add("add", text, [text, text], lambda a, b: str(Quantity(a) + Quantity(b)), member=True)
    add("add", text, [text, number], lambda a, b: str(Quantity(a) + Quantity(b)), member=True)
    add("sub", text, [text, text], lambda a, b: str(Quantity(a) - Quantity(b)), member=True)
    add("sub", text, [text, number], lambda a, b: str(Quantity(a) - Quantity(b)), member=True)
    add("sign", number, [text], lambda a: _compare(a, "0"), member=True)
    add("isInteger", whether, [text], _parses(_as_integer), member=True)
    add("asInteger", number, [text], _as_integer, member=True)
    add("asApproximateFloat", _T.DOUBLE, [text], lambda a: Quantity(a).nano / NANO, member=True)

    add("isSemver", whether, [text], _parses(_version))
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

    add("isIP", whether, [text], _parses(ipaddress.ip_address))
    add("isCIDR", whether, [text], _parses(ipaddress.ip_interface))
    return [cel.FunctionDecl(name, overloads) for name, overloads in table.items()]
