"""Plugins by entry point: settings that are typed, and a bad one that costs itself only."""

from __future__ import annotations

import sys
import types
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict, Field

from hub.fleet.fleet import Fleet
from hub.scoring.interface import ScoreRequest
from hub.scoring.plugins import GROUP, discover


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")
    threshold: float = Field(1.0, ge=0)


class Configured:
    name = "configured"
    weight = 3
    Config = Config

    def __init__(self, config: Config) -> None:
        self.config = config

    def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
        return np.zeros(len(fleet))


class Plain:
    name = "plain"

    def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
        return np.zeros(len(fleet))


class Nameless:
    name = ""

    def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
        return []


class Heavy(Plain):
    name = "heavy"
    weight = "much"


def broken() -> Any:
    raise RuntimeError("no licence")


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    module = types.ModuleType("plugins_of_a_test")
    things = {
        "configured": Configured, "plain": Plain, "instance": Plain(), "nameless": Nameless, "broken": broken,
        "heavy": Heavy, "twice": Plain,
    }  # fmt: skip
    for name, thing in things.items():
        setattr(module, name, thing)
    monkeypatch.setitem(sys.modules, "plugins_of_a_test", module)
    return [EntryPoint(name, f"plugins_of_a_test:{name}", GROUP) for name in (*things, "missing")]


def chosen(points: list[EntryPoint], *names: str) -> list[EntryPoint]:
    return [point for point in points if point.name in names]


def test_settings_fill_the_config_of_a_class(points: list[EntryPoint]) -> None:
    found = discover(found=chosen(points, "configured"), settings={"configured": {"threshold": 2}})
    assert found.problems == {}
    (entry,) = found.scorers
    assert isinstance(entry.scorer, Configured)
    assert (entry.scorer.config.threshold, entry.weight) == (2.0, 3.0)
    (entry,) = discover(found=chosen(points, "configured")).scorers
    assert isinstance(entry.scorer, Configured)
    assert entry.scorer.config.threshold == 1.0


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("configured", {"configured": {"threshold": -1}}, "settings: threshold: Input should be greater"),
        ("configured", {"configured": {"treshold": 1}}, "settings: treshold: Extra inputs"),
        ("plain", {"plain": {"a": 1}}, "it takes no settings: it has no Config"),
        ("instance", {"instance": {"a": 1}}, "it takes no settings: only a class"),
        ("nameless", {}, "needs a name"),
        ("heavy", {}, "weight 'much' is not a number"),
        ("broken", {}, "RuntimeError: no licence"),
        ("missing", {}, "AttributeError"),
    ],
)
def test_what_cannot_be_used_is_said_and_costs_itself_only(
    points: list[EntryPoint], name: str, settings: dict[str, Any], said: str
) -> None:
    found = discover(found=chosen(points, name, "twice"), settings=settings)
    assert said in found.problems[name]
    assert [entry.scorer.name for entry in found.scorers] == ["plain"]


def test_a_name_is_given_once_and_settings_for_nobody_are_said(points: list[EntryPoint]) -> None:
    found = discover(["other"], chosen(points, "plain", "twice"), {"absent": {"a": 1}})
    assert len(found.scorers) == 1
    assert "there is a scorer plain already" in found.problems["twice"]
    assert "known: plain, twice" in found.problems["absent"]
