"""Kubernetes resource quantities as an exact value.

Why a type of its own: ``0.1`` is not a float, ``1Gi`` and ``1G`` differ, ``1e3`` and ``1E`` mean different things, and
sums of quotas must not drift. A quantity is a rational number held as an integer count of nano-units (the API's own
resolution), so comparison and addition are exact. What it does not do: remember how the number was spelled;
`str()` gives the canonical form.

Grammar and rounding: k8s.io/apimachinery `resource.Quantity` (a value finer than nano is rounded up).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from hub.api.errors import InvalidQuantityError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

NANO: Final = 10**9
PATTERN: Final = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)

_BINARY: Final = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
# In thousand-millionths.
_DECIMAL: Final = {
    "n": 1, "u": 10**3, "m": 10**6, "": NANO, "k": 10**12, "M": 10**15, "G": 10**18, "T": 10**21, "P": 10**24,
    "E": 10**27,
}  # fmt: skip
_SCALES: Final = _DECIMAL | {suffix: size * NANO for suffix, size in _BINARY.items()}
_SYNTAX: Final = re.compile(
    r"([+-]?)([0-9]+\.?[0-9]*|\.[0-9]+)(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?[0-9]{1,3}))?", re.ASCII
)


class Quantity:
    """An exact amount of a resource: ``Quantity("1500m") + Quantity("0.5") == Quantity(2)``.

    Accepts what the API accepts (a string or an integer; a float only if its decimal spelling is a quantity, as JSON
    numbers are). Raises `InvalidQuantityError` otherwise, NaN and infinities included.
    """

    __slots__ = ("nano",)
    nano: int

    def __init__(self, value: str | int | float | Quantity = 0) -> None:
        if isinstance(value, Quantity):
            nano = value.nano
        elif isinstance(value, bool):
            raise InvalidQuantityError(value)
        elif isinstance(value, int):
            nano = value * NANO
        else:
            nano = _parse(str(value))
        object.__setattr__(self, "nano", nano)

    @classmethod
    def from_nano(cls, nano: int) -> Quantity:
        quantity = cls.__new__(cls)
        object.__setattr__(quantity, "nano", nano)
        return quantity

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Quantity never changes")

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return Quantity.from_nano, (self.nano,)

    def ceil(self) -> int:
        """Whole units, rounded up: what Kueue counts for everything but cpu."""
        return -(-self.nano // NANO)

    def milli(self) -> int:
        """Thousandths, rounded up: what Kueue counts for cpu."""
        return -(-self.nano // 10**6)

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity.from_nano(self.nano + other.nano)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity.from_nano(self.nano - other.nano)

    def __mul__(self, factor: int) -> Quantity:
        return Quantity.from_nano(self.nano * factor)

    __rmul__ = __mul__

    def __neg__(self) -> Quantity:
        return Quantity.from_nano(-self.nano)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.nano == other.nano

    def __lt__(self, other: Quantity) -> bool:
        return self.nano < other.nano

    def __le__(self, other: Quantity) -> bool:
        return self.nano <= other.nano

    def __gt__(self, other: Quantity) -> bool:
        return self.nano > other.nano

    def __ge__(self, other: Quantity) -> bool:
        return self.nano >= other.nano

    def __hash__(self) -> int:
        return hash(self.nano)

    def __bool__(self) -> bool:
        return self.nano != 0

    def __repr__(self) -> str:
        return f"Quantity({str(self)!r})"

    def __str__(self) -> str:
        return _canonical(self.nano)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Who only counts needs no models.
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            _validate, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": PATTERN,
            "x-kubernetes-int-or-string": True,
        }


def _validate(value: Any) -> Quantity:
    if not isinstance(value, str | int | float | Quantity):
        raise InvalidQuantityError(value)
    return Quantity(value)


@lru_cache(maxsize=4096)
def _parse(text: str) -> int:
    match = _SYNTAX.fullmatch(text.strip())
    if match is None or len(text) > 64:
        raise InvalidQuantityError(text)
    sign, digits, suffix, exponent = match.groups()
    whole, _, fraction = digits.partition(".")
    number, divisor = int(whole + fraction), 10 ** len(fraction)
    if exponent is None:
        number *= _SCALES[suffix or ""]
    elif exponent[0] == "-":
        number, divisor = number * NANO, divisor * 10 ** int(exponent[1:])
    else:
        number *= NANO * 10 ** int(exponent)
    magnitude = number if divisor == 1 else -(-number // divisor)
    return -magnitude if sign == "-" else magnitude


@lru_cache(maxsize=4096)
def _canonical(nano: int) -> str:
    if nano == 0:
        return "0"
    whole, rest = divmod(abs(nano), NANO)
    sign = "-" if nano < 0 else ""
    if rest == 0:
        for suffix, size in reversed(_BINARY.items()):
            if whole % size == 0:
                return f"{sign}{whole // size}{suffix}"
        for suffix in ("E", "P", "T", "G", "M", "k"):
            size = _DECIMAL[suffix] // NANO
            if whole % size == 0 and whole >= size:
                return f"{sign}{whole // size}{suffix}"
        return f"{sign}{whole}"
    for suffix, size in (("m", 10**6), ("u", 10**3), ("n", 1)):
        if abs(nano) % size == 0:
            return f"{sign}{abs(nano) // size}{suffix}"
    raise AssertionError("every integer is a multiple of one nano")
