"""Ports that nobody uses now, and that no outgoing connection will be given before they are."""

from __future__ import annotations

import random
import socket
from typing import Final

# Below the ports that the kernel hands out for outgoing connections (32768 and up), above those of known services.
_FIRST: Final = 18_000
_LAST: Final = 32_000


def free(count: int) -> list[int]:
    """`count` ports of 127.0.0.1, all different. Raises OSError when there are none to be found."""
    found: list[int] = []
    for port in random.sample(range(_FIRST, _LAST), _LAST - _FIRST):
        if len(found) == count:
            return found
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    raise OSError(f"no {count} free ports between {_FIRST} and {_LAST}")
