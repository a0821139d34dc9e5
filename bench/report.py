"""How a benchmark says what it measured: ours beside the number to hold and, where there is one, a peer's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    what: str
    ours: float
    # None: measured and shown, nothing promised.
    hold: float | None
    unit: str
    at_least: bool = False
    peer: tuple[str, float] | None = None

    @property
    def held(self) -> bool | None:
        if self.hold is None:
            return None
        return self.ours >= self.hold if self.at_least else self.ours <= self.hold


def print_figures(title: str, figures: Sequence[Figure]) -> bool:
    """A table; True when every number to hold is held."""
    width = max(len(figure.what) for figure in figures)
    print(f"\n{title}\n{'':<{width}}  {'ours':>12}  {'to hold':>14}  {'':<6}  peer")
    for figure in figures:
        hold = "" if figure.hold is None else f"{'≥' if figure.at_least else '≤'} {_number(figure.hold)}"
        verdict = {True: "held", False: "MISSED", None: ""}[figure.held]
        peer = ""
        if figure.peer is not None:
            name, value = figure.peer
            better = figure.ours / value if figure.at_least else value / max(figure.ours, 1e-9)
            peer = f"{name} {_number(value)} ({better:.1f} ×)"
        ours = f"{_number(figure.ours)} {figure.unit}"
        print(f"{figure.what:<{width}}  {ours:>12}  {hold:>14}  {verdict:<6}  {peer}".rstrip())
    return all(figure.held is not False for figure in figures)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
