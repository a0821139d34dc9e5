"""The package that `quarterdeck scorer new` writes: small enough to read at once, complete enough to publish."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from hub.api.errors import UsageError

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write_package(name: str, directory: Path) -> list[Path]:
    """Returns the files. Raises `UsageError` for a name that cannot be one, or a directory that has something in it."""
    if not _NAME.fullmatch(name) or len(name) > 50:
        raise UsageError(f"{name!r}: write small letters, digits and single dashes, such as quiet-hours", field="NAME")
    if directory.exists() and any(directory.iterdir()):
        raise UsageError(f"{directory} is not empty", field="--directory", hint="Name another one with --directory.")
    module = name.replace("-", "_")
    words = {"NAME": name, "MODULE": module, "CLASS": "".join(part.capitalize() for part in name.split("-"))}
    written = []
    for path, text in _FILES.items():
        for word, value in words.items():
            path, text = path.replace(f"@{word}@", value), text.replace(f"@{word}@", value)
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        written.append(file)
    return written


_FILES: Final = {
    "pyproject.toml": """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "quarterdeck-@NAME@"
version = "0.1.0"
description = "A Quarterdeck scorer: @NAME@"
requires-python = ">=3.11"
dependencies = ["quarterdeck[hub]"]

[project.entry-points."quarterdeck.scorers"]
@NAME@ = "@MODULE@.scorer:@CLASS@"

[tool.hatch.build.targets.wheel]
packages = ["@MODULE@"]

[tool.pytest.ini_options]
pythonpath = ["."]
""",
    "README.md": """\
# @NAME@

A scorer for Quarterdeck.

    pip install -e . pytest && python -m pytest   # its tests, and the contract that every scorer keeps
    quarterdeck scorer test @NAME@    # the contract alone
    quarterdeck scorer bench @NAME@   # how long it takes

The hub finds it when it starts. Its weight and its settings are in the hub's configuration:

    scorers:
      weights: {@NAME@: 2}
      settings: {@NAME@: {label: rank}}
""",
    "@MODULE@/__init__.py": "",
    "@MODULE@/scorer.py": '''\
"""Prefers clusters with a high number in one of their labels. Replace the formula; keep the shape."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from hub.fleet.facts import ClusterFacts
from hub.fleet.fleet import Fleet
from hub.scoring.interface import ScoreRequest


class Settings(BaseModel):
    """What an operator may set. A field that is not here, or of another type, is refused when the hub starts."""

    model_config = ConfigDict(extra="forbid")

    label: str = Field("rank", description="The label with the number.")
    minimum: float = Field(-math.inf, description="Clusters with less are not chosen at all.")


class @CLASS@:
    name = "@NAME@"
    # How much it counts unless the hub is configured otherwise.
    weight = 1.0
    Config = Settings

    def __init__(self, config: Settings) -> None:
        self._config = config

    def score(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.float64]:
        """One value a cluster, in the order of `fleet.names`; higher is better, NaN is unknown."""
        return self._numbers(fleet)

    def filter(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.bool_]:
        """Which clusters may be chosen at all. Leave it out where every cluster may."""
        # Not `>=`: what is unknown is not kept out.
        return ~(self._numbers(fleet) < self._config.minimum)

    def _numbers(self, fleet: Fleet) -> NDArray[np.float64]:
        label = self._config.label

        def number(facts: ClusterFacts) -> float:
            try:
                value = float(facts.labels.get(label, "nan"))
            except ValueError:
                return math.nan
            return value if math.isfinite(value) else math.nan

        # Computed again only for clusters whose labels changed.
        return fleet.facts_column(("@NAME@", label), number, np.float64)
''',
    "tests/test_@MODULE@.py": """\
from __future__ import annotations

import numpy as np
import pytest

from @MODULE@.scorer import @CLASS@, Settings
from hub.fleet.changes import ClusterSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.scoring.contract import Finding, check
from hub.scoring.interface import ScoreRequest

REQUEST = ScoreRequest(TaskShape(), 1, 0.0)
FLEET = Fleet.empty().apply(
    ClusterSeen({"metadata": {"name": name, "labels": labels}})
    for name, labels in (("high", {"rank": "9"}), ("low", {"rank": "1"}), ("odd", {"rank": "x"}), ("none", {}))
)


@pytest.mark.parametrize("finding", check(lambda: @CLASS@(Settings())), ids=lambda finding: finding.check)
def test_the_contract(finding: Finding) -> None:
    assert finding.problem == ""


def test_the_number_in_the_label_is_the_score() -> None:
    found = dict(zip(FLEET.names, @CLASS@(Settings()).score(FLEET, REQUEST).tolist(), strict=True))
    assert (found["high"], found["low"]) == (9.0, 1.0)
    assert np.isnan([found["odd"], found["none"]]).all()


def test_clusters_below_the_minimum_are_not_chosen() -> None:
    found = dict(zip(FLEET.names, @CLASS@(Settings(minimum=5)).filter(FLEET, REQUEST).tolist(), strict=True))
    assert found == {"high": True, "low": False, "odd": True, "none": True}
""",
}
