"""Builds a control plane's binaries from their Go modules, once: `make e2e-binaries`, `python -m e2e.building`.

Nothing is built that is found (e2e/finding.py). The result, not Go's build cache, is kept: half a gigabyte a version
instead of four. Where Go is missing or too old it says so in one line and ends well (exit code 0); `--require` makes
that exit code 3, for those who have to know.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

from e2e import versions
from e2e.finding import Binaries, cached, find, go_version, ldflags
from e2e.pin import module_of

SKIPPED: Final = 3
_SAY_EVERY: Final = 15.0
_GO = re.compile(r"^go (\d+)\.(\d+)", re.MULTILINE)
# One line a second on a terminal, which is drawn over; a log gets one now and then.
_TTY_EVERY: Final = 1.0


class CannotBuildError(Exception):
    """In one line: what is missing, and what would help."""


def binaries(version: str, say: Callable[[str], None] = print) -> Binaries:
    """All binaries of `version`, built if they are nowhere. Raises CannotBuildError."""
    found, unfit = find(version)
    if not found.missing:
        return found
    for line in unfit:
        say(f"not used for Kubernetes {version}: {line}")
    _check_go(version, found)
    target = cached(version)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(target.with_suffix(".lock"), say):
        found, _ = find(version)
        if found.missing:
            _build(version, target, say)
            found, _ = find(version)
    return found


def _check_go(version: str, found: Binaries) -> None:
    wanted = _GO.search((module_of(version) / "go.mod").read_text())
    assert wanted is not None, "written by e2e/pin.py"
    there = re.match(r"go(\d+)\.(\d+)", go_version())
    if there is None or tuple(map(int, there.groups())) < tuple(map(int, wanted.groups())):
        raise CannotBuildError(
            f"no {found.missing[0]} for Kubernetes {version} here, and "
            f"{'Go is too old' if there else 'no Go'} to build it (Go {wanted[1]}.{wanted[2]} or newer does): "
            "install Go, or set KUBEBUILDER_ASSETS to a folder with the binaries"
        )


@contextmanager
def _only_one(lock: Path, say: Callable[[str], None]) -> Iterator[None]:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build of the same is under way: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(version: str, target: Path, say: Callable[[str], None]) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false"}
    module = module_of(version)
    started = time.monotonic()
    say(f"building Kubernetes {version}, etcd and kwok with {go_version()}; about ten minutes on two cores, once")
    packages = _packages(module, environment)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix="building-"))
    try:
        _compile(version, folder, environment, packages, started)
        (folder / "server").rename(folder / "etcd")
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say(f"built Kubernetes {version} in {_clock(time.monotonic() - started)}: {target}")


def _compile(version: str, folder: Path, environment: dict[str, str], packages: int, started: float) -> None:
    command = ["go", "build", "-v", "-trimpath", "-ldflags", ldflags(version), "-o", f"{folder}/", "tool"]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=module_of(version), env=environment, stderr=said, stdout=said)
        try:
            _follow(process, said, packages, version, started)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if process.returncode:
            said.seek(0)
            tail = "".join(said.readlines()[-20:])
            raise CannotBuildError(f"go build of Kubernetes {version} failed:\n{tail}")


def _packages(module: Path, environment: dict[str, str]) -> int:
    listed = subprocess.run(
        ["go", "list", "-deps", "tool"], cwd=module, env=environment, stdout=subprocess.PIPE, text=True
    )
    if listed.returncode:
        raise CannotBuildError(f"go list in {module} failed; are its modules to be had? (go env GOPROXY)")
    return len(listed.stdout.split())


def _follow(process: subprocess.Popen[bytes], said: TextIO, packages: int, version: str, started: float) -> None:
    terminal = sys.stderr.isatty()
    every = _TTY_EVERY if terminal else _SAY_EVERY
    while True:
        try:
            process.wait(every)
            break
        except subprocess.TimeoutExpired:
            pass
        # By position, not by seeking: the file's offset is the compiler's.
        text = os.pread(said.fileno(), 1 << 22, 0).decode(errors="replace")
        done = sum(1 for line in text.splitlines() if "downloading" not in line)
        clock = _clock(time.monotonic() - started)
        line = f"  Kubernetes {version}: {done} of at most {packages} packages compiled, {clock}"
        sys.stderr.write(f"\r{line}" if terminal else f"{line}\n")
        sys.stderr.flush()
    if terminal:
        sys.stderr.write("\n")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e.building", description="Find or build the control planes.")
    parser.add_argument("versions", nargs="*", help=f"default: {' '.join(versions.KUBERNETES)}")
    parser.add_argument("--require", action="store_true", help=f"exit with {SKIPPED} where they are not to be had")
    options = parser.parse_args()
    try:
        for wanted in options.versions or versions.KUBERNETES:
            found = binaries(versions.chosen(wanted))
            print(f"Kubernetes {found.version}: {', '.join(sorted({str(p.parent) for p in found.paths.values()}))}")
    except CannotBuildError as error:
        print(f"e2e: skipped: {error}", file=sys.stderr)
        return SKIPPED if options.require else 0
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
