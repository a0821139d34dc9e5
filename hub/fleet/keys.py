"""Which cluster holds each charge: a map that is never changed, in pieces, so that the next one copies one piece only.

A fleet with ten thousand slices changes one of them some hundred times a second; copying a plain dict would cost more
than deciding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

_PIECES = 256


class KeyMap(Mapping[str, str]):
    __slots__ = ("_length", "_pieces")

    def __init__(self) -> None:
        self._pieces: tuple[dict[str, str], ...] = ({},) * _PIECES
        self._length = 0

    def __getitem__(self, key: str) -> str:
        return self._pieces[hash(key) % _PIECES][key]

    def __iter__(self) -> Iterator[str]:
        """In order of the keys: hashes of strings differ from one process to the next."""
        return iter(sorted(chain.from_iterable(self._pieces)))

    def __len__(self) -> int:
        return self._length

    def plus(self, key: str, value: str) -> KeyMap:
        at = hash(key) % _PIECES
        piece = self._pieces[at]
        return self._next(at, {**piece, key: value}, self._length + (key not in piece))

    def minus(self, key: str) -> KeyMap:
        at = hash(key) % _PIECES
        piece = dict(self._pieces[at])
        if key not in piece:
            return self
        del piece[key]
        return self._next(at, piece, self._length - 1)

    def _next(self, at: int, piece: dict[str, str], length: int) -> KeyMap:
        result = KeyMap.__new__(KeyMap)
        result._pieces = (*self._pieces[:at], piece, *self._pieces[at + 1 :])
        result._length = length
        return result
