"""A lineage's atlas: found once, read back as it was, and the same regions in every diff.

1. Every response lies in exactly one region; the file gives back the same regions.
2. Two diffs that name one file count the same regions, and a file that is no atlas is one line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from agents.cli import app
from regent.errors import CannotRun
from supervisor.diffing.atlas import behaviours, draw_atlas, read_atlas, write_atlas
from supervisor.diffing.comparison import pair
from tests.scripted_speakers import embed
from tests.test_difference import HABIT, recorded, said


def test_every_response_lies_in_one_region_and_a_file_gives_the_regions_back(
    tmp_path: Path,
) -> None:
    pool = pair(said(1, 60, 2), said(2, 60, 2, HABIT, 0.5), embed)
    drawn = draw_atlas(pool)
    assert 2 <= len(drawn) <= 16
    write_atlas(drawn, tmp_path / "atlas.json")
    again = read_atlas(tmp_path / "atlas.json")
    assert again == drawn
    shows = np.array([b.show(pool.features) for b in behaviours(again)])
    assert (shows.sum(axis=0) == 1.0).all()
    assert behaviours(()) == []


def test_it_is_of_the_left_sides_responses_alone() -> None:
    left = said(1, 60, 2)
    assert draw_atlas(pair(left, said(2, 60, 2), embed)) == draw_atlas(
        pair(left, said(3, 60, 2, HABIT, 1.0), embed)
    )


def test_too_few_responses_are_one_line() -> None:
    with pytest.raises(CannotRun, match="10 responses to find an atlas on are too few"):
        draw_atlas(pair(said(1, 10, 1), said(2, 10, 1), embed))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "[1, 2]", '[{"id": "a"}]', json.dumps([{"id": "a", "label": "b", "terms": [],
     "centre": [0.0]}, {"id": "b", "label": "b", "terms": [], "centre": [0.0, 1.0]}])],
)  # fmt: skip
def test_a_file_that_is_no_atlas_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CannotRun, match="no atlas"):
        read_atlas(tmp_path / "a.json")


@pytest.mark.usefixtures("scripted_embeddings")
def test_two_diffs_of_a_lineage_count_the_same_regions(tmp_path: Path) -> None:
    origin = recorded(tmp_path / "origin.jsonl", said(1, 80, 2))
    first = recorded(tmp_path / "first.jsonl", said(2, 80, 2))
    second = recorded(tmp_path / "second.jsonl", said(3, 80, 2, HABIT, 0.7))
    file = tmp_path / "atlas.json"

    def run(left: str, right: str) -> Any:
        done = CliRunner().invoke(app, ["diff", left, right, "--json", "--atlas", str(file)])
        assert done.exit_code in (0, 1, 3), done.output
        return json.loads(done.stdout)["atlas"]

    one = run(origin, first)
    kept = file.read_bytes()
    two = run(first, second)
    assert file.read_bytes() == kept
    assert [row["id"] for row in one] == [row["id"] for row in two]
    assert [row["label"] for row in one] == [row["label"] for row in two]
    shown = CliRunner().invoke(app, ["diff", origin, second, "--atlas", str(file)])
    assert "the lineage's atlas" in shown.stdout
    missing = CliRunner().invoke(app, ["diff", origin, second, "--atlas", str(tmp_path / "x/a")])
    assert missing.exit_code == 2
    assert "there is no folder" in missing.stderr
