"""The public GPU trace (openb): `data` reads it, `replay` packs it; bench/trace.py runs it through a whole fleet."""

from bench.openb.replay import run

__all__ = ["run"]
