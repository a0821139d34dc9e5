"""What the migration guide says: its example does what it says, and it names every field of Kueue's that is served."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hub.api import kueue, multikueue, workload
from hub.api.meta import Model
from hub.cli.main import cli
from hub.controllers import kueue_configuration

_PAGE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text()


def _admitted(tmp_path: Path, command: str) -> list[list[str]]:
    """The keys that each cycle of a command of the page admits."""
    assert f"`{command}`" in _PAGE
    return _run(tmp_path, command)


def _run(tmp_path: Path, command: str) -> list[list[str]]:
    found = re.search(r"```yaml\n(.*?)```", _PAGE, re.DOTALL)
    assert found is not None
    (tmp_path / "team.yaml").write_text(found.group(1))
    words = command.replace("team.yaml", str(tmp_path / "team.yaml")).split()[1:]
    result = CliRunner().invoke(cli, [*words, "-o", "json"])
    assert result.exit_code == 0, result.output
    document: Any = json.loads(result.stdout)
    return [[one["workload"] for one in cycle["admitted"]] for cycle in document["cycles"]]


def test_the_example_decides_as_the_page_says(tmp_path: Path) -> None:
    assert _admitted(tmp_path, "quarterdeck plan --mode kueue -f team.yaml") == [["default/train"]]
    assert _admitted(tmp_path, "quarterdeck plan --mode fleet -f team.yaml") == [["default/train", "default/tune"]]


@pytest.mark.parametrize("mode", ["kueue", "fleet"])
def test_both_modes_end_with_the_same(tmp_path: Path, mode: str) -> None:
    cycles = _run(tmp_path, f"quarterdeck plan --mode {mode} -f team.yaml --cycles settle")
    assert sorted(key for cycle in cycles for key in cycle) == ["default/train", "default/tune"]


@pytest.mark.parametrize(
    "model",
    [
        kueue.ResourceFlavorSpec,
        kueue.ResourceQuota,
        kueue.ClusterQueueSpec,
        kueue.CohortSpec,
        kueue.LocalQueueSpec,
        workload.PodSet,
        workload.WorkloadSpec,
        workload.WorkloadStatus,
        multikueue.AdmissionCheckSpec,
        multikueue.MultiKueueConfigSpec,
        multikueue.MultiKueueClusterSpec,
        multikueue.ClusterSource,
    ],
)
def test_every_field_is_spoken_of(model: type[Model]) -> None:
    said = set(re.findall(r"[A-Za-z]+", " ".join(re.findall(r"`([^`]+)`", _PAGE))))
    assert not set(model.model_fields) - said - {"name", "conditions"}


def test_every_field_of_kueues_configuration_is_spoken_of() -> None:
    said = set(re.findall(r"[A-Za-z]+", " ".join(re.findall(r"`([^`]+)`", _PAGE))))
    paths = [path for path, _, _ in kueue_configuration._OTHERWISE]
    for path in (*paths, *kueue_configuration._PROCESS, *kueue_configuration.DECIDES, "featureGates"):
        assert not set(path.split(".")) - said, path
