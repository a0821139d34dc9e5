"""What a mistake looks like, and what it says to do."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from hub.cli import main as entry
from hub.cli.main import cli


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        entry.main(list(arguments))
    captured = capsys.readouterr()
    return int(str(ended.value.code)), captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["get"], "error: missing argument 'jobs|clusters|queues'", "`quarterdeck get --help`"),
        (["get", "jobs", "--bogus"], "error: no such option '--bogus'", "`quarterdeck get --help`"),
        (["completion", "tcsh"], "error: invalid value for '{bash|zsh|fish}'", "`quarterdeck completion --help`"),
        (["lgos"], "error: there is no command `lgos`. Did you mean `logs`?", ""),
        (["clusters", "accpt"], "error: no such command 'accpt'", "`quarterdeck clusters --help`"),
    ],
)
def test_a_slip_of_the_command_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], error: str, hint: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(error)
    assert hint in err


def test_several_errors_stand_below_each_other(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("apiVersion: fleet.quarterdeck.dev/v1alpha1\nkind: FleetJob\nspec: {task: 1}\n")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe")
    (tmp_path / "c.txt").write_text("not looked at")
    code, _, err = run(capsys, "submit", str(tmp_path))
    first, *others = err.splitlines()
    assert code == 2
    assert first.startswith(f"error: {tmp_path}/a.yaml:3: FleetJob without a name: spec.template: is required")
    assert all(line.startswith("       ") for line in others)
    assert others[-1].strip() == f"{tmp_path}/b.yaml: not text in UTF-8: byte 0 is none"


@pytest.mark.parametrize("default", [True, False])
def test_a_hub_that_was_stopped_says_how_to_start_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default: bool
) -> None:
    data = tmp_path / "my data"
    data.mkdir()
    monkeypatch.setenv("QUARTERDECK_HOME", str(data if default else tmp_path))
    monkeypatch.delenv("QUARTERDECK_KUBECONFIG", raising=False)
    cluster = "{name: c, cluster: {server: 'http://127.0.0.1:1'}}"
    (data / "kubeconfig").write_text(
        f"apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{cluster}]\n"
        "contexts: [{name: x, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n"
    )
    (data / "hub.yaml").write_text("")
    ((data if default else tmp_path) / "current").write_text(f"{data}/kubeconfig")
    code, _, err = run(capsys, "get", "jobs")
    assert code == 1
    assert "http://127.0.0.1:1 did not answer: connection refused\n" in err
    again = "`quarterdeck up`" if default else f"`quarterdeck up --data '{data}'`"
    assert f"Start it again: {again}" in err


def test_options_of_quarterdeck_itself_go_after_the_command_too(tmp_path: Path) -> None:
    group = cli.get_command(click.Context(cli), "clusters")
    assert isinstance(group, click.Group)
    ctx = click.Context(cli, obj={"kubeconfig": None, "namespace": "a"})
    group.commands["accept"].make_context("accept", ["x", "-n", "b", "--kubeconfig", "k"], parent=ctx)
    assert ctx.obj == {"kubeconfig": "k", "namespace": "b"}
    for name in cli.list_commands(ctx):
        command = cli.get_command(ctx, name)
        assert command is not None
        # Asking twice adds nothing twice.
        command = cli.get_command(ctx, name)
        assert command is not None
        flags = [flag for param in command.params for flag in param.opts]
        assert len(flags) == len(set(flags)), name
