"""Allocation over time as an SVG: GPUs held, as steps, under the line of the quota; no plotting library."""

from __future__ import annotations

from collections.abc import Sequence

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _BOTTOM, _TOP = 900, 300, 56, 16, 40, 16
_STYLE = (
    "text{font:11px sans-serif;fill:#52606d} .grid{stroke:#e4e7eb} .quota{stroke:#c92a2a;stroke-dasharray:5 4}"
    " .held{fill:#0b7285;fill-opacity:.18} .edge{fill:none;stroke:#0b7285;stroke-width:1.5}"
)


def allocation_svg(samples: Sequence[tuple[float, int]], limit: int) -> str:
    """`samples`: (seconds, thousandths of a GPU held from then on), by time; `limit`: the quota in thousandths."""
    end = max((at for at, _ in samples), default=1.0)
    top = max(limit, max((level for _, level in samples), default=0)) * 1.08 / 1000

    def x(at: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * at / end, 1)

    def y(gpus: float) -> float:
        return round(_HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * gpus / top, 1)

    steps, level = [(x(0), y(0))], 0.0
    for at, milli in samples:
        steps += [(x(at), y(level)), (x(at), y(milli / 1000))]
        level = milli / 1000
    edge = " ".join(f"{a},{b}" for a, b in steps)
    parts = [f"<style>{_STYLE}</style>", f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>']
    for i in range(5):
        height = y(top * i / 4)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{height}" y2="{height}"/>')
        parts.append(_text(_LEFT - 8, height + 4, f"{top * i / 4:.0f}", "end"))
    parts += [_text(x(end * i / 6), _HEIGHT - 20, f"{end * i / 6:.0f}", "middle") for i in range(7)]
    parts.append(f'<polygon class="held" points="{edge} {x(end)},{y(0)}"/><polyline class="edge" points="{edge}"/>')
    quota = y(limit / 1000)
    parts.append(f'<line class="quota" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{quota}" y2="{quota}"/>')
    parts.append(_text(_WIDTH - _RIGHT - 4, quota - 6, "quota of the cohort", "end"))
    parts.append(_text(_LEFT, 12, "GPUs held", "start"))
    parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 6, "seconds since the first job", "end"))
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}">\n{body}\n</svg>\n'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'
