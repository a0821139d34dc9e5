"""One `up` a data directory; tokens readable by their owner only; a port that stays."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import pytest

from hub.api.errors import DataDirectoryBusyError, StorageError, UsageError
from hub.cli.up.datadir import DataDirectory, choose_port, ensure_token, write_private


def test_a_second_up_says_who_holds_the_directory(tmp_path: Path) -> None:
    with (
        DataDirectory(tmp_path),
        pytest.raises(DataDirectoryBusyError, match=f"pid {os.getpid()}"),
        DataDirectory(tmp_path),
    ):
        pass
    with DataDirectory(tmp_path) as paths:
        assert paths.api.is_dir()


def test_a_directory_that_cannot_be_made_is_said_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Not a directory"), DataDirectory(tmp_path / "file" / "data"):
        pass


def test_tokens_are_made_once_and_private(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as paths:
        token = ensure_token(paths, "admin", ["system:masters"])
        assert ensure_token(paths, "admin", ["system:masters"]) == token
        assert ensure_token(paths, "agent", []) != token
        assert json.loads(paths.tokens.read_text())[token]["user"] == "admin"
        assert stat.S_IMODE(paths.tokens.stat().st_mode) == 0o600


def test_a_damaged_token_file_is_said_and_kept(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as paths:
        write_private(paths.tokens, "{half")
        with pytest.raises(StorageError, match="not readable as JSON"):
            ensure_token(paths, "admin", [])
        assert paths.tokens.read_text() == "{half"


def test_the_port_is_kept_and_a_taken_one_refused(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as paths:
        port = choose_port(paths, None)
        assert choose_port(paths, None) == port
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(UsageError, match="in use"):
                choose_port(paths, taken.getsockname()[1])
