"""`hub.api.waste.node_waste` for all nodes of a table at once. Pure integer arithmetic on vectors."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from hub.api.waste import PARTS, WHOLE, WHOLES

Ints = NDArray[np.int64]
_SIZES: Final = (*PARTS, *(count * WHOLE for count in WHOLES))


class WasteScale:
    """What the nodes of one table are measured by; made once a table. Vectors are along its nodes."""

    __slots__ = ("cpu", "offered")

    def __init__(self, cpu: Ints, offered: Ints) -> None:
        """`cpu` and `offered` (GPUs), both in thousandths, of each node in all."""
        self.cpu, self.offered = cpu, offered

    def waste(self, cpu: Ints, gpus: Ints, nodes: Ints) -> Ints:
        """Of `nodes`, where `cpu` [node] and `gpus` [node, GPU] are free."""
        left = gpus.sum(axis=1)
        whole = np.count_nonzero(gpus == WHOLE, axis=1)
        usable = [np.where(gpus >= part, gpus, 0).sum(axis=1) for part in PARTS]
        usable += [np.where(whole >= count, whole * WHOLE, 0) for count in WHOLES]
        offered, per = self.offered[nodes], self.cpu[nodes]
        have = 2 * offered * cpu
        wasted = np.zeros(len(nodes), np.int64)
        for size, use in zip(_SIZES, usable, strict=True):
            asked = size * per
            runs = (have >= asked).astype(np.int64) + (have >= 2 * asked)
            wasted += np.where(offered >= size, 2 * left - use * runs, 0)
        return wasted
