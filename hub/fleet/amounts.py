"""Reading what other people wrote: maps, lists and quantities of an object, checked, with the field in the error.

Sites report what they like. A number that is negative, unreadable or absurd must end as a sentence about that site and
never as a crash or as a wrapped integer in everybody's column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from hub.api.errors import InvalidObjectError
from hub.api.quantity import Quantity
from hub.fleet.shape import amount_of

# 64 Pi of anything on one node: above what exists, far below what a sum over a site's nodes could wrap.
MAX_AMOUNT = 1 << 56
_MAX_PRICE = 10**21
_MAX_DIGITS = 64
_SHIFTS = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50}
_PLAIN = 17
# What an API server takes for a label's key and value, and Open Cluster Management for a claim's.
MAX_KEY = 317
MAX_LABEL = 63
MAX_CLAIM = 1024
# Of labels, taints, claims, conditions and the like of one object: far above what anybody has.
MAX_ENTRIES = 1000


def mapping(value: Any, field: str) -> Mapping[str, Any]:
    """`value` as a map; absent is empty. Raises `InvalidObjectError`."""
    # Nearly always; the test against the abstract class costs ten times as much.
    if type(value) is dict:
        return value
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidObjectError(f"{shorten(value)} is not a map", field=field)
    return value


def entries(value: Any, field: str, most: int = MAX_ENTRIES) -> Sequence[Mapping[str, Any]]:
    """`value` as a list of at most `most` maps; absent is empty. Raises `InvalidObjectError`."""
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise InvalidObjectError(f"{shorten(value)} is not a list", field=field)
    if len(value) > most:
        # Before anything of it is read: who sends a hundred thousand sends them again and again.
        raise InvalidObjectError(f"{len(value):,} entries, at most {most:,}", field=field)
    for position, entry in enumerate(value):
        if type(entry) is not dict and not isinstance(entry, Mapping):
            raise InvalidObjectError(f"{shorten(entry)} is not a map", field=f"{field}[{position}]")
    return value


def texts(value: Any, field: str, longest: int = MAX_LABEL) -> dict[str, str]:
    """A map of strings, such as labels: of at most so many characters each. Raises `InvalidObjectError`."""
    given = mapping(value, field)
    if len(given) > MAX_ENTRIES:
        raise InvalidObjectError(f"{len(given):,} entries, at most {MAX_ENTRIES:,}", field=field)
    found: dict[str, str] = {}
    for key in _ordered(given):
        member = given[key]
        if type(key) is not str or type(member) is not str:
            key, member = str(key), str(member)
        if len(member) > longest or len(key) > MAX_KEY:
            short(member, longest, f"{field}.{short(key, MAX_KEY, field)}")
        found[key] = member
    return found


def _ordered(given: Mapping[str, Any]) -> Sequence[str]:
    try:
        return sorted(given)
    except TypeError:
        # YAML has keys that are no strings.
        return sorted(given, key=str)


def short(text: str, longest: int, field: str) -> str:
    """`text`, where it has at most `longest` characters. Raises `InvalidObjectError`."""
    if len(text) > longest:
        raise InvalidObjectError(
            f"{len(text):,} characters that begin with {shorten(text[:20])}, at most {longest:,}", field=field
        )
    return text


def whole(value: Any, field: str, most: int) -> int:
    """An integer between 0 and `most`. Raises `InvalidObjectError`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise InvalidObjectError(f"{shorten(value)} is not a whole number from 0 to {most:,}", field=field)
    return value


def amount(resource: str, value: Any, field: str) -> int:
    """As `amount_of`, and not more than `MAX_AMOUNT`."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Quantity):
        raise InvalidObjectError(f"{shorten(value)} is not a quantity", field=field)
    if isinstance(value, int) and value.bit_length() > 256:
        raise InvalidObjectError(f"{shorten(value)} is more than any node has", field=field)
    if isinstance(value, str) and len(value) > _MAX_DIGITS:
        raise InvalidObjectError(f"{shorten(value)} is not a quantity", field=field)
    try:
        found = _amount(resource, value)
    except InvalidObjectError as error:
        raise InvalidObjectError(str(error).removeprefix(f"{resource}: "), field=field) from error
    if found > MAX_AMOUNT:
        raise InvalidObjectError(f"{shorten(value)} is more than any node has", field=field)
    return found


@lru_cache(maxsize=8192)
def _amount(resource: str, value: str | int | float | Quantity) -> int:
    return amount_of(resource, value)


def totals(value: Any, field: str) -> dict[str, int]:
    """A resource list in `amount_of` units, in the order of names. Raises `InvalidObjectError` naming the entry."""
    found = unordered_totals(value, field)
    return found if len(found) < 2 else dict(sorted(found.items()))


def unordered_totals(value: Any, field: str) -> dict[str, int]:
    """As `totals`, in the order in which they were written: for those who only look amounts up."""
    given = mapping(value, field)
    if len(given) > MAX_ENTRIES:
        raise InvalidObjectError(f"{len(given):,} entries, at most {MAX_ENTRIES:,}", field=field)
    found: dict[str, int] = {}
    for resource, quantity in given.items():
        name = resource if type(resource) is str else str(resource)
        known = _plain(name, quantity) if type(quantity) is str and len(name) <= MAX_KEY else None
        found[name] = amount(name, quantity, f"{field}.{short(name, MAX_KEY, field)}") if known is None else known
    return found


def _plain(resource: str, quantity: str) -> int | None:
    """`amount` of what nearly all quantities are: digits, with a binary unit, or thousandths of CPUs. None: another.

    Not kept anywhere: the memory of every machine is another number.
    """
    if len(quantity) > _PLAIN or not quantity.isascii():
        return None
    if quantity.isdigit():
        found = int(quantity)
        if resource == "cpu":
            found *= 1000
    elif (shift := _SHIFTS.get(quantity[-2:])) is not None:
        digits = quantity[:-2]
        if not digits.isdigit():
            return None
        found = int(digits) << shift
        if resource == "cpu":
            found *= 1000
    elif resource == "cpu" and quantity[-1:] == "m" and (digits := quantity[:-1]).isdigit():
        found = int(digits)
    else:
        return None
    return found if found <= MAX_AMOUNT else None


def price(value: Any, field: str) -> float:
    """Money an hour: finite and not negative. Raises `InvalidObjectError`."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Quantity):
        raise InvalidObjectError(f"{shorten(value)} is not a price", field=field)
    if isinstance(value, str) and len(value) > _MAX_DIGITS:
        raise InvalidObjectError(f"{shorten(value)} is not a price", field=field)
    try:
        nano = Quantity(value).nano
    except InvalidObjectError as error:
        raise InvalidObjectError(str(error), field=field) from error
    if not 0 <= nano <= _MAX_PRICE:
        raise InvalidObjectError(f"{shorten(value)} is not a price from 0 to 1T", field=field)
    return nano / 1e9


def shorten(value: Any) -> str:
    """Anything, short enough for a message."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
