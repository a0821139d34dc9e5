"""The demo's program: one FASTA file in, one JSON line out (GC content, N50, k-mer counts).

An ordinary program that knows nothing of Quarterdeck but one environment variable: which task it is.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

_KS = range(2, 10)
_TOP_K = 4


def read_contigs(path: Path) -> list[str]:
    """Sequences by contig. Raises ValueError when one is shorter than its header says."""
    contigs: list[str] = []
    expected: list[tuple[str, int]] = []
    for line in path.read_text().splitlines():
        if line.startswith(">"):
            name, _, declared = line[1:].partition(" length=")
            expected.append((name, int(declared)))
            contigs.append("")
        else:
            contigs[-1] += line
    for (name, length), bases in zip(expected, contigs, strict=True):
        if len(bases) != length:
            raise ValueError(f"{path.name}: {name} has {len(bases)} of its {length} bases: truncated?")
    return contigs


def n50(lengths: list[int]) -> int:
    """The length of the contig at which half of all bases are in contigs at least that long."""
    half, covered = sum(lengths) / 2, 0
    for length in sorted(lengths, reverse=True):
        covered += length
        if covered >= half:
            return length
    return 0


def main() -> None:
    path = Path(sys.argv[1]) / f"sample-{int(os.environ['QUARTERDECK_TASK_INDEX']):03d}.fasta"
    try:
        contigs = read_contigs(path)
    except (OSError, ValueError) as error:
        sys.exit(f"sequence_stats: {error}")
    bases = sum(map(len, contigs))
    counts = {k: Counter(contig[i : i + k] for contig in contigs for i in range(len(contig) - k + 1)) for k in _KS}
    gc = sum(contig.count("G") + contig.count("C") for contig in contigs)
    result = {"file": path.name, "bases": bases, "gc": round(gc / bases, 4), "n50": n50([len(c) for c in contigs])}
    result["kmers"] = sum(counter.total() for counter in counts.values())
    result["distinct"] = {str(k): len(counter) for k, counter in counts.items()}
    result["top"] = [kmer for kmer, _ in counts[_TOP_K].most_common(3)]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
