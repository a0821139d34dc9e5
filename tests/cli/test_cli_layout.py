"""A table fits every terminal, and says what it can in it."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.cli.layout import Layout
from hub.server.clusters import cluster_table
from hub.server.jobs import job_table
from hub.server.queues import queue_table
from hub.server.view import Column

COLUMNS = (
    Column("NAME", elastic=True),
    Column("QUEUE", elastic=True, spare=2),
    Column("AGE", right=True, spare=1),
    Column("WHY", prose=True),
)
ROW = ["a-rather-long-name", "research", "3m", "no node is large enough: at most 2 GPUs on a node, and 3 are needed"]


def _shown(width: int, *rows: list[str]) -> list[str]:
    layout = Layout(COLUMNS)
    layout.widen(rows)
    layout.fit(width, first=True)
    return [click.unstyle(line) for line in (layout.head(), *(line for row in rows for line in layout.lines(row)))]


def test_there_is_room() -> None:
    assert _shown(200, ROW) == [
        "NAME                QUEUE     AGE  WHY",
        f"a-rather-long-name  research   3m  {ROW[3]}",
    ]


def test_sentences_are_broken_between_words() -> None:
    assert _shown(70, ROW) == [
        "NAME                QUEUE     AGE  WHY",
        "a-rather-long-name  research   3m  no node is large enough: at most 2",
        "                                   GPUs on a node, and 3 are needed",
    ]


def test_sentences_go_below_where_they_would_be_unreadable() -> None:
    assert _shown(40, ROW, ["b", "-", "1s", "-"]) == [
        "NAME                QUEUE     AGE",
        "a-rather-long-name  research   3m",
        "    no node is large enough: at most 2",
        "    GPUs on a node, and 3 are needed",
        "b                   -          1s",
    ]


def test_what_can_be_spared_is_left_out_first() -> None:
    assert _shown(30, ROW)[:2] == ["NAME             QUEUE     AGE", "a-rather-long-…  research   3m"]
    assert _shown(24, ROW)[:2] == ["NAME                AGE", "a-rather-long-name   3m"]
    assert _shown(20, ROW)[:2] == ["NAME             AGE", "a-rather-long-…   3m"]
    assert _shown(12, ROW)[:2] == ["NAME", "a-rather-lo…"]


def test_later_rows_change_no_columns() -> None:
    layout = Layout(COLUMNS)
    layout.widen([["a", "q", "1s", "-"]])
    layout.fit(18, first=True)
    assert click.unstyle(layout.head()) == "NAME  QUEUE  AGE"
    layout.widen([["b" * 30, "q", "100s", "-"]])
    layout.fit(18, first=False)
    (line,) = layout.lines(["b" * 30, "q", "100s", "-"])
    assert line == "bbbbbbb…  q      100s"


@given(
    st.integers(60, 250),
    st.lists(st.lists(st.text("abc -", min_size=1, max_size=90), min_size=15, max_size=15), min_size=1, max_size=4),
)
def test_no_line_is_longer_than_the_terminal(width: int, rows: list[list[str]]) -> None:
    for table in (job_table([], 0.0), cluster_table([], 0.0), queue_table([], 0.0)):
        cells = [
            [
                cell if column.elastic or column.prose else cell[:9]
                for cell, column in zip(row, table.columns, strict=False)
            ]
            for row in rows
        ]
        layout = Layout(table.columns)
        layout.widen(cells)
        layout.fit(width, first=True)
        lines = [layout.head(), *(line for row in cells for line in layout.lines(row))]
        assert max(len(click.unstyle(line)) for line in lines) <= width


@pytest.mark.parametrize("width", [20, 200])
def test_an_empty_table_has_a_head(width: int) -> None:
    assert len(_shown(width)) == 1
