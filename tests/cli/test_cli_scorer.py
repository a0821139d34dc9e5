"""`quarterdeck scorer` as an author uses it: a package that works as it is, and a contract that finds what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

import hub
from hub.cli.main import main
from hub.cli.plan_input import Settings
from hub.controllers.isolated import Isolated
from hub.fleet.changes import ClusterSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.scoring.contract import check
from hub.scoring.interface import ScoreRequest
from hub.scoring.plugins import GROUP
from hub.server.reading import sort_objects

ROOT = Path(hub.__file__).resolve().parents[1]


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert run("scorer", "new", "quiet-hours") == 0
    return tmp_path / "quiet-hours"


def shell(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=package, env=environment, capture_output=True, text=True, timeout=100
    )


@pytest.mark.slow
def test_a_new_package_passes_its_own_tests(package: Path) -> None:
    done = shell(package, "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly")
    assert done.returncode == 0, done.stdout
    assert "13 passed" in done.stdout


def test_a_new_package_says_where_its_scorer_is(package: Path) -> None:
    project = tomllib.loads((package / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["quarterdeck.scorers"] == {"quiet-hours": "quiet_hours.scorer:QuietHours"}


@pytest.mark.slow
def test_a_scorer_that_is_not_installed_is_tested_and_measured_by_its_place(package: Path) -> None:
    tested = shell(package, "hub.cli", "scorer", "test", "quiet_hours.scorer:QuietHours", "--set", "minimum=3")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert tested.stdout.count("ok ") == 11
    measured = shell(package, "hub.cli", "scorer", "bench", "quiet_hours.scorer:QuietHours")
    assert measured.returncode == 0
    assert "10,000" in measured.stdout
    refused = shell(package, "hub.cli", "scorer", "test", "quiet_hours.scorer:QuietHours", "--set", "minimun=3")
    assert refused.returncode == 1
    assert "settings: minimun" in refused.stdout


@pytest.mark.slow
def test_it_is_tried_in_a_process_of_its_own_too(package: Path) -> None:
    good = shell(package, "hub.cli", "scorer", "test", "quiet_hours.scorer:QuietHours", "--isolated")
    assert good.returncode == 0, good.stdout + good.stderr
    assert "in a process of its own it says the same" in good.stdout
    (package / "quiet_hours" / "scorer.py").write_text(NOSY)
    bad = shell(package, "hub.cli", "scorer", "test", "quiet_hours.scorer:Nosy", "--isolated")
    assert bad.returncode == 1
    assert "it says something else" in bad.stdout


NOSY = """
import os

import numpy as np


class Nosy:
    name = "nosy"

    def score(self, fleet, request):
        return np.full(len(fleet.names), float("HOME" in os.environ))
"""


def test_a_plan_does_not_load_what_the_hub_would_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("forgetful", f"{__name__}:Forgetful", GROUP)
    monkeypatch.setattr("hub.scoring.plugins.entry_points", lambda group: [point])
    config = tmp_path / "hub.yaml"
    config.write_text("scorers: {isolate: [forgetful]}\n")
    settings = Settings.read(None, "1", config, None)
    found = {entry.scorer.name: entry.scorer for entry in settings.scorers(sort_objects([]))}
    isolated = found["bad"]
    assert isinstance(isolated, Isolated)
    fleet = Fleet.empty().apply([ClusterSeen({"metadata": {"name": "a"}})])
    assert isolated.score(fleet, ScoreRequest(TaskShape(), 1, 0.0)).tolist() == [1.0]
    isolated.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("new", "Quiet Hours"), "write small letters"),
        (("new", "quiet-hours"), "is not empty"),
        (("test", "nobody"), "no scorer nobody is installed"),
        (("test", "quiet_hours.nothing:Class"), "cannot load"),
        (("bench", "hub.scoring.builtin:Price", "--set", "x"), "is not NAME=VALUE"),
    ],
)
def test_mistakes_are_said(
    package: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert run("scorer", *arguments) == 2
    assert said in capsys.readouterr().err


def test_the_built_in_scorers_keep_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("FreeSlots", "FreeShare", "Price"):
        assert run("scorer", "test", f"hub.scoring.builtin:{name}") == 0, capsys.readouterr().out


class Bad:
    name = "bad"

    def __init__(self, config: BaseModel | None = None) -> None:
        self.calls = 0

    def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
        return np.zeros(len(fleet))


class Forgetful(Bad):
    def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
        self.calls += 1
        return np.full(len(fleet), float(self.calls))


class Short(Bad):
    def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
        return [1.0]


class Infinite(Bad):
    def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
        with np.errstate(divide="ignore"):
            return 1.0 / np.zeros(len(fleet))


class Empty(Bad):
    def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
        return np.full(len(fleet), fleet.free("cpu").max())


class Slow(Bad):
    def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
        return [sum(range(300)) for _ in fleet.names]


class Counting(Bad):
    def filter(self, fleet: Fleet, request: ScoreRequest) -> Any:
        return np.ones(len(fleet), np.int64)


class Nameless(Bad):
    name = 7  # type: ignore[assignment]


def boom() -> Any:
    raise ValueError("boom")


@pytest.mark.parametrize(
    ("make", "failing", "said"),
    [
        (boom, "it can be made", "raised ValueError: boom"),
        (Nameless, "it has a name", "name is 7"),
        (Forgetful, "the same question has the same answer", "asked again it says something else"),
        (Short, "an empty fleet", "answered shape (1,), expected (0,)"),
        (Infinite, "a single cluster", "unknown is NaN"),
        (Empty, "an empty fleet", "raised ValueError"),
        (Slow, "10,000 clusters within 10 ms", "work on whole columns"),
        (Counting, "a mixed fleet, every shape of task", "filter answered int64 (60,), expected a mask"),
    ],
)
def test_the_contract_finds_what_is_wrong(make: Any, failing: str, said: str) -> None:
    problems = {finding.check: finding.problem for finding in check(make, budget=0.01) if finding.problem}
    assert said in problems[failing]
