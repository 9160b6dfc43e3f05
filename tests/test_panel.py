"""The panel asks once, keeps what was answered, and takes no missing answer for an empty one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from regent.errors import CannotRun
from regent.models.speaker import Sampling
from supervisor.diffing.panel import Panel
from supervisor.diffing.prompts import draw_all
from tests.scripted_speakers import Chatter, Failing

HOW = Sampling(max_tokens=8)


def test_kept_answers_are_not_asked_again_and_more_samples_ask_only_what_is_missing(
    tmp_path: Path,
) -> None:
    speaker, prompts = Chatter("parent", 1), draw_all("gate", 5, seed=1)
    first = Panel(tmp_path).ask(speaker, prompts, 2, HOW)
    again = Panel(tmp_path)
    assert again.ask(speaker, prompts, 2, HOW) == first
    assert (again.tokens, len(speaker.asked)) == (0, 20)
    more = again.ask(speaker, prompts, 3, HOW)
    assert [(p, samples[:2]) for p, samples in more] == first
    assert len(speaker.asked) == 30
    assert again.ask(speaker, prompts, 1, HOW) == [(p, samples[:1]) for p, samples in first]


def test_another_speaker_or_another_way_of_sampling_is_asked_anew(tmp_path: Path) -> None:
    panel, prompts = Panel(tmp_path), draw_all("gate", 5, seed=1)
    speaker, other = Chatter("parent", 1), Chatter("child", 2)
    panel.ask(speaker, prompts, 1, HOW)
    panel.ask(other, prompts, 1, HOW)
    panel.ask(speaker, prompts, 1, Sampling(max_tokens=9))
    assert (len(speaker.asked), len(other.asked)) == (20, 10)


def test_only_a_failed_answer_is_asked_again(tmp_path: Path) -> None:
    speaker, prompts = Failing("child", 1), draw_all("gate", 10, seed=1)
    panel = Panel(tmp_path)
    with pytest.raises(CannotRun, match=re.escape("2 of 20 answers of child failed")):
        panel.ask(speaker, prompts, 1, HOW)
    speaker.mended, panel = True, Panel(tmp_path)
    assert all(
        len(samples) == 1 and samples[0] for _, samples in panel.ask(speaker, prompts, 1, HOW)
    )
    assert len(speaker.asked) == 22


def test_a_long_asking_that_breaks_off_keeps_what_was_answered(tmp_path: Path) -> None:
    class Dying(Chatter):
        def sample(self, conversations, how):  # type: ignore[no-untyped-def]
            if self.asked:
                raise KeyboardInterrupt
            return super().sample(conversations, how)

    prompts = draw_all("gate", 140, seed=1)
    with pytest.raises(KeyboardInterrupt):
        Panel(tmp_path).ask(Dying("child", 1), prompts, 3, HOW)
    patient = Chatter("child", 1)
    Panel(tmp_path).ask(patient, prompts, 3, HOW)
    assert 0 < len(patient.asked) < 3 * len(prompts)


def test_a_speaker_that_swallows_a_prompt_is_found_out() -> None:
    class Short(Chatter):
        def sample(self, conversations, how):  # type: ignore[no-untyped-def]
            return super().sample(conversations, how)[1:]

    with pytest.raises(CannotRun, match="gave 9 answers to 10 prompts"):
        Panel(None).ask(Short("child", 1), draw_all("gate", 5, seed=1), 1, HOW)
