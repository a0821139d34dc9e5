"""Plugins that nobody should install, for tests of what they cost: each is loaded by name in a process of its own."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
from pydantic import BaseModel

from hub.fleet.fleet import Fleet
from hub.scoring.interface import ScoreRequest
from hub.scoring.normalise import Normaliser


class Config(BaseModel):
    """`behave`: so many good answers first; `how`: what it does then; `file`: where it tries to write."""

    behave: int = 1
    how: str = "spin"
    file: str = ""


class Hostile:
    name = "hostile"
    weight = 2.0
    lower_is_better = True
    normaliser = Normaliser("minMax", low=0.0)
    Config = Config

    def __init__(self, config: Config) -> None:
        self.config = config
        self.asked = 0

    def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
        self.asked += 1
        good = np.arange(len(fleet.names), dtype=np.float64) + request.shape.request("cpu")
        if self.asked <= self.config.behave:
            return good
        return getattr(self, self.config.how)(good)

    def spin(self, good: Any) -> Any:
        while True:
            pass

    def sleep_in_c(self, good: Any) -> Any:
        # The lock of the interpreter is held meanwhile.
        ctypes.PyDLL(None).sleep(30)

    def eat(self, good: Any) -> Any:
        return np.ones(1 << 30)

    def leave(self, good: Any) -> Any:
        os._exit(7)

    def crash(self, good: Any) -> Any:
        ctypes.string_at(0)

    def shout(self, good: Any) -> Any:
        os.write(1, b"x" * 100_000)
        print("y" * 100_000, flush=True)
        print("z" * 100_000, file=sys.stderr, flush=True)
        return good

    def forge(self, good: Any) -> Any:
        for fd in range(3, 64):
            try:
                os.write(fd, b"\xff" * 64)
            except OSError:
                continue
        return good

    def shorten(self, good: Any) -> Any:
        return good[:-1]

    def blow_up(self, good: Any) -> Any:
        return good / 0.0

    def words(self, good: Any) -> Any:
        return ["a"] * len(good)

    def quit(self, good: Any) -> Any:
        raise SystemExit(3)

    def lie(self, good: Any) -> Any:
        class Odd(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no text")

        raise Odd

    def spread(self, good: Any) -> Any:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        threading.Thread(target=time.sleep, args=(60,)).start()
        while True:
            time.sleep(1)


class Spy(Hostile):
    """Says what it can see as numbers: what of the hub's environment, its descriptors, files and network."""

    name = "spy"

    def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
        seen = [float("QUARTERDECK_TEST_SECRET" in os.environ), float(len(os.listdir("/proc/self/fd")))]
        try:
            with open(self.config.file, "w") as file:
                file.write("x")
            seen.append(1.0)
        except OSError:
            seen.append(0.0)
        try:
            with socket.create_connection(("127.0.0.1", int(self.config.how)), 0.2):
                seen.append(1.0)
        except OSError:
            seen.append(0.0)
        seen.append(float(os.getppid() == os.getpid()))
        return np.array(seen[: len(fleet.names)] + [0.0] * (len(fleet.names) - len(seen)))


class Unloadable(Hostile):
    def __init__(self, config: Config) -> None:
        getattr(self, config.how)(np.zeros(1))


class Boastful(Hostile):
    name = "b" * 1000
