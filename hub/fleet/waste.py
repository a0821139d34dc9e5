"""`hub.api.waste.node_waste` for all nodes of a table at once. Pure integer arithmetic on vectors.

What of a node's free GPUs the tasks that are looked for could use follows from four numbers of it: what is free in all,
how many GPUs are wholly free, and what is free on GPUs with room for each of the parts. Who keeps these need not look
at single GPUs again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hub.api.waste import PARTS, WHOLE, WHOLES, node_waste

Ints = NDArray[np.int64]
_SIZES: Final[Ints] = np.array((*PARTS, *(count * WHOLE for count in WHOLES)), np.int64)[:, None]
_PARTS: Final[Ints] = np.array(PARTS, np.int64)[:, None]
_WHOLES: Final[Ints] = np.array(WHOLES, np.int64)[:, None]
_NEVER: Final = 1 << 62


def parts_of(gpus: Ints) -> Ints:
    """Of `gpus` [node, GPU] what is free on GPUs with room for each part: [part, node]."""
    found: Ints = np.where(gpus >= _PARTS[:, :, None], gpus, 0).sum(axis=2)
    return found


class WasteScale:
    """What the nodes of one table are measured by; made once a table. Vectors are along its nodes."""

    __slots__ = ("_asked", "_doubled", "_sizes", "_twice", "cpu", "offered")

    def __init__(self, cpu: Ints, offered: Ints) -> None:
        """`cpu` and `offered` (GPUs), both in thousandths, of each node in all."""
        self.cpu, self.offered = cpu, offered
        fits = offered >= _SIZES
        asked = _SIZES * cpu
        # A size that the node never had runs never, and wastes nothing.
        self._asked: Ints = np.where(fits, asked, _NEVER)
        self._twice: Ints = np.where(fits, 2 * asked, _NEVER)
        self._sizes: Ints = 2 * fits.sum(axis=0)
        self._doubled: Ints = 2 * offered

    def waste(self, cpu: Ints, left: Ints, whole: Ints, parts: Ints, nodes: Ints) -> Ints:
        """Of `nodes`, where `cpu` and of GPUs `left` is free, `whole` of them wholly; `parts` as `parts_of` has it."""
        usable = np.concatenate((parts, np.where(whole >= _WHOLES, whole * WHOLE, 0)))
        have = self._doubled[nodes] * cpu
        runs = (have >= self._asked[:, nodes]).astype(np.int64)
        runs += have >= self._twice[:, nodes]
        wasted: Ints = left * self._sizes[nodes] - (usable * runs).sum(axis=0)
        return wasted

    def waste_at(self, node: int, cpu: int, gpus: Sequence[int]) -> int:
        """Of one node, in plain numbers: a vector of one costs more."""
        return node_waste(gpus, int(self.offered[node]), cpu, int(self.cpu[node]))
