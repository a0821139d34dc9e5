"""How much of a node's free GPUs would be of no use: the order in which nodes are taken, the same in hub and sites.

A node is judged by itself, so that both mean the same node without asking each other: tasks of a quarter of a GPU up to
eight, each with half of and with all the CPU that such a part of the node comes with. What of the free GPUs such a task
could not use, because they are in pieces or have no CPU beside them, is wasted on it; the sum over all of these tasks
is the node's waste, in thousandths of GPUs. Integers only: what is equal is equal on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

WHOLE: Final = 1000
# Thousandths of one GPU, and numbers of whole ones, that the tasks ask for.
PARTS: Final = (250, 500)
WHOLES: Final = (1, 2, 4, 8)


def node_waste(gpus: Sequence[int], offered: int, cpu: int, cpu_offered: int) -> int:
    """`gpus`: free thousandths of each; `offered`: what they are in all; `cpu`: free and offered thousandths.

    A node that says nothing of CPU offers 0 of it, and none is asked for.
    """
    left = sum(gpus)
    whole = gpus.count(WHOLE)
    usable = [sum(free for free in gpus if free >= part) for part in PARTS]
    usable += [whole * WHOLE if whole >= count else 0 for count in WHOLES]
    wasted = 0
    have = 2 * offered * cpu
    for size, use in zip((*PARTS, *(count * WHOLE for count in WHOLES)), usable, strict=True):
        if size <= offered:
            asked = size * cpu_offered
            wasted += 2 * left - use * ((have >= asked) + (have >= 2 * asked))
    return wasted
