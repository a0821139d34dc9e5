"""The process of one plugin that is not trusted: it is limited first, then loads the plugin, then answers questions.

Started by hub/controllers/isolated.py with two pipes and nothing else: no environment, no other descriptor, and, where
the kernel allows it, no network. It holds a fleet of its own, brought up to date by what the hub sends.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import signal
from typing import Any, Final, NoReturn

_NEWNET: Final = 0x40000000
_NEWUSER: Final = 0x10000000
_DIES_WITH_PARENT: Final = 1
_NO_NEW_PRIVILEGES: Final = 38
_OUT_OF_STEP: Final = 3


def limit(memory: int) -> bool:
    """What this process may have from now on; `memory`: bytes of address space. Returns whether it has no network."""
    # Interrupting the hub at a terminal is not meant for its helpers: they end with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    # It computes: it writes no files, leaves no core, starts nobody.
    for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(kind, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_DIES_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        offline = bool(libc.unshare(_NEWNET) == 0 or libc.unshare(_NEWUSER | _NEWNET) == 0)
    except (OSError, AttributeError):
        # No Linux: the other limits hold.
        offline = False
    return offline


def main(arguments: list[str]) -> NoReturn:
    """`arguments`: the descriptors to read from and to write to, and the bytes that it may have."""
    source, target, memory = (int(argument) for argument in arguments)
    offline = limit(memory)
    from hub.controllers.plugin_wire import Ended, receive, send

    with contextlib.suppress(Ended):
        first, _ = receive(source)
        try:
            served = _Served(first)
        # An import or a constructor of somebody else's may raise anything.
        except BaseException as error:
            send(target, {"error": _said(error)})
            os._exit(0)
        send(target, served.description | {"offline": offline})
        # From here on nothing of it starts another process or thread.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        while True:
            question, body = receive(source)
            try:
                answer, numbers = served.answer(question, body)
            except BaseException as error:
                answer, numbers = {"error": _said(error)}, b""
            send(target, answer, numbers)
    # Threads of the plugin are not waited for.
    os._exit(0)


class _Served:
    def __init__(self, first: dict[str, Any]) -> None:
        from importlib.metadata import EntryPoint

        from hub.fleet.fleet import Fleet
        from hub.fleet.transfer import Receiver
        from hub.scoring.interface import lower_is_better, normaliser_of
        from hub.scoring.plugins import GROUP, plugin

        loaded = EntryPoint(first["name"], first["value"], GROUP).load()
        entry = plugin(loaded, first["settings"])
        self._scorer: Any = entry.scorer
        self._receiver = Receiver()
        self._fleet = Fleet.empty()
        normaliser = normaliser_of(entry.scorer)
        self.description: dict[str, Any] = {
            "name": entry.scorer.name,
            "weight": entry.weight,
            "lower": lower_is_better(entry.scorer),
            "publish": bool(getattr(entry.scorer, "publish", True)),
            "live": bool(getattr(entry.scorer, "live", False)),
            "methods": [
                name for name in ("filter", "limit", "concerns") if callable(getattr(entry.scorer, name, None))
            ],
            "normaliser": None
            if normaliser is None
            else [normaliser.kind, normaliser.low, normaliser.high, normaliser.midpoint, normaliser.scale],
        }

    def answer(self, question: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        import pickle

        import numpy as np

        size = question["fleet"]
        if size:
            # A fleet is many small objects that all stay: looking for garbage among them costs more than reading them.
            gc.disable()
            try:
                self._fleet = self._receiver.take(body[:size])
            # Half of a fleet would be another one: the hub starts a new process.
            except BaseException:
                os._exit(_OUT_OF_STEP)
            gc.enable()
        method = question["ask"]
        if method == "nothing":
            return {"ok": True}, b""
        fleet = self._fleet
        if method == "concerns":
            found = np.asarray(self._scorer.concerns(fleet))
        else:
            found = np.asarray(getattr(self._scorer, method)(fleet, pickle.loads(body[size:])))
        kind = {"score": "<f8", "limit": "<i8"}.get(method, "|b1")
        if method == "score":
            found = found.astype(np.float64)
        elif (method == "limit") != (found.dtype.kind in "iu") or (method != "limit" and found.dtype != np.bool_):
            return {
                "error": f"answered {found.dtype} values, expected {'whole numbers' if method == 'limit' else 'a mask'}"
            }, b""
        if found.shape != (len(fleet.names),):
            return {"error": f"answered shape {found.shape}, expected ({len(fleet.names)},)"}, b""
        return {"ok": True}, np.ascontiguousarray(found, dtype=kind).tobytes()


def _said(error: BaseException) -> str:
    try:
        text = str(error)[:300]
    # Even that may be somebody else's code.
    except BaseException:
        text = ""
    name = type(error).__name__
    return text if name == "PluginError" else f"{name}: {text}"
