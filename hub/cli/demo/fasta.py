"""Input for the demo: FASTA files as a sequencing run leaves them, made by a seeded generator, a few of them cut short.

Each header carries the contig's length, so a reader can tell a truncated file from a short one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

FILES = 60
TRUNCATED = (7, 23, 41)
_CONTIGS = (4, 9)
_LENGTHS = (2_000, 16_000)
_LINE = 70


def write_samples(directory: Path, *, seed: int = 2026, files: int = FILES) -> int:
    """`sample-000.fasta` … in `directory`; returns the bytes written. The same seed gives the same bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    written = 0
    for number in range(files):
        # A generator of its own a file: one file's content does not depend on how many came before.
        content = "".join(_contigs(random.Random(f"{seed}/{number}")))
        if number in TRUNCATED:
            content = content[: len(content) * 3 // 5]
        (directory / f"sample-{number:03d}.fasta").write_text(content)
        written += len(content)
    return written


def _contigs(rng: random.Random) -> Iterator[str]:
    gc = rng.uniform(0.32, 0.62)
    weights = [(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2]
    for number in range(rng.randint(*_CONTIGS)):
        length = rng.randint(*_LENGTHS)
        bases = "".join(rng.choices("ACGT", weights, k=length))
        yield f">contig-{number} length={length}\n"
        yield from (bases[start : start + _LINE] + "\n" for start in range(0, length, _LINE))
