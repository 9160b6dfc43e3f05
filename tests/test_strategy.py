"""What an explorer is shown, and what of a model's reply counts as a suggestion."""

from __future__ import annotations

import json

import pytest

from agents.assignment import Assignment, TaskBrief
from agents.strategy import action_schema, suggestion_of
from environments.mechanism import LAWS, Mechanism
from regent.models.speaker import Reply
from regent.records import TaskRef


@pytest.mark.parametrize("skill", sorted(LAWS))
def test_every_law_of_the_laboratory_shows_its_explorer_the_verb_measure(skill: str) -> None:
    task = Mechanism().task(TaskRef(environment="mechanism", skill=skill, level=1, seed=3))
    schema = action_schema(TaskBrief(0, task.messages, task.max_steps, task.answer_tokens))
    assert schema["properties"]["action"]["pattern"].startswith("^measure ")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "go on",
        "{}",
        '{"direction": "sideways", "why": "x"}',
        json.dumps({"direction": "harder", "why": "x" * 121}),
        '{"direction": "harder", "why": "x", "level": 9, "run": "rm"}',
    ],
)
def test_a_follow_up_that_is_not_what_was_asked_is_no_suggestion(text: str) -> None:
    assignment = Assignment("goal", "echo", 1, "attempt", 90.0, ())
    assert suggestion_of(Reply(text), assignment) is None
