"""What a hub's scorers know at one moment, as a value that can be sent: so that somebody else ranks as the hub does.

Most of what ranks clusters follows from the API's objects. What does not is here: the values that only the hub has
asked for, exactly, what is typically asked of it, what its plugins answer, and what each scorer counts. `ranked_by`
makes scorers of it; objects and reports are read by whoever has them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from hub.api.errors import InvalidObjectError
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.scoring.builtin import default_scorers
from hub.scoring.interface import ScoreRequest, WeightedScorer
from hub.scoring.mix import ShapeMix, Typical
from hub.scoring.normalise import Normaliser

Json = dict[str, Any]
_T = TypeVar("_T")
_ANY = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Column:
    """Values by cluster, and until when (epoch seconds; None: for ever) they count. `until`: of those that end before
    the others."""

    values: dict[str, float]
    valid_until: float | None = None
    until: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a source or plugin does. `at`: epoch seconds of its last answer; None: never. `problem`: empty if none."""

    at: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a plugin says for one shape: values by cluster (one that is not there is unknown), who its filter keeps
    out, and how many tasks more it allows where it limits that."""

    shape: TaskShape
    values: dict[str, float]
    kept_out: tuple[str, ...] = ()
    limits: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PluginState:
    """`about`: the clusters it is about; None: all."""

    lower_is_better: bool = False
    normaliser: Normaliser | None = None
    about: tuple[str, ...] | None = None
    answers: tuple[Answer, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoreState:
    """`weights`: every scorer that counts, in the order in which they are summed. `columns`: of ScoreSources."""

    now: float
    weights: tuple[tuple[str, float], ...] = ()
    typical: tuple[Typical, ...] = ()
    columns: dict[str, Column] = field(default_factory=dict)
    standing: dict[str, Standing] = field(default_factory=dict)
    plugins: dict[str, PluginState] = field(default_factory=dict)


class Recorded:
    """A plugin as it answered elsewhere; unknown for a shape that it was not asked about."""

    def __init__(self, name: str, state: PluginState, problem: str = "") -> None:
        self.name = name
        self.lower_is_better = state.lower_is_better
        self.normaliser = state.normaliser
        self.problem = problem
        self._answers = {_plain(answer.shape): answer for answer in state.answers}
        self._about = None if state.about is None else frozenset(state.about)
        if any(answer.kept_out for answer in state.answers):
            self.filter = self._filter
        if any(answer.limits for answer in state.answers):
            self.limit = self._limit

    def score(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.float64]:
        answer = self._answers.get(_plain(request.shape))
        if answer is None:
            # Values that are the same whatever is asked for are a column; of others there is none.
            return fleet.scores(self.name, request.now)
        values: Mapping[str, float] = answer.values
        return np.array([values.get(name, math.nan) for name in fleet.names], np.float64)

    def _limit(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.int64]:
        """As it was said, less what this decision has placed there since; more only the plugin could know.

        Of a shape that it was not asked about the least that it allowed of any: no advice may rest on a guess.
        """
        answer = self._answers.get(_plain(request.shape))
        asked = [answer] if answer is not None else list(self._answers.values())
        least = [min((one.limits[name] for one in asked if name in one.limits), default=None) for name in fleet.names]
        return np.array(
            [
                _ANY if limit is None else max(0, limit - _placed(fleet, name))
                for name, limit in zip(fleet.names, least, strict=True)
            ],
            np.int64,
        )

    def concerns(self, fleet: Fleet) -> NDArray[np.bool_] | None:
        if self._about is None:
            return None
        return np.array([name in self._about for name in fleet.names], np.bool_)

    def _filter(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.bool_]:
        answer = self._answers.get(_plain(request.shape))
        out = frozenset(answer.kept_out) if answer is not None else frozenset[str]()
        return np.array([name not in out for name in fleet.names], np.bool_)


def ranked_by(state: ScoreState, sources: Iterable[WeightedScorer]) -> tuple[WeightedScorer, ...]:
    """The hub's scorers in its order. `sources`: made of its ScoreSources; what is not among them is left out."""
    known = {entry.scorer.name: entry.scorer for entry in sources}
    known |= {entry.scorer.name: entry.scorer for entry in default_scorers(ShapeMix(state.typical))}
    for name, plugin in state.plugins.items():
        known[name] = Recorded(name, plugin, state.standing.get(name, Standing()).problem)
    return tuple(WeightedScorer(known[name], weight) for name, weight in state.weights if name in known)


def to_document(state: ScoreState) -> Json:
    document = _states().dump_python(state, mode="json")
    assert isinstance(document, dict), "a dataclass is an object"
    return document


def from_document(document: Any) -> ScoreState:
    """Raises `InvalidObjectError` for what is no such document."""
    return _read(_states(), document, "state of a hub's scorers")


def shape_documents(shapes: Sequence[TaskShape]) -> list[Any]:
    found: list[Any] = _shapes().dump_python(list(shapes), mode="json")
    return found


def read_shapes(documents: Any) -> list[TaskShape]:
    """Raises `InvalidObjectError` for what is no list of them."""
    return _read(_shapes(), documents, "list of shapes")


def known_values(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float]:
    return {name: value for name, value in zip(names, values.tolist(), strict=True) if math.isfinite(value)}


def _read(adapter: TypeAdapter[_T], document: Any, what: str) -> _T:
    try:
        return adapter.validate_python(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidObjectError(f"this is no {what}: {where or 'it'}: {first['msg']}") from error


@cache
def _states() -> TypeAdapter[ScoreState]:
    return TypeAdapter(ScoreState)


@cache
def _shapes() -> TypeAdapter[list[TaskShape]]:
    return TypeAdapter(list[TaskShape])


def _placed(fleet: Fleet, cluster: str) -> int:
    return sum(holding.count for key, holding in fleet.held(cluster).items() if key.startswith("cycle/"))


def _plain(shape: TaskShape) -> TaskShape:
    """Flavors add labels and tolerations to what is asked; a plugin was told the job's own shape."""
    return TaskShape(shape.requests, shape.gpu_share, shape.gpu_models, shape.gpu_min_memory)
