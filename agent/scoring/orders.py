"""What the hub has told this cluster to ask its scorers, read once, and kept on disk for when the hub is away.

An agent that starts while it is cut off goes on with what it was told last.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from hub.api.errors import InvalidObjectError
from hub.asking.question import Question, from_wire

_log = logging.getLogger("agent.scoring")
SHORTEST: Final = 1.0
"""Seconds: nobody is asked more often."""


@dataclass(frozen=True, slots=True)
class Order:
    """`interval` and `valid_for` in seconds. `deadband`: scores that moved by less are not worth telling; None: every
    answer is. `digest` is the hub's, of the question."""

    scorer: str
    digest: str
    question: Question
    interval: float
    valid_for: float
    deadband: float | None = None


def read_orders(spec: Any) -> dict[str, Order]:
    """Of a ClusterScoring's spec, by scorer; what cannot be read is said and left out."""
    found: dict[str, Order] = {}
    for entry in (spec or {}).get("scorers") or ():
        try:
            order = _read(entry)
        except InvalidObjectError as error:
            fields = {"scorer": str(entry.get("scorer") if isinstance(entry, Mapping) else ""), "why": error}
            _log.error("a scorer cannot be asked as the hub says", extra={"fields": fields})
            continue
        found[order.scorer] = order
    return found


def _read(entry: Any) -> Order:
    try:
        interval = max(float(entry["intervalSeconds"]), SHORTEST)
        deadband = entry.get("deadband")
        return Order(
            str(entry["scorer"]),
            str(entry["digest"]),
            from_wire(entry),
            interval,
            float(entry.get("validSeconds") or 2 * interval),
            None if deadband is None else float(deadband),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidObjectError(f"{type(error).__name__}: {error}", field="spec.scorers") from error


class KeptOrders:
    """The spec in a file. A disk that does not take it costs only what happens after the next start."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Any:
        """None where nothing is kept, or nothing that can be read."""
        try:
            return orjson.loads(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, orjson.JSONDecodeError) as error:
            fields = {"file": str(self._path), "why": error}
            _log.warning("what scorers were to be asked is not known any more", extra={"fields": fields})
            return None

    def keep(self, spec: Any) -> None:
        """None: there is nothing to ask."""
        partial = self._path.with_suffix(".partial")
        try:
            if spec is None:
                with contextlib.suppress(FileNotFoundError):
                    self._path.unlink()
                return
            partial.write_bytes(orjson.dumps(spec))
            os.replace(partial, self._path)
        except OSError as error:
            fields = {"file": str(self._path), "why": error}
            _log.warning("what scorers are to be asked is not kept", extra={"fields": fields})
