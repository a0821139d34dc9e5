"""CEL selectors over a ManagedCluster: Kubernetes' libraries, and OCM's `scores()` and `parseJSON` beside them.

An expression that does not compile is the author's mistake and named by field when the rule is parsed. One that fails
on a cluster, or comes to anything but true or false there, does not match that cluster, as in OCM; so does one that
costs more than the engine allows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from hub.api import cel
from hub.api.errors import InvalidObjectError

MAX_LENGTH = 4096
# The scores that one AddOnPlacementScore gives a cluster: (cluster, resource) → score by name, None without any.
Scores = Callable[[str, str], Mapping[str, float] | None]

_VARIABLES = ("managedCluster",)
_SCORES = re.compile(r"\bscores\s*\(")
_scores: ContextVar[Scores | None] = ContextVar("scores", default=None)


def check_expression(text: str, field: str) -> None:
    """Raises `InvalidObjectError` for an expression that does not compile or can never be true or false."""
    if not text.strip() or len(text) > MAX_LENGTH:
        raise InvalidObjectError(f"an expression has 1 to {MAX_LENGTH} characters", field=field)
    try:
        program = _compile(text)
        if program.gives in ("bool", "dyn"):
            return
        problem = f"it gives {program.gives.upper()}"
    except cel.CelError as error:
        problem = _readable(str(error))
    raise InvalidObjectError(
        f"{text!r} is not a CEL expression over managedCluster that is true or false: {problem}", field=field
    )


def reads_scores(text: str) -> bool:
    """Whether the expression's value may change with the scores of clusters."""
    return _SCORES.search(text) is not None


def holds(text: str, cluster: Mapping[str, Any], scores: Scores | None = None) -> bool:
    """Whether the expression is true for this ManagedCluster."""
    token = _scores.set(scores)
    try:
        return _compile(text).evaluate({"managedCluster": cluster}) is True
    except cel.CelError:
        return False
    finally:
        _scores.reset(token)


def _compile(text: str) -> cel.Program:
    return cel.compile_expression(text, _VARIABLES, _declarations)


def _declarations() -> list[Any]:
    from cel_expr_python import cel as engine

    kinds = engine.Type
    of_cluster = engine.Overload(
        "ocm_scores",
        return_type=kinds.List(kinds.DYN),
        parameters=[kinds.Map(kinds.STRING, kinds.DYN), kinds.STRING],
        is_member=True,
        impl=_scores_of,
    )
    parse = engine.Overload("ocm_parse_json", return_type=kinds.DYN, parameters=[kinds.STRING], impl=json.loads)
    return [engine.FunctionDecl("scores", [of_cluster]), engine.FunctionDecl("parseJSON", [parse])]


def _scores_of(cluster: Mapping[str, Any], resource: str) -> list[dict[str, Any]]:
    lookup = _scores.get()
    name = str(cluster["metadata"]["name"])
    found = lookup(name, resource) if lookup is not None else None
    if found is None:
        raise ValueError(f"no AddOnPlacementScore {resource} of cluster {name}")
    return [{"name": score, "value": int(value)} for score, value in sorted(found.items())]


def _readable(text: str) -> str:
    """The engine's first sentence without its codes: ``<input>:1:7: undeclared reference to 'x' (in container '')``."""
    return re.sub(r"^<input>:(\d+):(\d+): ", r"at \1:\2: ", text).removesuffix(" (in container '')")
