"""CEL behind one interface: compile a text once, evaluate it over plain JSON values many times.

The engine (cel-expr-python) is imported at the first expression only. It comes with the hub's extra; an agent installed
without it checks no rules (`available()` is False there), which the hub it reports to does anyway. The engine bounds
what an expression may cost: beyond its budget of iterations it answers an error, never late.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any, Final

from hub.api.errors import InvalidObjectError

MAX_LENGTH: Final = 16_384
VARIABLES: Final = ("self", "oldSelf")
# Functions of somebody's own beside Kubernetes': asked once, when the engine is loaded.
Extra = Callable[[], list[Any]]


class CelError(InvalidObjectError):
    """An expression that does not compile, or that came to no value."""


class Bound:
    """Values for several expressions of the same variables: what one of them has converted, the next finds."""

    __slots__ = ("activation",)

    def __init__(self, values: Mapping[str, Any], variables: tuple[str, ...] = VARIABLES) -> None:
        environment, _ = _environment(variables)
        self.activation = environment.Activation(values)


class Program:
    """One compiled expression. Evaluation is a few microseconds; values are converted when they are first touched."""

    __slots__ = ("_error_type", "_expression", "text")

    def __init__(self, text: str, expression: Any, error_type: Any) -> None:
        self.text = text
        self._expression = expression
        self._error_type = error_type

    @property
    def gives(self) -> str:
        """The type of its value as far as the compiler knows: ``bool``, ``string``, ``dyn``, …"""
        return str(self._expression.return_type().name()).lower()

    def evaluate(self, values: Mapping[str, Any] | Bound) -> Any:
        """The plain value of the expression. Raises `CelError` when it has none: a missing key, a budget used up."""
        try:
            if isinstance(values, Bound):
                result = self._expression.eval(values.activation)
            else:
                result = self._expression.eval(data=values)
            value = result.value()
            # Asking for the type costs more than the evaluation, and no error is a truth value.
            if value is True or value is False:
                return value
            if result.type() == self._error_type:
                raise CelError(_readable(str(value)))
            return result.plain_value()
        except CelError:
            raise
        except Exception as error:  # The engine's own exceptions are bare RuntimeErrors and TypeErrors.
            raise CelError(_readable(str(error))) from error


@cache
def available() -> bool:
    return importlib.util.find_spec("cel_expr_python") is not None


@lru_cache(maxsize=1024)
def compile_expression(text: str, variables: tuple[str, ...] = VARIABLES, extra: Extra | None = None) -> Program:
    """Raises `CelError` with what the compiler says."""
    if len(text) > MAX_LENGTH:
        raise CelError(f"an expression of {len(text)} characters is too long; at most {MAX_LENGTH}")
    environment, error_type = _environment(variables, extra)
    try:
        return Program(text, environment.compile(text), error_type)
    except Exception as error:  # Likewise.
        raise CelError(_readable(str(error))) from error


@cache
def _environment(variables: tuple[str, ...], extra: Extra | None = None) -> tuple[Any, Any]:
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_bindings, ext_math, ext_optional, ext_strings

    from hub.api.cel_functions import declarations

    environment = cel.NewEnv(
        variables=dict.fromkeys(variables, cel.Type.DYN),
        extensions=[
            ext_strings.ExtStrings(),
            ext_math.ExtMath(),
            ext_optional.ExtOptional(),
            ext_bindings.ExtBindings(),
        ],
        functions=[*declarations(), *(extra() if extra is not None else ())],
    )
    return environment, cel.Type.ERROR


def _readable(text: str) -> str:
    """The first sentence of what the engine says, without its codes and drawings."""
    first = text.split("\n", 1)[0].removeprefix("INVALID_ARGUMENT: ").removeprefix("ERROR: ")
    for code in ("UNKNOWN: ", "INTERNAL: ", "NOT_FOUND: ", "OUT_OF_RANGE: "):
        first = first.removeprefix(code)
    for tail in (" [INVALID_ARGUMENT]", " [INTERNAL]"):
        first = first.removesuffix(tail)
    return first.replace("Key not found in map : ", "no such key: ")
