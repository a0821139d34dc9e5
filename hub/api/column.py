"""One column of `kubectl get`, as a kind's model asks for it and an API server prints it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Column:
    """`wide` ones show with ``-o wide`` only."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False
    description: str = ""


AGE: Final = Column("AGE", ".metadata.creationTimestamp", "date")
