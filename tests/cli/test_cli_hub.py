"""`quarterdeck hub` is `python -m hub.controllers` by another name: the same options, the same answers."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from click.testing import CliRunner

from hub.cli import hub
from hub.cli.main import cli
from hub.controllers import main as process

GIVEN = {
    "--kubeconfig": "k",
    "--config": "c",
    "--metrics-listen": "127.0.0.1:1",
    "--debug-url": "http://u",
    "--api-listen": "127.0.0.1:2",
    "--webhook-listen": "127.0.0.1:3",
    "--pod": "p",
    "--identity": "me",
    "--log-level": "debug",
}


def test_every_option_of_the_process_is_one_of_the_command_and_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[argparse.Namespace] = []
    parse = process._parse

    def listen(arguments: list[str]) -> int:
        heard.append(parse(arguments))
        return 7

    monkeypatch.setattr(process, "main", listen)
    words = [word for pair in GIVEN.items() for word in pair]
    done = CliRunner().invoke(cli, ["hub", "--bootstrap", *words])
    assert done.exit_code == 7, done.output
    (options,) = heard
    assert vars(options) == {
        "kubeconfig": Path("k"),
        "config": Path("c"),
        "metrics_listen": "127.0.0.1:1",
        "debug_url": "http://u",
        "api_listen": "127.0.0.1:2",
        "webhook_listen": "127.0.0.1:3",
        "pod": "p",
        "identity": "me",
        "log_level": "debug",
        "bootstrap": True,
    }
    assert {option for param in hub.command.params for option in param.opts} == {*GIVEN, "--bootstrap"}


def test_a_kubeconfig_before_the_command_is_the_hubs_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    heard: list[list[str]] = []
    monkeypatch.setattr(process, "main", lambda arguments: heard.append(arguments) or 0)
    CliRunner().invoke(cli, ["--kubeconfig", str(tmp_path / "a"), "hub"])
    CliRunner().invoke(cli, ["--kubeconfig", "/elsewhere", "hub", "--kubeconfig", str(tmp_path / "b")])
    CliRunner().invoke(cli, ["hub"])
    assert heard == [["--kubeconfig", str(tmp_path / "a")], ["--kubeconfig", str(tmp_path / "b")], []]
