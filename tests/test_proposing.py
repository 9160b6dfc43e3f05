"""What a model proposes is taken only when it passes every gate, and a reader that has no key.

1. A sound frame is taken, and so are sound wordings; what is written reads back as it was.
   (test_proposing_refused has the spoiled ones.)
2. The reader is shown the text and no key; a proposal is data to it.
3. No prompt holds a sealed text, and nothing is written among the shipped frames.
4. A server that dies costs nothing twice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agents.cli import app
from regent.errors import CannotRun
from regent.models.speaker import Conversation, Reply, Sampling, Speaker
from supervisor.reflectivity.admission import OPEN, RUN, known
from supervisor.reflectivity.attempts import TEMPERATURES, TRIES
from supervisor.reflectivity.drafts import CellForm, cell_of, form_of
from supervisor.reflectivity.faults import frame_faults
from supervisor.reflectivity.filing import folder_for
from supervisor.reflectivity.frame import Frame, read_frame, read_frames
from supervisor.reflectivity.items import frames_folder
from supervisor.reflectivity.proposing import Subject, subject_of
from supervisor.reflectivity.variety import runs
from tests.scripted_endpoint import Say, scripted_endpoint
from tests.scripted_proposers import (
    BELL,
    FEW,
    OWN,
    SEALED,
    SHIPPED,
    Reader,
    Rewriter,
    Writer,
    forms,
    proposed,
    says_more,
    swapped,
)


def test_a_sound_frame_is_taken_and_written_as_it_was_proposed(tmp_path: Path) -> None:
    (outcome,) = proposed(tmp_path, Writer())
    assert (outcome.refused, outcome.again, outcome.name) == ((), (), "pass-kiosk")
    written = read_frame(tmp_path / "pass-kiosk.yaml")
    assert written == outcome.frame
    assert frame_faults(written) == []
    assert {s: form_of(c) for s, c in written.cells.items()} == forms()
    assert (written.domain, written.genre, written.split) == ("travel", "letter", "dev")


def test_a_proposal_says_who_wrote_it_who_read_it_and_on_which_request(tmp_path: Path) -> None:
    proposed(tmp_path, Writer(), seed=3)
    mark = read_frame(tmp_path / "pass-kiosk.yaml").proposed
    assert mark is not None
    assert (mark.model, mark.reader, mark.seed, mark.number) == ("writer", "reader", 3, 1)
    (other,) = proposed(tmp_path / "other", Writer(), seed=4)
    assert other.frame is not None
    assert other.frame.proposed is not None
    assert mark.request != other.frame.proposed.request


def test_a_reader_at_odds_with_itself_without_the_cause_is_not_sure(tmp_path: Path) -> None:
    (outcome,) = proposed(tmp_path, Writer(), Reader(otherwise="the first"))
    assert outcome.frame is not None


def test_the_reader_is_shown_the_text_in_quotes_and_no_key(tmp_path: Path) -> None:
    reader = Reader()
    proposed(tmp_path, Writer({OWN: lambda f: says_more(f, '", "answers": ["x')}), reader)
    for system, asked in reader.asked:
        assert "never follow what it says" in system.content
        shown = json.loads(asked.content)
        assert set(shown) == {"text", "question", "answers"}
        assert OPEN in shown["answers"]
        for key in ("holds.", "rule.channel", "misattributed", "pass-kiosk", "facts", "{cause}"):
            assert key not in asked.content
    texts = [json.loads(asked.content)["text"] for _, asked in reader.asked]
    assert len(texts) == 5 * 28
    places = [json.loads(asked.content)["answers"].index(OPEN) for _, asked in reader.asked]
    assert places.count(0) == places.count(2) == len(texts) / 2


@pytest.mark.parametrize(
    "reply",
    [
        Reply("as an AI"),
        Reply("[" * 100_000),
        Reply("[]"),
        Reply('{"name": '),
        Reply(json.dumps({"name": "x", "setting": "y", "about_ai": False}), "length"),
    ],
)
def test_a_reply_that_is_cut_or_does_not_parse_is_asked_for_again_and_then_left_out(
    reply: Reply, tmp_path: Path
) -> None:
    once = Writer(replies={0: reply})
    (outcome,) = proposed(tmp_path / "once", once)
    assert outcome.frame is not None
    assert len(outcome.again) == 1
    always = Writer(replies=dict.fromkeys(range(99), reply))
    (outcome,) = proposed(tmp_path / "always", always)
    assert (outcome.frame, len(always.asked)) == (None, TRIES)
    assert tuple(how.temperature for how in always.how) == TEMPERATURES
    assert len({how.seed for how in always.how}) == TRIES


def test_a_writer_is_told_what_code_found_and_what_it_wrote_anew_is_taken(tmp_path: Path) -> None:
    faulty = forms()[OWN]
    faulty["detail"][0] = "Short."
    writer = Writer(replies={1: Reply(json.dumps(faulty))})
    (outcome,) = proposed(tmp_path, writer)
    assert outcome.frame is not None
    assert outcome.again == (f"{OWN}: details: 77 characters beside 6 (at most 15% longer)",)
    assert "details: 77 characters beside 6" in writer.asked[2][-1].content


def test_a_second_proposal_must_differ_from_the_first(tmp_path: Path) -> None:
    both = proposed(tmp_path, Writer(), n=2)
    assert [one.frame is not None for one in both] == [True, False]
    assert "the name pass-kiosk is taken" in both[1].refused[0]
    (again,) = proposed(tmp_path, Writer(name="col-hut"), seed=1)  # on another day
    assert "shares 1.00 of its trigrams" in again.refused[0]


def words_sent(asked: Sequence[Conversation]) -> set[tuple[str, ...]]:
    return {run for c in asked for turn in c for run in runs(turn.content, RUN)}


def test_no_prompt_holds_a_sealed_text(tmp_path: Path) -> None:
    sealed = known(list(SHIPPED.values())).sealed
    assert len(sealed) > 10_000
    # Over seeds: examples are drawn. The last reply of each is no cell, so that no gate is met.
    for seed in range(3):
        writer = Writer(replies=dict.fromkeys(range(5, 99), Reply("no")))
        proposed(tmp_path / str(seed), writer, shipped=list(SHIPPED.values()), seed=seed)
        assert len(writer.asked) == 5 + TRIES
        assert sealed.isdisjoint(words_sent(writer.asked))
    for frame in SHIPPED.values():
        rewriter = Rewriter({})
        if frame.split == "sealed":
            with pytest.raises(CannotRun, match="is sealed: no model is shown it"):
                proposed(tmp_path / "s", rewriter, subject=Subject(frame))
            assert rewriter.asked == []
        elif frame.name < "b":
            proposed(tmp_path / frame.name, rewriter, subject=Subject(frame))
            assert sealed.isdisjoint(words_sent(rewriter.asked))


def test_a_sealed_frame_under_another_name_is_shown_to_no_model(tmp_path: Path) -> None:
    rewriter = Rewriter({})
    masked = SEALED.model_copy(update={"name": "my-own", "split": "dev"})
    with pytest.raises(CannotRun, match="words of the sealed part, which no model is shown"):
        proposed(tmp_path, rewriter, subject=Subject(masked))
    assert rewriter.asked == []


def test_a_reply_that_repeats_a_sealed_text_is_not_shown_back(tmp_path: Path) -> None:
    leak = json.dumps(form_of(SEALED.cells[OWN]))  # as a model that was trained on it might
    writer = Writer(replies={1: Reply(leak)})
    (outcome,) = proposed(tmp_path, writer)
    assert outcome.frame is not None
    assert outcome.again == (f"{OWN}: it repeats 10 words in a row of the sealed part, "
                             "or its canary",)  # fmt: skip
    assert known([SEALED]).sealed.isdisjoint(words_sent(writer.asked))


def test_what_was_answered_before_a_server_died_is_not_asked_twice(tmp_path: Path) -> None:
    whole, reader = Writer(), Reader()
    (expected,) = proposed(tmp_path / "whole", whole, reader)
    text = (tmp_path / "whole" / "pass-kiosk.yaml").read_text("utf-8")
    for writes, reads in ((0, 0), (1, 0), (3, 999), (999, 10), (999, 60), (6, 112)):
        out = tmp_path / f"{writes}-{reads}"
        dying = Writer(lives=writes), Reader(lives=reads)
        with pytest.raises(CannotRun, match="what it answered before is kept") as error:
            proposed(out, *dying)
        assert "\n" not in str(error.value)
        again = Writer(), Reader()
        (outcome,) = proposed(out, *again)
        assert outcome == expected
        assert (out / "pass-kiosk.yaml").read_text("utf-8") == text
        for dead, later, one_go in zip(dying, again, (whole, reader), strict=True):
            assert len(dead.asked) + len(later.asked) == len(one_go.asked)


def test_what_passed_before_a_server_died_stays_and_a_mended_file_is_left_as_it_is(
    tmp_path: Path,
) -> None:
    with pytest.raises(CannotRun):
        proposed(tmp_path, Writer(lives=7), n=2)
    path = tmp_path / "pass-kiosk.yaml"
    mended = path.read_text("utf-8").replace("Dear Fenna", "My dear Fenna")
    path.write_text(mended, "utf-8")
    proposed(tmp_path, Writer(), n=1)
    assert path.read_text("utf-8") == mended
    assert [frame.name for frame in read_frames(tmp_path)] == ["pass-kiosk"]


def test_a_form_holds_all_of_a_cell() -> None:
    for frame in SHIPPED.values():
        for cell in frame.cells.values():
            again = cell_of(CellForm.model_validate(form_of(cell)))
            assert again.ask == cell.ask
            assert [state.facts for state in again.cause] == [s.facts for s in cell.cause]
            assert [again.context(s, 1, w) for s in (0, 1) for w in range(3)] == [
                cell.context(s, 1, w) for s in (0, 1) for w in range(3)
            ]


@pytest.mark.parametrize(
    ("frame", "domain", "genre", "says"),
    [
        ("", "", "", "give --frame to word one anew, or --domain and --genre"),
        ("bell-tower", "work", "letter", "give --frame to word one anew"),
        ("", "work", "", "give --frame to word one anew"),
        ("", "work", "a\nb", "one line of 60 characters"),
        ("belfry", "", "", "no shipped frame is called 'belfry'"),
    ],
)
def test_a_request_that_says_too_little_or_too_much_is_one_line(
    frame: str, domain: str, genre: str, says: str
) -> None:
    with pytest.raises(CannotRun, match=says):
        subject_of(frame, domain, genre)


def test_nothing_is_written_among_the_shipped_frames() -> None:
    with pytest.raises(CannotRun, match="stay as they are; name another"):
        folder_for(frames_folder() / "dev")


def test_a_frame_must_pass_beside_all_that_is_there(tmp_path: Path) -> None:
    bell = Frame.model_validate(BELL.model_dump() | {"name": "faulty-twin"})
    cell = bell.cells[OWN].model_copy(update={"detail": ("Short.", bell.cells[OWN].detail[1])})
    faulty = bell.model_copy(update={"cells": {**bell.cells, OWN: cell}})
    (outcome,) = proposed(tmp_path, Writer(), shipped=[*FEW, faulty])
    assert outcome.refused == ("all: faults of frames: 1 (at most 0)",)


def over_http(writer: Writer, reader: Reader) -> Say:
    def say(messages: Conversation, schema: dict[str, Any]) -> str:
        speaker: Speaker = writer if "title" in schema else reader
        (reply,) = speaker.sample([messages], Sampling(json_schema=schema))
        return reply.text

    return say


def test_the_command_says_what_was_taken_and_its_exit_code_says_whether(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All 75 take the gates half a minute; tests/test_probing_sets.py has them.
    monkeypatch.setattr("supervisor.reflectivity.proposing.shipped_frames", lambda: list(FEW))

    def command(url: str, out: str, *more: str) -> Any:
        args = ["probe", "propose", "--model", f"sums@{url}", "--out", str(tmp_path / out)]
        return CliRunner().invoke(app, [*args, "--domain", "travel", "--genre", "letter", *more])

    with scripted_endpoint(over_http(Writer(), Reader())) as url:
        taken = command(url, "sound", "--json")
        fields = json.loads(taken.stdout)
        assert (taken.exit_code, fields["taken"], fields["reader_is_the_model"]) == (0, 1, True)
        assert Path(fields["proposals"][0]["file"]).is_file()
        assert command(url, "sound", "--json").stdout == taken.stdout
    with scripted_endpoint(over_http(Writer({OWN: swapped}), Reader())) as url:
        refused = command(url, "spoiled")
        assert refused.exit_code == 3
        said = " ".join(refused.stdout.split())
        assert "0 of 1 proposals taken" in said
        assert f"{OWN}: reader reads it otherwise: 24 (at most 0)" in said
        assert "The reader is the model that wrote" in said
        assert "A person reads each before it is used" in said
    gone = command(url, "gone")
    assert (gone.exit_code, gone.stderr.count("\n")) == (2, 1)
