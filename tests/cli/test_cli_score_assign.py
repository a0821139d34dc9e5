"""`quarterdeck score assign`: from scores to who runs where, and how devices are cut up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.cli.main import main

QUESTION: dict[str, Any] = {
    "applications": [
        {"name": "app01", "kind": "gpu", "amount": 1},
        {"name": "app02", "kind": "gpu", "amount": 1},
        {"name": "app03", "kind": "gpu", "amount": 1},
    ],
    "clusters": [
        {"name": "east", "profiles": [
            {"name": "3g.48gb", "kind": "gpu", "amount": 2}, {"name": "all", "kind": "gpu", "amount": 1},
        ]},
        {"name": "west", "profiles": [{"name": "all", "kind": "gpu", "amount": 1}]},
    ],
    "scores": {"resource": "example-performance-score"},
}  # fmt: skip


def score(cluster: str, until: str = "2999-01-01T00:00:00Z", **values: int) -> dict[str, Any]:
    scores = [{"name": name.replace("__", ";").replace("_", "."), "value": value} for name, value in values.items()]
    return {
        "apiVersion": "cluster.open-cluster-management.io/v1alpha1",
        "kind": "AddOnPlacementScore",
        "metadata": {"name": "example-performance-score", "namespace": cluster},
        "status": {"validUntil": until, "scores": scores},
    }


EAST = {"app01__all": 80, "app02__all": 80, "app01__3g_48gb": 60, "app02__3g_48gb": 55}


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def files(tmp_path: Path, question: Any, *scores: dict[str, Any]) -> tuple[Path, Path]:
    asked, scored = tmp_path / "question.yaml", tmp_path / "scores.yaml"
    asked.write_text(yaml.safe_dump(question))
    scored.write_text(yaml.safe_dump_all(scores))
    return asked, scored


def test_what_adds_up_most_is_chosen_and_what_has_no_score_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, scored = files(tmp_path, QUESTION, score("east", **EAST), score("west", app02__all=50))
    assert run("score", "assign", asked, "--scores", scored, "-o", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["profiles"] == {"east": "all", "west": "all"}
    assert [(one["application"], one["cluster"], one["score"]) for one in document["placed"]] == [
        ("app01", "east", 80), ("app02", "west", 50),
    ]  # fmt: skip
    assert document["leftOut"] == {"app03": "has no score on east with 3g.48gb, east with all, west with all"}
    assert run("score", "assign", asked, "--scores", scored) == 0
    shown = capsys.readouterr().out
    assert "left out: app03: has no score" in shown
    assert "add up to 130; nothing is applied" in shown


def test_a_score_that_has_ended_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = score("west", "2001-01-01T00:00:00Z", app02__all=50)
    asked, scored = files(tmp_path, QUESTION, score("east", **EAST), old)
    assert run("score", "assign", asked, "--scores", scored, "-o", "json") == 0
    document = json.loads(capsys.readouterr().out)
    # Both fit the east once it is cut up.
    assert document["profiles"] == {"east": "3g.48gb"}
    assert document["total"] == 115


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"applications": []}, "applications"),
        ({"clusters": [{"name": "a", "profiles": [{"name": "p", "kind": "gpu", "amount": -1}]}]}, "amount"),
        ({"scores": {}}, "scores.resource"),
        ({"weights": 1}, "weights"),
        ({"clusters": [QUESTION["clusters"][1], QUESTION["clusters"][1]]}, "two clusters have one name"),
        ({"applications": [QUESTION["applications"][0]] * 2}, "have one name"),
    ],
)
def test_a_question_that_is_none_names_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], said: str
) -> None:
    asked, scored = files(tmp_path, {**QUESTION, **change}, score("east", **EAST))
    assert run("score", "assign", asked, "--scores", scored) != 0
    assert said in capsys.readouterr().err
