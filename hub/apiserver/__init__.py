"""The embedded Kubernetes API.

    async with serve(directory) as server: …               # behind HTTP: server.url, server.token
    async with ControlPlane(directory) as plane: …         # in this process only: InProcessApi(plane)

Loaded when asked for: whoever only writes a kubeconfig does not pay for a server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hub.apiserver.inprocess import InProcessApi
    from hub.apiserver.plane import ControlPlane
    from hub.apiserver.server import ApiServer, serve

__all__ = ["ApiServer", "ControlPlane", "InProcessApi", "serve"]

_WHERE = {"ApiServer": "server", "ControlPlane": "plane", "InProcessApi": "inprocess", "serve": "server"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
