"""Scorers that tests of several rooms use: what people write who count something that no node reports."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from hub.fleet.fleet import Fleet
from hub.scoring.interface import ScoreRequest


class Licences:
    """So many tasks with a licence may run in the fleet, wherever; one that asks for CPU needs one."""

    name = "licences"
    weight = 1.0

    class Config(BaseModel):
        total: int = 10

    def __init__(self, config: Any = None) -> None:
        self.total = config.total if config is not None else 10
        self.used = 0
        self.told: list[tuple[str, str, int]] = []

    def score(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.float64]:
        return np.zeros(len(fleet.names))

    def limit(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.int64]:
        free = max(0, self.total - self.used) if request.shape.request("cpu") else 1 << 40
        return np.full(len(fleet.names), free, np.int64)

    def reserve(self, cluster: str, request: ScoreRequest) -> None:
        self.told.append(("reserve", cluster, request.count))
        if request.shape.request("cpu"):
            self.used += request.count

    def unreserve(self, cluster: str, request: ScoreRequest) -> None:
        self.told.append(("unreserve", cluster, request.count))
        if request.shape.request("cpu"):
            self.used -= request.count


class PowerBudget:
    """Tasks by site; a site takes no more than four whatever its nodes could hold, and the fuller one is worse."""

    name = "power"
    lower_is_better = True

    def __init__(self) -> None:
        self.running: dict[str, int] = {}

    def score(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.float64]:
        return np.array([float(self.running.get(name, 0)) for name in fleet.names])

    def filter(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.bool_]:
        return np.array([self.running.get(name, 0) < 4 for name in fleet.names], np.bool_)

    def limit(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.int64]:
        return np.array([max(0, 4 - self.running.get(name, 0)) for name in fleet.names], np.int64)

    def reserve(self, cluster: str, request: ScoreRequest) -> None:
        self.running[cluster] = self.running.get(cluster, 0) + request.count

    def unreserve(self, cluster: str, request: ScoreRequest) -> None:
        self.running[cluster] -= request.count
