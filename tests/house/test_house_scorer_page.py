"""The tutorial for scorers in Python, followed as a stranger would: all files and commands of the page, in order."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "scorers" / "python.md"
END = "### Why there is no licence server"


class Stranger:
    """Somebody with a fresh environment, one terminal for the fleet and one for everything else."""

    def __init__(self, home: Path) -> None:
        self.where = home / "work"
        self.where.mkdir()
        environment = home / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=60)
        self.python = str(environment / "bin" / "python")
        # What `pip install "quarterdeck[hub]"` would bring, without asking anybody for it.
        self.packages = next(environment.glob("lib/python*/site-packages"))
        (self.packages / "quarterdeck.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n{ROOT}\n")
        self.environment = {
            "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
            "HOME": str(home),
            "QUARTERDECK_HOME": str(home / "quarterdeck"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "200",
        }
        self.fleet: subprocess.Popen[bytes] | None = None
        self.said: dict[str, str] = {}

    def write(self, language: str, text: str) -> None:
        if language == "yaml" and "kind: Fleet\n" in text:
            (self.where / "fleet.yaml").write_text(text)
        elif language == "python":
            name = text.partition("\n")[0].removeprefix("# ")
            assert (self.where / name).exists(), f"the page changes {name}, which nobody made"
            (self.where / name).write_text(text)

    def type(self, line: str) -> None:
        words = shlex.split(line)
        if words[0] == "cd":
            self.where /= words[1]
            assert self.where.is_dir(), line
        elif words[:2] == ["quarterdeck", "up"]:
            self.stop()
            self.start(words[1:])
        else:
            if words[-2:] == ["sleep", "60"]:
                # Long enough to be looked at on any machine, and no longer.
                words[-2:] = ["sh", "-c", f"until test -e {self.where}/enough; do sleep 0.2; done"]
            done = subprocess.run(
                self.command(words), cwd=self.where, env=self.environment, capture_output=True, text=True, timeout=100
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            self.said[line] = done.stdout
            if words[0] == "pip":
                self.edit_in_place()

    def command(self, words: list[str]) -> list[str]:
        if words[0] == "quarterdeck":
            return [self.python, "-m", "hub.cli", *words[1:]]
        if words[0] == "pip":
            # As the page has it, with what is installed already: a test asks no package index.
            assert words == ["pip", "install", "-e", "."]
            return [self.python, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "."]
        assert words[0] == "pytest", words
        return [self.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words[1:]]

    def edit_in_place(self) -> None:
        """What -e adds: the package is used where it is written. (The package that does it is not always there.)"""
        for module in (path.parent for path in self.where.glob("*/__init__.py")):
            shutil.rmtree(self.packages / module.name)
        (self.packages / "in_place.pth").write_text(f"{self.where}\n")

    def start(self, words: list[str]) -> None:
        log = self.where / "up.log"
        with log.open("w") as file:
            self.fleet = subprocess.Popen(
                [self.python, "-m", "hub.cli", *words, "--no-prometheus"],
                cwd=self.where, env=self.environment, stdout=file, stderr=file,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while "quarterdeck get clusters" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            assert self.fleet.poll() is None, log.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        if self.fleet is None:
            return
        self.fleet.send_signal(signal.SIGINT)
        try:
            self.fleet.wait(30)
        except subprocess.TimeoutExpired:
            self.fleet.kill()
            self.fleet.wait()
        self.fleet = None

    def job(self, name: str) -> dict[str, Any]:
        line = f"quarterdeck get jobs {name} -o json"
        self.type(line)
        found: dict[str, Any] = json.loads(self.said[line])
        return found["status"]


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Stranger]:
    made = Stranger(tmp_path)
    yield made
    made.stop()


def steps() -> Iterator[tuple[str, str]]:
    """Files as (language, text), commands as ("", line), as they come on the page."""
    text = PAGE.read_text().partition(END)[0]
    for block in re.finditer(r"```(\w+)\n(.*?)```|^    (\S[^\n]*)$", text, re.DOTALL | re.MULTILINE):
        language, body, line = block.groups()
        yield (language, body) if language else ("", line)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_scorer_of_ones_own_decides_by_the_page_alone(stranger: Stranger) -> None:
    for language, text in steps():
        if language:
            stranger.write(language, text)
        else:
            stranger.type(text)
    said = stranger.said
    assert "power-budget 100" in said["quarterdeck explain first"]
    assert re.search(r"^ +1 +1 +west ", said["quarterdeck explain first"], re.MULTILINE)
    assert "FAIL" not in said["quarterdeck scorer test power-budget"]
    assert "10,000" in said["quarterdeck scorer bench power-budget"]
    assert "scorer power-budget allows 0 more" in said["quarterdeck explain late"]
    # 400 and 200 watts, 100 each.
    many = stranger.job("many")
    slots = {attempt["cluster"]: attempt for attempt in many["attempts"]}
    assert set(slots) == {"east", "west"}
    assert many["tasks"]["active"] == 6
    (stranger.where / "enough").touch()
    deadline = time.monotonic() + 60
    while (late := stranger.job("late"))["phase"] != "Succeeded":
        assert time.monotonic() < deadline, late
        assert stranger.job("many")["tasks"].get("active", 0) <= 6
        time.sleep(0.2)
    stranger.type("quarterdeck scorer list")
    assert re.search(r"power-budget +power-budget +2 +hub +2 +True", stranger.said["quarterdeck scorer list"])
