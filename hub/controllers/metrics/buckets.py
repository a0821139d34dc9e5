"""Buckets that several histograms share, so that their panels can be read side by side."""

from __future__ import annotations

from typing import Final

CYCLE: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds of one step of the loop, or of one call that it waits for."""
