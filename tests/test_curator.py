"""A batch holds what the environment verified, what the world answered, and rehearsal, balanced.

The worker's word counts for nothing: answers are verified and readings taken again. Every example
leads back to its trajectory.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from importlib import resources
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.anchors import anchor_conversations, anchor_examples, anchors
from agents.curator import assemble, profile_examples, prompt_key, skill_of
from environments.registry import environment
from environments.skills import CORRECT, ItemResult, Node, items
from regent.config import CurateConfig
from regent.models.speaker import Reply
from regent.records import Example, Message, Step, TaskRef, Trajectory

CONFIG = CurateConfig(examples=40, replay_share=0.5)
TARGETS = ("reasoning/chain_sum", "reasoning/spell_backward")
CHAIN = Node("reasoning", "chain_sum", 0)
SPELL = Node("reasoning", "spell_backward", 0)
PENDULUM = Node("mechanism", "pendulum", 1)

Outcome = Literal["verified", "refuted", "unanswered", "capped", "failed"]


def trajectory(
    ref: TaskRef, answer: str, outcome: Outcome = "verified", readings: tuple[str, ...] = ()
) -> Trajectory:
    """A trajectory as the desk writes it: readings, then the answer with what led to it."""
    prompt = (Message(role="user", content="…"),)
    steps = [
        Step(kind="observe", prompt=(), response=action, observation="forged=1")
        for action in readings
    ]
    if answer:
        steps.append(Step(kind="answer", prompt=prompt, response=answer))
    elif outcome != "failed":
        steps.append(Step(kind="execute", prompt=prompt, response="…"))
    return Trajectory(
        plan="p" * 64, task=ref, agent="worker-1", model="m", code="c",
        steps=tuple(steps), score=None, outcome=outcome,
    )  # fmt: skip


def solution(ref: TaskRef) -> str:
    return environment(ref.environment).solution(ref)


def tried(node: Node, right: int, wrong: int, seed: int = 1) -> list[Trajectory]:
    refs = items(node, right + wrong, seed, "train")
    return [trajectory(ref, f"It is\nAnswer: {solution(ref)}") for ref in refs[:right]] + [
        trajectory(ref, "nonsense", "refuted") for ref in refs[right:]
    ]


def rehearsal(n: int) -> list[Example]:
    conversations = anchor_conversations(n, np.random.default_rng(0))
    replies = [Reply(f"My own words, number {i}.") for i in range(n)]
    return anchor_examples(conversations, replies, "m", "c")


def assembled(
    trajectories: list[Trajectory], replay: list[Example] | None = None, seed: int = 1
) -> tuple[list[Example], list[str]]:
    pool = rehearsal(100) if replay is None else replay
    return assemble(trajectories, pool, CONFIG, seed=seed, round=1, targets=TARGETS)


def sources(examples: list[Example]) -> Counter[str]:
    return Counter(example.provenance.source for example in examples)


def test_the_batch_is_balanced_over_skills_sources_and_rehearsal() -> None:
    examples, notes = assembled(tried(CHAIN, 30, 30) + tried(SPELL, 8, 30))
    assert sources(examples) == {"own_attempt": 10, "world_answer": 10, "replay": 20}
    assert Counter(skill_of(e) for e in examples if skill_of(e)) == dict.fromkeys(TARGETS, 10)
    assert notes == []


def test_what_a_scarce_group_lacks_another_fills() -> None:
    examples, _ = assembled(tried(CHAIN, 30, 0) + tried(SPELL, 3, 0))
    assert Counter(skill_of(e) for e in examples if skill_of(e)) == {TARGETS[0]: 17, TARGETS[1]: 3}


def test_every_target_answer_verifies_and_is_in_its_shortest_form() -> None:
    examples, _ = assembled(tried(CHAIN, 10, 10))
    for example in examples:
        if example.provenance.task:
            ref, answer = example.provenance.task, example.messages[-1].content
            assert environment("reasoning").verify(ref, answer) >= CORRECT
            assert answer == solution(ref)


def test_an_answer_that_does_not_verify_is_refused_whatever_the_worker_says() -> None:
    (ref,) = items(CHAIN, 1, 1, "train")
    examples, notes = assembled([trajectory(ref, "nonsense", "verified")])
    assert [e for e in examples if e.provenance.task] == []
    assert "1 trajectories set aside: called verified, but the answer does not verify" in notes


@pytest.mark.parametrize(
    ("outcome", "answer", "source"),
    [
        ("refuted", "nonsense", "world_answer"),
        ("unanswered", "", "world_answer"),
        ("capped", "", "world_answer"),
        ("failed", "", None),
    ],
)
def test_the_world_answers_where_the_model_did_not(
    outcome: Outcome, answer: str, source: str | None
) -> None:
    (ref,) = items(CHAIN, 1, 1, "train")
    examples, _ = assembled([trajectory(ref, answer, outcome)], [])
    assert [e.provenance.source for e in examples] == ([source] if source else [])


def test_an_example_names_all_that_it_came_from() -> None:
    (ref,) = items(CHAIN, 1, 1, "train")
    came_from = trajectory(ref, solution(ref))
    (example,) = assembled([came_from], [])[0]
    provenance = example.provenance
    assert example.parents == (came_from.id,)
    assert provenance.trajectory == came_from.id
    assert (provenance.plan, provenance.task) == (came_from.plan, ref)
    assert (provenance.agent, provenance.model, provenance.code) == ("worker-1", "m", "c")
    assert example.messages[:-1] == environment("reasoning").task(ref).messages


def test_one_prompt_gives_one_example_and_own_words_come_first() -> None:
    (ref,) = items(CHAIN, 1, 1, "train")
    examples, notes = assembled(
        [trajectory(ref, "nonsense", "refuted"), trajectory(ref, solution(ref))], []
    )
    assert sources(examples) == {"own_attempt": 1}
    assert "dropped 1 examples with a prompt already there" in notes


def test_rehearsal_never_trains_on_a_target_or_on_a_prompt_that_is_trained() -> None:
    refs = items(CHAIN, 4, 1, "train")
    results = [ItemResult(ref, solution(ref), 1.0, 9) for ref in refs]
    pool = profile_examples(results, "m", "c", targets=())
    assert len(pool) == 4
    assert sources(assembled(tried(CHAIN, 4, 0), pool)[0]) == {"own_attempt": 4}
    assert profile_examples(results, "m", "c", targets=TARGETS) == []


def test_only_verified_replies_elsewhere_are_rehearsed() -> None:
    refs = items(Node("reasoning", "lcm", 0), 3, 1, "profile")
    results = [
        ItemResult(refs[0], solution(refs[0]), 1.0, 9),
        ItemResult(refs[1], "wrong", 0.0, 9),
        ItemResult(refs[2], "", None, 0),
    ]
    (example,) = profile_examples(results, "m", "c", TARGETS)
    assert (example.provenance.source, example.provenance.task) == ("replay", refs[0])


def test_a_short_pool_is_said_and_not_stretched() -> None:
    examples, notes = assembled(tried(CHAIN, 20, 20), rehearsal(3))
    assert sources(examples)["replay"] == 3
    assert "replay is short: 3 examples of 20" in notes


def test_a_target_of_which_nothing_was_learned_is_named() -> None:
    assert "nothing was learned of reasoning/spell_backward" in assembled(tried(CHAIN, 2, 2))[1]


def test_an_off_target_trajectory_stays_out() -> None:
    examples, notes = assembled(tried(Node("reasoning", "lcm", 0), 2, 0), [])
    assert examples == []
    assert "2 trajectories set aside: on no target skill" in notes


def test_the_order_in_which_workers_came_back_does_not_matter_and_the_seed_does() -> None:
    made = tried(CHAIN, 30, 30)
    one, two = assembled(made)[0], assembled(made[::-1])[0]
    assert [e.id for e in one] == [e.id for e in two]
    assert {e.id for e in one} != {e.id for e in assembled(made, seed=2)[0]}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 30), st.floats(0, 0.9))
def test_never_more_than_asked_and_never_a_prompt_twice(
    right: int, wrong: int, pool: int, share: float
) -> None:
    config = CurateConfig(examples=16, replay_share=share)
    examples, _ = assemble(tried(CHAIN, right, wrong), rehearsal(pool), config, 1, 1, TARGETS)
    keys = [prompt_key(example) for example in examples]
    assert len(keys) == len(set(keys)) <= 16


def test_preference_training_gets_pairs_alone() -> None:
    made = tried(CHAIN, 5, 5)
    examples, _ = assemble(made, rehearsal(9), CONFIG, 1, 1, TARGETS, method="dpo")
    assert sources(examples) == {"world_answer": 5}
    assert {example.rejected for example in examples} == {"nonsense"}


# With an instrument.


def experimented(answer: str, outcome: Outcome, *readings: str) -> tuple[list[Example], list[str]]:
    (ref,) = items(PENDULUM, 1, 3, "train")
    made = [trajectory(ref, answer or solution(ref), outcome, readings)]
    return assemble(made, [], CONFIG, 1, 1, ["mechanism/pendulum"])


def test_readings_are_taken_again_and_invalid_actions_left_out() -> None:
    examples, _ = experimented(
        "answer: 99, 99", "refuted", "measure length=0.5", "hocus pocus", "measure length=0.9"
    )
    (example,) = examples
    said = [m.content for m in example.messages]
    assert [m.role for m in example.messages] == ["user", "assistant"] * 3
    assert (said[1], said[3]) == ("measure length=0.5", "measure length=0.9")
    assert all(re.match(r"period=[\d.]+ s", reading) for reading in (said[2], said[4]))
    assert "forged" not in " ".join(said)
    assert example.provenance.task is not None
    assert said[5] == solution(example.provenance.task)


def test_an_answer_follows_from_readings_or_teaches_nothing() -> None:
    examples, notes = experimented("answer: 99, 99", "refuted", "hocus pocus")
    assert examples == []
    assert any("nothing was measured" in note for note in notes)


def test_a_verified_answer_is_kept_in_the_form_that_ends_an_episode() -> None:
    (ref,) = items(PENDULUM, 1, 3, "train")
    bare = solution(ref).removeprefix("answer: ")
    for said, source in ((solution(ref), "own_attempt"), (bare, "world_answer")):
        (example,) = experimented(said, "verified", "measure length=0.5")[0]
        assert example.provenance.source == source
        assert example.messages[-1].content == solution(ref)


# Anchors.


def test_the_anchors_are_many_different_and_end_with_the_user() -> None:
    text = resources.files("agents").joinpath("anchors.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    assert len(rows) == 160
    assert len({row["id"] for row in rows}) == 160
    assert len({row["turns"][-1]["content"].casefold() for row in rows}) == 160
    assert len({row["category"] for row in rows}) >= 12
    assert all(conversation[-1].role == "user" for conversation in anchors())


def test_anchors_are_drawn_without_repeats_by_the_seed() -> None:
    one = anchor_conversations(40, np.random.default_rng(1))
    assert len(set(one)) == 40
    assert one == anchor_conversations(40, np.random.default_rng(1))
    assert one != anchor_conversations(40, np.random.default_rng(2))
    assert len(anchor_conversations(999, np.random.default_rng(1))) == 160


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        (Reply("Fine.", "stop"), "Fine."),
        (Reply("  \n ", "stop"), None),
        (Reply("", "error", error="timed out"), None),
        (Reply("half a thought", "error", error="connection lost"), None),
        (Reply("Rice wants less water. Then it", "length"), "Rice wants less water."),
        (Reply("Rice wants less water. Let it rest.", "length"), "Rice wants less water."),
        (Reply('She said: "Wait a little!" Then', "length"), 'She said: "Wait a little!"'),
        (Reply("Put the lid on first.\n2. Then", "length"), "Put the lid on first."),
        (Reply("and and and and and and and and", "length"), None),
        (Reply("Here you are, some code.\n```\nx = 1. \ny", "length"), "Here you are, some code."),
        (Reply("植物は光で糖を作ります。それは光合成と呼ばれる大切な働きです。そし", "length"),
         "植物は光で糖を作ります。それは光合成と呼ばれる大切な働きです。"),
    ],
)  # fmt: skip
def test_a_reply_is_whole_or_not_rehearsed(reply: Reply, kept: str | None) -> None:
    conversation = (Message(role="user", content="Hello"),)
    examples = anchor_examples([conversation], [reply], "m", "c")
    assert [e.messages[-1].content for e in examples] == ([] if kept is None else [kept])
    assert all(e.provenance.source == "replay" for e in examples)
