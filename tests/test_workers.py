"""The desk bounds what a worker may spend, and says itself what happened.

Whatever a model replies (nothing, without end, not JSON) and whatever a worker claims, the caps
on steps, tokens and seconds hold, the trajectories are the desk's own, and no score is told.
The worlds and the model here are scripted; tests/test_cluster.py does the same on real Ray.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from agents.assignment import Assignment
from agents.desk_book import BEGINNINGS, Refused
from agents.worker import Worker
from environments.protocol import Observation
from regent.models.speaker import Reply
from regent.records import Trajectory
from tests.scripted_desk import (
    SECRET,
    ask,
    plan,
    reply,
    room,
)


def test_a_single_turn_experiment_brings_verified_trajectories_that_end_in_the_answer() -> None:
    r, what = room(), plan(3)
    report, trajectories = r.run(r.experiment(what))
    assert [t.outcome for t in trajectories] == ["verified"] * 3
    assert [t.task for t in trajectories] == list(what.tasks)
    for number, t in enumerate(trajectories):
        assert (t.plan, t.parents, t.agent) == (what.id, (what.id,), "experiment-r1-00-echo")
        assert (t.model, t.code, t.tokens) == ("model-1", "code-1", 12)
        (only,) = t.steps
        assert only.kind == "answer"
        assert only.response == str(7 + number)
        assert only.prompt[0].content == f"Say {7 + number}."
    assert report.suggestion is not None
    assert (report.suggestion.direction, report.suggestion.skill) == ("harder", "echo")


def test_an_explorer_analyses_measures_and_answers_from_what_the_world_said() -> None:
    r = room()
    _, (only,) = r.run(r.experiment(plan(1, level=1)))
    kinds = [step.kind for step in only.steps]
    assert kinds == ["analyse", *["execute", "observe"] * 3, "answer"]
    assert only.steps[2].observation == "it shows 7"
    assert only.outcome == "verified"
    roles = [message.role for message in only.steps[-1].prompt]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


def test_wrong_answers_are_refuted_and_the_worker_is_never_told() -> None:
    r = room(lambda conversation, how: reply("3"))
    what = plan(2)

    async def whole() -> tuple[list[Any], list[Trajectory]]:
        ticket = await r.ticket(what)
        told: list[Any] = []
        for index in range(2):
            told.append(await ask(r, ticket, index))
            await r.desk.submit(ticket, index, "3")
            told.append(await r.desk.begin(ticket))
        assert r.world.verified == []  # nothing is scored while the worker lives
        return told, await r.desk.close(SECRET, what.id)

    told, trajectories = r.run(whole())
    assert [(t.outcome, t.score) for t in trajectories] == [("refuted", 0.0)] * 2
    assert not re.search("score|refuted|verified|wrong", repr(told))


@pytest.mark.parametrize(
    ("text", "level", "outcome"),
    [
        ("", 0, "unanswered"),
        ("   \n", 1, "unanswered"),
        ("x" * 50_000, 0, "refuted"),
        ("x" * 50_000, 1, "capped"),  # it fills the next prompt
        ("{", 0, "refuted"),
        ("{", 1, "refuted"),
    ],
    ids=["empty", "blank", "endless", "endless-explorer", "not-json", "not-json-explorer"],
)
def test_whatever_the_model_replies_the_experiment_ends(
    text: str, level: int, outcome: str
) -> None:
    r = room(lambda conversation, how: reply(text))
    report, trajectories = r.run(r.experiment(plan(2, level=level)))
    assert [t.outcome for t in trajectories] == [outcome] * 2
    assert report.suggestion is None


def test_the_model_failing_is_recorded_with_its_reason_and_is_no_answer() -> None:
    r = room(lambda conversation, how: Reply("", finish="error", error="HTTP 500"))
    _, trajectories = r.run(r.experiment(plan(2)))
    assert {(t.outcome, t.detail, t.score) for t in trajectories} == {("failed", "HTTP 500", None)}


def test_no_call_may_write_more_than_the_tokens_that_are_left() -> None:
    r = room(lambda c, how: reply("7", prompt=27, completion=how.max_tokens), tokens=140)

    async def spend() -> list[Reply]:
        ticket = await r.ticket(plan(1))
        # Side by side: each alone would fit, together they must not pass the cap.
        return list(await asyncio.gather(*(ask(r, ticket, most=60) for _ in range(5))))

    replies = r.run(spend())
    assert sum(one.tokens for one in replies) == 140
    assert [one.error for one in replies if not one.ok] == ["cap: tokens"] * 3
    assert [how.max_tokens for _, how in r.script.asked] == [60, 26]


def test_a_prompt_beyond_the_cap_never_reaches_the_model() -> None:
    r = room(tokens=100)
    what = plan(1)

    async def spend() -> tuple[Reply, list[Trajectory]]:
        ticket = await r.ticket(what)
        refused = await ask(r, ticket, words="word " * 500)
        return refused, await r.desk.close(SECRET, what.id)

    refused, (only,) = r.run(spend())
    assert refused.error == "cap: tokens"
    assert r.script.asked == []
    assert (only.outcome, only.detail) == ("capped", "cap: tokens")


def test_a_server_that_counts_no_tokens_is_capped_all_the_same() -> None:
    r = room(lambda conversation, how: reply("7", prompt=0, completion=0), tokens=100)

    async def spend() -> list[Reply]:
        ticket = await r.ticket(plan(1))
        return [await ask(r, ticket, most=8) for _ in range(10)]

    errors = [one.error for one in r.run(spend())]
    assert errors == [""] * 3 + ["cap: tokens"] * 7


def test_model_calls_and_readings_share_the_cap_on_steps() -> None:
    r = room(steps=4)
    what = plan(1, level=1)

    async def spend() -> tuple[list[bool], str, list[Trajectory]]:
        ticket = await r.ticket(what)
        went = []
        for _ in range(3):
            went.append((await ask(r, ticket)).ok)
            went.append((await r.desk.step(ticket, 0, "measure x=1")).valid)
        late = (await ask(r, ticket)).error
        return went, late, await r.desk.close(SECRET, what.id)

    went, late, (only,) = r.run(spend())
    assert went == [True] * 4 + [False] * 2
    assert late == "cap: steps"
    assert (only.outcome, len(only.steps)) == ("capped", 4)


def test_after_the_deadline_nothing_is_asked_of_model_or_world() -> None:
    r = room(seconds=30.0)
    what = plan(2, level=1)

    async def late() -> tuple[Reply, Observation, list[Trajectory]]:
        ticket = await r.ticket(what)
        r.clock.now = 30.0
        return (
            await ask(r, ticket, 0),
            await r.desk.step(ticket, 1, "measure x=1"),
            await r.desk.close(SECRET, what.id),
        )

    answer, seen, trajectories = r.run(late())
    assert (answer.error, seen.text, seen.done) == ("cap: seconds", "cap: seconds", True)
    assert r.script.asked == []
    assert [(t.outcome, t.detail) for t in trajectories] == [("capped", "cap: seconds")] * 2


def test_a_model_that_never_answers_ends_at_the_deadline() -> None:
    r = room(hang=True, seconds=0.2)
    _, trajectories = r.run(r.experiment(plan(3)))
    assert [(t.outcome, t.detail) for t in trajectories] == [("capped", "cap: seconds")] * 3


def test_only_a_ticket_opens_an_experiment_and_only_the_driver_closes_it() -> None:
    r, what = room(), plan(1)

    async def forge() -> None:
        await r.ticket(what)
        for word in (what.id, "0" * 32, ""):
            assert not (await ask(r, word)).ok
            assert not (await r.desk.step(word, 0, "measure x=1")).valid
            with pytest.raises(Refused, match="ticket"):
                await r.desk.begin(word)
        with pytest.raises(Refused, match="only the driver"):
            await r.desk.close("guessed", what.id)
        with pytest.raises(Refused, match="only the driver"):
            await r.desk.open("guessed", plan(2), "me")

    r.run(forge())
    assert r.script.asked == []


@pytest.mark.parametrize("index", [-1, 3, 99])
def test_a_worker_reaches_no_task_that_it_was_not_given(index: int) -> None:
    r, what = room(), plan(3, level=1)

    async def reach() -> list[Trajectory]:
        ticket = await r.ticket(what)
        assert not (await r.desk.step(ticket, index, "measure x=1")).valid
        await r.desk.submit(ticket, index, "7")
        return await r.desk.close(SECRET, what.id)

    assert all(t.steps == () and t.score is None for t in r.run(reach()))


def test_an_answer_that_the_model_never_said_is_not_taken() -> None:
    r, what = room(lambda conversation, how: reply("3")), plan(1)

    async def forge() -> list[Trajectory]:
        ticket = await r.ticket(what)
        await ask(r, ticket)
        await r.desk.submit(ticket, 0, "7")  # right, but the worker's own
        return await r.desk.close(SECRET, what.id)

    (only,) = r.run(forge())
    assert (only.outcome, only.score) == ("unanswered", None)
    assert r.world.verified == []


def test_an_answer_stands_once_it_is_given_and_closing_twice_gives_the_same() -> None:
    r, what = room(), plan(1)

    async def twice() -> tuple[list[Trajectory], list[Trajectory], str]:
        ticket = await r.ticket(what)
        await ask(r, ticket)
        await r.desk.submit(ticket, 0, "7")
        assert not (await ask(r, ticket)).ok
        first = await r.desk.close(SECRET, what.id)
        assert not (await ask(r, ticket)).ok
        return first, await r.desk.close(SECRET, what.id), await r.desk.open(SECRET, what, "again")

    first, second, ticket = r.run(twice())
    assert [t.id for t in first] == [t.id for t in second]
    assert ticket == ""
    assert r.world.verified == ["7"]


def test_a_worker_that_died_goes_on_with_open_tasks_and_what_it_spent_stays_spent() -> None:
    r, what = room(tokens=100), plan(2)

    async def die_and_return() -> tuple[Assignment, list[Trajectory]]:
        ticket = await r.ticket(what)
        await ask(r, ticket, 0)
        await r.desk.submit(ticket, 0, "7")
        await ask(r, ticket, 1, "Say 8.")  # and dies here
        r.clock.now = 10.0
        again = await r.desk.begin(ticket)
        await Worker().run(ticket, 1, r.desk)
        return again, await r.desk.close(SECRET, what.id)

    again, (first, second) = r.run(die_and_return())
    assert [task.index for task in again.tasks] == [1]
    assert again.seconds == 80.0
    assert (first.outcome, second.outcome) == ("verified", "verified")
    assert (len(second.steps), second.tokens) == (1, 24)


def test_an_experiment_that_kills_its_workers_is_not_begun_for_ever() -> None:
    r = room()

    async def begin() -> None:
        ticket = await r.desk.open(SECRET, plan(1), "a")
        for _ in range(BEGINNINGS):
            await r.desk.begin(ticket)
        with pytest.raises(Refused, match="never ended"):
            await r.desk.begin(ticket)

    r.run(begin())


def test_a_verifier_that_raises_or_scores_nonsense_fails_the_trajectory() -> None:
    for spoil in (lambda ref, answer: 1 / 0, lambda ref, answer: float("nan")):
        r = room()
        r.world.verify = spoil  # type: ignore[method-assign]
        _, (only,) = r.run(r.experiment(plan(1)))
        assert (only.outcome, only.score) == ("failed", None)
        assert "verifier" in only.detail


def test_a_worker_sees_neither_seed_nor_reference() -> None:
    r = room()
    ticket = r.run(r.desk.open(SECRET, plan(2, first=991), "a"))
    shown = r.run(r.desk.begin(ticket))
    assert "seed" not in repr(shown)
    assert {field for task in shown.tasks for field in vars(task)} == {
        "index",
        "messages",
        "max_steps",
        "answer_tokens",
    }
