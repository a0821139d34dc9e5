"""CEL selectors over a ManagedCluster, by cel-expr-python: loaded at the first expression, compiled once.

An expression that does not compile is the author's mistake and named by field when the rule is parsed. One that fails
on a cluster, or comes to anything but true or false there, does not match that cluster, as in OCM.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from hub.api.errors import InvalidObjectError

MAX_LENGTH = 4096


def check_expression(text: str, field: str) -> None:
    """Raises `InvalidObjectError` for an expression that does not compile or can never be true or false."""
    if not text.strip() or len(text) > MAX_LENGTH:
        raise InvalidObjectError(f"an expression has 1 to {MAX_LENGTH} characters", field=field)
    compiled = _compile(text)
    if isinstance(compiled, str):
        raise InvalidObjectError(
            f"{text!r} is not a CEL expression over managedCluster that is true or false: {compiled}", field=field
        )


def holds(text: str, cluster: Mapping[str, Any]) -> bool:
    """Whether the expression is true for this ManagedCluster."""
    compiled = _compile(text)
    if isinstance(compiled, str):
        return False
    try:
        result = compiled.eval(data={"managedCluster": cluster})
        return result.type() == _engine()[1].Type.BOOL and result.plain_value() is True
    # The engine's own errors are bare RuntimeErrors and TypeErrors.
    except Exception:
        return False


@cache
def _engine() -> tuple[Any, Any]:
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_bindings, ext_math, ext_optional, ext_strings

    extensions = [ext_strings.ExtStrings(), ext_math.ExtMath(), ext_optional.ExtOptional(), ext_bindings.ExtBindings()]
    return cel.NewEnv(variables={"managedCluster": cel.Type.DYN}, extensions=extensions), cel


@lru_cache(maxsize=1024)
def _compile(text: str) -> Any:
    """The compiled expression, or a string that says why there is none."""
    environment, cel = _engine()
    try:
        compiled = environment.compile(text)
    except Exception as error:
        return _readable(str(error))
    if compiled.return_type() not in (cel.Type.BOOL, cel.Type.DYN):
        return f"it gives {compiled.return_type().name()}"
    return compiled


def _readable(text: str) -> str:
    """The engine's first sentence without its codes: ``<input>:1:7: undeclared reference to 'x' (in container '')``."""
    first = text.split("\n", 1)[0].removeprefix("INVALID_ARGUMENT: ").removeprefix("ERROR: ")
    return re.sub(r"^<input>:(\d+):(\d+): ", r"at \1:\2: ", first).removesuffix(" (in container '')")
