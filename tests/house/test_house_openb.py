"""The replay of the public trace says so where the data are not there; what it promises, on data of that form."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.openb import data, replay


def test_without_the_data_it_says_what_to_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: object) -> None:
    monkeypatch.setattr(sys, "argv", ["openb", "--openb", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        replay.main()
    assert ended.value.code == 2
    monkeypatch.setenv("OPENB", str(tmp_path))
    (figure,) = replay.run()
    assert "not measured" in figure.what
    assert figure.held is None


def test_arrivals_are_decided_one_by_one_until_more_is_asked_than_there_is(tmp_path: Path) -> None:
    nodes = ["sn,cpu_milli,memory_mib,gpu,model"]
    nodes += [f"n{i},64000,262144,8,{model}" for i, model in enumerate(["G2"] * 6 + ["T4"] * 4 + ["A10"] * 2)]
    (tmp_path / data.NODES).write_text("\n".join(nodes) + "\n")
    pods = ["name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos"]
    pods += [f"p{i},4000,8192,1,1000,{'A10' if i % 10 == 0 else ''},LS" for i in range(60)]
    pods += [f"s{i},1000,1024,1,{250 + 250 * (i % 2)},,BE" for i in range(30)] + ["c0,2000,1024,0,0,,BE"]
    (tmp_path / data.PODS).write_text("\n".join(pods) + "\n")
    first, again = (replay.replay(tmp_path, "default", 3) for _ in range(2))
    assert first.allocation == again.allocation
    assert first.allocation[0] == pytest.approx(90, abs=1.2)
    assert 97 < first.allocation[3] <= 100
    assert 0 < first.refused < first.tasks
    assert first.fragmented < 3
