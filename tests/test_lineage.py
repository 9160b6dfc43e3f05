"""From any record back to its making, down to the experiment and the seed, and forward.

One round (tests/honest_run.py), with a released batch and a crowned successor.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from agents.cli import app
from regent.errors import CannotRun
from supervisor.record.lineage import champion, render, why
from tests.honest_run import one_round


def test_why_leads_from_an_example_to_its_experiment_and_to_the_champion(tmp_path: Path) -> None:
    run = one_round(tmp_path)
    example = run.ledger.rows("batch")[0].fields()["examples"][0]
    links = why(run.ledger, run.store, example[:12])
    found = {(link.direction, link.kind) for link in links}
    assert {("back", "trajectory"), ("back", "plan"), ("back", "gap")} <= found
    assert {("forward", "batch"), ("forward", "training_run"), ("forward", "checkpoint")} <= found
    text = render(links)
    for part in ("seed 71", "worker-2", "smollm2", "code v0", "practise sums", "approve"):
        assert part in text


def test_why_leads_from_a_checkpoint_back_to_its_experiments_and_parent(tmp_path: Path) -> None:
    run = one_round(tmp_path)
    ruler = champion(run.ledger.rows())
    assert ruler is not None
    back = [(link.kind, link.summary) for link in why(run.ledger, run.store, ruler)]
    kinds = [kind for kind, _ in back]
    assert {"verdict", "training_run", "batch", "release", "plan", "gap"} <= set(kinds)
    assert any(kind == "checkpoint" and "origin" in said for kind, said in back)
    assert any(kind == "plan" and said.startswith("3 examples") for kind, said in back)


def test_why_tells_a_verdict_once_and_each_of_its_reasons_on_a_line(tmp_path: Path) -> None:
    run = one_round(tmp_path)
    verdict = run.ledger.rows("verdict")[0]
    links = why(run.ledger, run.store, verdict.subject)
    assert [link.id for link in links].count(verdict.subject) == 1
    assert links[0].reasons == tuple(verdict.fields()["reasons"])
    lines = render(links).splitlines()
    for reason in links[0].reasons:
        assert sum(line.strip() == f"- {reason}" for line in lines) == 1


@pytest.mark.parametrize("width", [60, 100])
def test_the_lineage_keeps_to_the_width_of_the_terminal(width: int, tmp_path: Path) -> None:
    run = one_round(tmp_path)
    ruler = champion(run.ledger.rows())
    assert ruler is not None
    assert max(map(len, render(why(run.ledger, run.store, ruler), width).splitlines())) <= width


def test_why_says_of_a_dropped_example_that_it_was_dropped(tmp_path: Path) -> None:
    run = one_round(tmp_path)
    example = run.ledger.rows("batch")[0].fields()["examples"][2]
    assert "this example was dropped: duplicate" in render(why(run.ledger, run.store, example))


def test_why_names_examples_to_ask_for_and_leads_from_a_gap_to_them(tmp_path: Path) -> None:
    run = one_round(tmp_path)
    batch = run.ledger.rows("batch")[0]
    told = next(link for link in why(run.ledger, run.store, batch.subject) if link.kind == "plan")
    named = told.summary.split("e.g. ")[1][:12]
    assert any(one.startswith(named) for one in batch.fields()["examples"])
    gap = next(link.id for link in why(run.ledger, run.store, named) if link.kind == "gap")
    forward = why(run.ledger, run.store, gap)
    assert {"plan", "trajectory", "example", "batch"} <= {link.kind for link in forward}
    assert any(link.id.startswith(named) and "seed 71" in link.summary for link in forward)


def test_an_id_that_is_like_none_gets_no_nearest(tmp_path: Path) -> None:
    run = one_round(tmp_path)
    with pytest.raises(CannotRun, match="ids look like"):
        why(run.ledger, run.store, "experiment-r1-00-chain_sum")


def test_why_says_where_the_ledger_was_altered(tmp_path: Path) -> None:
    run = one_round(tmp_path)
    verdict = run.ledger.rows("verdict")[0]
    asked = ["audit", "why", str(run.path), verdict.subject]
    assert CliRunner().invoke(app, asked).stdout.count("audit verify") == 0
    database = run.path / "ledger.sqlite"
    database.write_bytes(database.read_bytes().replace(b'"approve"', b'"Approve"'))
    told = CliRunner().invoke(app, asked)
    assert "its content was altered" in told.stdout
    assert "audit verify" in told.stdout
    shown = CliRunner().invoke(app, ["status", str(run.path)])
    assert shown.exit_code == 2
    assert "it was altered; `regent audit verify RUN`" in shown.stderr


def test_a_revoked_champion_gives_way_to_the_one_before(tmp_path: Path) -> None:
    run = one_round(tmp_path)
    ruler = champion(run.ledger.rows())
    assert ruler is not None
    run.ledger.append("revoke", {"reason": "drifts", "reviewer": "ada"}, subject=ruler)
    origin = run.ledger.rows("checkpoint")[0].subject
    assert champion(run.ledger.rows()) == origin
