"""Which Kubernetes the end-to-end suites run against: the one line to change.

After changing it run `make e2e-pin`: it writes the Go modules under e2e/binaries anew. Exact versions only, since not
every patch release is served by every module proxy. The first is the one that everything uses unless told otherwise.
"""

from __future__ import annotations

from typing import Final

KUBERNETES: Final = ("1.37.2", "1.36.3")
KWOK: Final = "0.8.0"


def newest() -> str:
    return KUBERNETES[0]


def minor(version: str) -> str:
    """`1.37` of `1.37.2`."""
    return ".".join(version.split(".")[:2])


def chosen(wanted: str) -> str:
    """The version of the matrix that `wanted` names, in full or by its minor.

    Raises ValueError where the matrix has none.
    """
    for version in KUBERNETES:
        if wanted.removeprefix("v") in (version, minor(version)):
            return version
    raise ValueError(f"no Kubernetes {wanted!r} in e2e/versions.py: there is {', '.join(KUBERNETES)}")
