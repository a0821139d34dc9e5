"""A plugin that is not trusted, in a process of its own: it can be killed, and it sees nothing of the hub's.

The process gets no environment, no descriptor but two pipes, no network where the kernel allows that, and bounds of
memory; it is killed with all that it started when it does not answer in time or answers what is no answer, and started
again after a pause that doubles. What it says is raw numbers, checked. It runs as the hub's user: files that the user
can read it can read too, so secrets belong where they are not readable, or the scorer behind HTTP.

A call that fails raises; what that costs, and what counts meanwhile, is hub/controllers/guard.py.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hub.api.errors import PluginError
from hub.api.timestamps import format_duration
from hub.controllers.guard import NoAnswer, within
from hub.controllers.logs import logger
from hub.controllers.plugin_wire import Ended, Silence, receive, send
from hub.fleet.fleet import Fleet
from hub.fleet.transfer import Sender
from hub.scoring.interface import ScoreRequest, WeightedScorer
from hub.scoring.normalise import KINDS, Normaliser
from hub.scoring.plugins import plugin

_log = logger(__name__)
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 60.0
_SLOWEST: Final = 2e6
"""Bytes of news of the fleet that a process takes in a second, at the very least."""
_METHODS: Final = ("filter", "limit", "concerns")
# Only what a numerical library needs to stay with one thread; nothing of the hub's own environment.
_ENVIRONMENT: Final = {
    "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
}  # fmt: skip
_RUN: Final = """
import json, sys
sys.path[:] = json.loads(sys.argv.pop(1))
from hub.controllers.plugin_worker import main
main(sys.argv[1:])
"""


@dataclass(frozen=True, slots=True)
class Bounds:
    """`budget`: seconds for one answer; `startup`: for loading the plugin, and for the first look at a fleet.
    `memory`: bytes of address space, Python and numpy included (about 130 MiB)."""

    budget: float = 0.25
    startup: float = 20.0
    memory: int = 512 << 20


class Isolated:
    """A `Scorer` with a process. Raises `PluginError` when the plugin cannot be loaded in time.

    `fleet` is what a new process is shown before it is asked, so that its first answer need not wait for that;
    `on_ready` is called, in a thread, when one that had ended is there again. Questions come one at a time.
    """

    def __init__(
        self,
        point: EntryPoint,
        settings: Mapping[str, Any] | None = None,
        bounds: Bounds = Bounds(),
        *,
        fleet: Callable[[], Fleet] = Fleet.empty,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._point, self._settings, self._bounds = point, dict(settings or {}), bounds
        self._fleet, self._on_ready = fleet, on_ready
        self._process: _Process | None = None
        self._problem = "its process is being started"
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._first = threading.Event()
        self._told: dict[str, Any] | None = None
        # One thread starts every process: they die when the thread does that started them.
        self._keeper = threading.Thread(target=self._keep, name=f"plugin {point.name}"[:64], daemon=True)
        self._wanted.set()
        self._keeper.start()

    def ready(self) -> WeightedScorer:
        """Waits until it is there. Raises `PluginError` for one that cannot be loaded."""
        self._first.wait(self._bounds.startup + 5.0)
        if self._told is None:
            self.close()
            raise PluginError(self._problem)
        told = self._told
        self.name: str = told["name"]
        self.lower_is_better: bool = told["lower"]
        self.normaliser: Normaliser | None = told["normaliser"]
        self.publish: bool = told["publish"]
        self.live: bool = told["live"]
        for method in told["methods"]:
            setattr(self, method, getattr(self, f"_{method}"))
        return WeightedScorer(self, told["weight"])

    @property
    def offline(self) -> bool:
        """Whether its process has no network."""
        return bool(self._told and self._told["offline"])

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None else None

    def close(self) -> None:
        self._closed.set()
        self._wanted.set()
        self._end(self._process)

    def score(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.float64]:
        return np.frombuffer(self._ask("score", fleet, request, 8), "<f8").astype(np.float64)

    def _filter(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.bool_]:
        return self._mask(self._ask("filter", fleet, request, 1))

    def _limit(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.int64]:
        return np.frombuffer(self._ask("limit", fleet, request, 8), "<i8").astype(np.int64)

    def _concerns(self, fleet: Fleet) -> NDArray[np.bool_]:
        return self._mask(self._ask("concerns", fleet, None, 1))

    @staticmethod
    def _mask(body: bytes) -> NDArray[np.bool_]:
        # A boolean whose byte is neither 0 nor 1 is not one that numpy was made for.
        mask: NDArray[np.bool_] = np.frombuffer(body, np.uint8) != 0
        return mask

    def _ask(self, method: str, fleet: Fleet, request: ScoreRequest | None, width: int) -> bytes:
        process = self._process
        if process is None:
            raise PluginError(self._problem)
        expected = width * len(fleet.names)
        try:
            header, body = process.ask(method, fleet, request, self._bounds.budget, expected)
        except Silence as error:
            self._end(process)
            said = f"no answer within {format_duration(self._bounds.budget)}; its process was killed"
            raise NoAnswer(said) from error
        except Ended as error:
            raise PluginError(self._gone(process)) from error
        except PluginError:
            self._end(process)
            raise
        if "error" in header:
            raise PluginError(str(header["error"])[:400])
        if len(body) != expected:
            self._end(process)
            raise PluginError(f"answered {len(body)} bytes, expected {expected}; its process was killed")
        return body

    # The process.

    def _keep(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closed.is_set():
                return
            started = time.monotonic()
            process = None
            try:
                process = _Process(self._bounds.memory)
                told = process.load(self._point, self._settings, self._bounds.startup)
                process.ask("nothing", self._fleet(), None, self._bounds.startup, 0)
            except Exception as error:
                self._problem = f"its process cannot be started: {error or type(error).__name__}"
                self._end(process)
                if not self._first.is_set():
                    # What never worked is left out, as any other plugin that cannot be loaded.
                    self._first.set()
                    return
                _log.warning("a plugin's process cannot be started", plugin=self._point.name, why=self._problem)
                self._wanted.set()
            else:
                with self._lock:
                    self._process = None if self._closed.is_set() else process
                if self._closed.is_set():
                    self._end(process)
                    return
                again = self._told is not None
                if not again:
                    self._told = told
                self._first.set()
                if again:
                    self._on_ready()
                self._wanted.wait()
                if self._closed.is_set():
                    return
                if time.monotonic() - started > 10 * pause:
                    pause = _FIRST_PAUSE
            self._closed.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _gone(self, process: _Process) -> str:
        status = process.end()
        self._end(process)
        return f"its process {status}"

    def _end(self, process: _Process | None) -> None:
        if process is None:
            return
        with self._lock:
            if self._process is process:
                self._process = None
                self._problem = "its process is being started again"
        process.end()
        self._wanted.set()


class _Process:
    """One process, from its start to its end."""

    def __init__(self, memory: int) -> None:
        there, self._write = os.pipe2(os.O_CLOEXEC)
        self._read, back = os.pipe2(os.O_CLOEXEC)
        self._sender = Sender()
        self._open = True
        self._lock = threading.Lock()
        try:
            # Not the module itself: it must be found where this one was, whatever the environment said.
            paths = [path for path in sys.path if path and os.path.exists(path)]
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-c", _RUN, json.dumps(paths), str(there), str(back), str(memory)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(there, back),
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            for fd in (self._write, self._read):
                os.close(fd)
            raise
        finally:
            for fd in (there, back):
                os.close(fd)
        os.set_blocking(self._write, False)
        os.set_blocking(self._read, False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def load(self, point: EntryPoint, settings: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """What the plugin says of itself, checked. Raises `PluginError`."""
        deadline = time.monotonic() + seconds
        send(self._write, {"name": point.name, "value": point.value, "settings": settings}, b"", deadline)
        try:
            header, _ = receive(self._read, deadline, most=0)
        except Ended as error:
            raise PluginError(f"it {self.end()} while it was loaded") from error
        if "error" in header:
            raise PluginError(str(header["error"])[:400])
        return _checked(header)

    def ask(
        self, method: str, fleet: Fleet, request: ScoreRequest | None, seconds: float, expected: int
    ) -> tuple[dict[str, Any], bytes]:
        news = self._sender.pack(fleet)
        body = news if request is None else news + pickle.dumps(request, pickle.HIGHEST_PROTOCOL)
        # Its time begins when everything is packed, and reading a new fleet is none of the plugin's work either.
        deadline = time.monotonic() + seconds + len(news) / _SLOWEST
        send(self._write, {"ask": method, "fleet": len(news)}, body, deadline)
        return receive(self._read, deadline, most=expected)

    def end(self) -> str:
        """Ends it and all that it started; how it ended, in words."""
        with self._lock:
            if self._open:
                # One that has just ended by itself has a moment to say how.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.0 if self._process.poll() is None else None)
                status = self._process.poll()
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
                self._status = status if status is not None else self._process.returncode
                self._open = False
                os.close(self._write)
                os.close(self._read)
        if self._status < 0:
            return f"was killed by signal {-self._status}"
        return f"ended by itself with code {self._status}"


def _checked(header: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing that a plugin says of itself is taken on trust."""
    name, weight = header.get("name"), header.get("weight")
    if not isinstance(name, str) or not name or len(name) > 200:
        raise PluginError("a scorer needs a name, a string of at most 200 characters")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise PluginError(f"weight {weight!r} is not a number")
    methods = header.get("methods")
    if not isinstance(methods, list) or any(method not in _METHODS for method in methods):
        raise PluginError("it sent what is no answer")
    return {
        "name": name,
        "weight": float(weight),
        "lower": header.get("lower") is True,
        "publish": header.get("publish") is True,
        "live": header.get("live") is True,
        "offline": header.get("offline") is True,
        "methods": methods,
        "normaliser": _normaliser(header.get("normaliser")),
    }


def _normaliser(said: Any) -> Normaliser | None:
    if said is None:
        return None
    if not isinstance(said, list) or len(said) != 5 or said[0] not in KINDS:
        raise PluginError("its normaliser is none")
    if any(not (part is None or (isinstance(part, int | float) and math.isfinite(part))) for part in said[1:]):
        raise PluginError("its normaliser is none")
    return Normaliser(str(said[0]), *said[1:])


class Loader:
    """How the hub loads plugins: those of `isolated` (entry points' names; ``*``: all) in processes of their own.

    `close` ends them all.
    """

    def __init__(
        self,
        isolated: Collection[str],
        bounds: Bounds,
        *,
        fleet: Callable[[], Fleet] = Fleet.empty,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._isolated, self._bounds = frozenset(isolated), bounds
        self._fleet, self._on_ready = fleet, on_ready
        self.running: list[Isolated] = []

    def __call__(self, point: EntryPoint, settings: Mapping[str, Any] | None) -> WeightedScorer:
        """Raises `PluginError`, and for one that is not isolated whatever its code raises."""
        if not self._isolated & {point.name, "*"}:
            entry: WeightedScorer = within(
                self._bounds.startup, lambda: plugin(point.load(), settings), f"loading {point.name}"
            )
            return entry
        started = Isolated(point, settings, self._bounds, fleet=self._fleet, on_ready=self._on_ready)
        entry = started.ready()
        self.running.append(started)
        return entry

    def close(self) -> None:
        for isolated in self.running:
            isolated.close()
