"""Environments are found by name, repeat exactly, and cannot be talked into a score.

- The same reference gives the same task; splits share no prompt; solutions score 1.
- No wrong, empty, endless or malformed reply is correct, and every score is finite.
- An environment of someone else's package is found; a broken one is reported and harms no other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from environments.cli import app
from environments.reasoning import FAMILIES, PARTIAL, Reasoning
from environments.registry import discover, environment, environments
from environments.skills import (
    CORRECT,
    SPLITS,
    Node,
    examine,
    items,
    node_named,
    normalise_prompt,
    skill_tree,
    split_of,
)
from regent.config import EnvironmentChoice
from regent.errors import CannotRun
from regent.models.speaker import Conversation, Reply, Sampling
from regent.records import Message, TaskRef

QUIZ = Reasoning()
LEAVES = [(skill, level) for skill, levels in FAMILIES.items() for level in range(len(levels))]


def ref(skill: str, level: int, seed: int) -> TaskRef:
    return TaskRef(environment="reasoning", skill=skill, level=level, seed=seed)


@pytest.mark.parametrize(("skill", "level"), LEAVES)
def test_solutions_score_one_and_questions_and_answers_are_short(skill: str, level: int) -> None:
    for seed in range(0, 40_000_000, 1_000_003):
        task = ref(skill, level, seed)
        solution = QUIZ.solution(task)
        assert QUIZ.verify(task, solution) == 1.0
        assert QUIZ.verify(task, f"Let me see.\nAnswer: {solution}\n") == 1.0
        assert len(solution) <= 80
        assert len(QUIZ.task(task).messages[0].content) <= 630


@pytest.mark.parametrize(("skill", "level"), LEAVES)
def test_another_tasks_answer_is_not_correct(skill: str, level: int) -> None:
    for seed in range(25):
        task, answer = ref(skill, level, seed), QUIZ.solution(ref(skill, level, seed + 1000))
        score = QUIZ.verify(task, answer)
        if score >= CORRECT:
            # Right by the scorer: then the answers must be the same but for how they are written.
            ours = QUIZ.solution(task)
            assert sorted(ours.lower()) == sorted(answer.lower()) or float(ours) == float(answer)


def test_partial_credit_is_never_correct() -> None:
    """Cases in which reasoning-gym's own partial credit comes within 0.01 of 1."""
    for seed in range(30):
        task = ref("spell_backward", 2, seed)
        assert QUIZ.verify(task, QUIZ.solution(task) + "xyz") <= PARTIAL < CORRECT
        task = ref("time_intervals", 1, seed)
        hours, minutes = QUIZ.solution(task).split(":")
        late = int(hours) * 60 + int(minutes) + 1
        assert 0.9 < QUIZ.verify(task, f"{late // 60:02d}:{late % 60:02d}") <= PARTIAL


@pytest.mark.parametrize(("skill", "level"), LEAVES)
@pytest.mark.parametrize(
    "answer",
    ["", "  \n\n", "nan", "answer: nan", "-inf", "nani", "nan+nanj", "inf + nani", "1e999999999",
     "9" * 3_000, "7 " * 5_000, "None", "[]", "answer:", "\x00", "import os"],
)  # fmt: skip
def test_malformed_and_endless_replies_are_not_correct(skill: str, level: int, answer: str) -> None:
    assert 0 <= QUIZ.verify(ref(skill, level, 3), answer) <= PARTIAL


@given(st.sampled_from(LEAVES), st.integers(0, 2**31), st.text(max_size=200))
def test_any_text_gets_a_finite_score(leaf: tuple[str, int], seed: int, text: str) -> None:
    task = ref(*leaf, seed)
    assert 0 <= QUIZ.verify(task, text) <= 1
    assert 0 <= QUIZ.verify(task, QUIZ.solution(task) + text) <= 1


@pytest.mark.parametrize(
    "reply", ["{}", "{}.", " {} \n", "The sum.\nAnswer: {}", "**{}**", "\\boxed{{{}}}", "`{}`"]
)
def test_an_answer_is_found_in_the_ways_models_write_it(reply: str) -> None:
    task = ref("chain_sum", 0, 1)
    assert QUIZ.verify(task, reply.format(QUIZ.solution(task))) == 1.0


def test_a_list_of_guesses_is_not_correct() -> None:
    task = ref("chain_sum", 0, 1)
    guesses = " ".join(str(i) for i in range(-30, 31))
    assert QUIZ.verify(task, guesses) < CORRECT
    assert QUIZ.verify(task, "\n".join([QUIZ.solution(task), "1000"])) < CORRECT


def test_the_same_reference_gives_the_same_task_in_any_order() -> None:
    refs = [ref(skill, level, 77) for skill, level in LEAVES]
    first = [QUIZ.task(r) for r in refs]
    from environments import reasoning

    reasoning._entry.cache_clear()
    reasoning._dataset.cache_clear()
    assert [QUIZ.task(r) for r in reversed(refs)] == list(reversed(first))


def test_an_unknown_skill_or_level_is_refused() -> None:
    with pytest.raises(CannotRun, match="no skill 'chain_sums'"):
        QUIZ.task(ref("chain_sums", 0, 0))
    with pytest.raises(CannotRun, match="levels 0 to 2, not 3"):
        QUIZ.verify(ref("chain_sum", 3, 0), "1")


NODES = [
    Node("reasoning", "chain_sum", 0),
    Node("reasoning", "products", 0),
    Node("mechanism", "spring", 0),
    Node("mechanism", "lens", 1),
]


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.name)
def test_splits_share_no_prompt_under_any_seed_and_items_repeat(node: Node) -> None:
    prompts: dict[str, set[str]] = {}
    for split in SPLITS:
        for seed in (0, 1):
            drawn = items(node, 20, seed, split)
            assert drawn == items(node, 20, seed, split)
            texts = [
                normalise_prompt(environment(node.environment).task(r).messages) for r in drawn
            ]
            assert len(set(texts)) == len(texts)
            assert {split_of(r) for r in drawn} == {split}
            prompts.setdefault(split, set()).update(texts)
        assert items(node, 20, 0, split) != items(node, 20, 1, split)
    everything = [text for texts in prompts.values() for text in texts]
    assert len(everything) == len(set(everything))


@pytest.mark.parametrize(("skill", "level"), LEAVES)
def test_every_leaf_has_enough_distinct_items_for_a_look(skill: str, level: int) -> None:
    assert len(items(Node("reasoning", skill, level), 24, 5, "gate")) == 24


def test_a_small_family_gives_fewer_items_rather_than_repeats() -> None:
    drawn = items(Node("reasoning", "products", 0), 400, 0, "gate")
    assert 10 < len(drawn) < 400


def test_a_longer_draw_begins_with_the_shorter_one() -> None:
    assert items(NODES[0], 30, 4, "train")[:10] == items(NODES[0], 10, 4, "train")


def test_the_tree_holds_what_was_chosen_and_refuses_what_is_unknown() -> None:
    choice = EnvironmentChoice(name="reasoning", skills=("gcd", "lcm"))
    tree = skill_tree([choice, choice])
    expected = [f"reasoning/{skill}/{level}" for skill in ("gcd", "lcm") for level in range(3)]
    assert [node.name for node in tree] == expected
    assert tree[0].skill_name == "reasoning/gcd"
    everything = skill_tree([EnvironmentChoice(name=name) for name in ("reasoning", "mechanism")])
    assert len(everything) == len(LEAVES) + 24
    with pytest.raises(CannotRun, match="did you mean 'reasoning'"):
        skill_tree([EnvironmentChoice(name="reasonning")])
    with pytest.raises(CannotRun, match="did you mean 'chain_sum'"):
        skill_tree([EnvironmentChoice(name="reasoning", skills=("chain_sums",))])
    assert node_named("reasoning/gcd/2") == Node("reasoning", "gcd", 2)
    for name, complaint in (("gcd/2", "write ENV"), ("reasoning/gcd/3", "no level 3")):
        with pytest.raises(CannotRun, match=complaint):
            node_named(name)
    with pytest.raises(CannotRun, match="unknown split 'test'"):
        items(NODES[0], 1, 0, "test")  # type: ignore[arg-type]


class Scripted:
    """Answers by rule, counts its calls, and fails where told to."""

    name = "scripted"
    can = frozenset({"sample"})

    def __init__(self, answers: dict[str, str], broken: str = "") -> None:
        self.answers, self.broken, self.batches = answers, broken, list[int]()

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        self.batches.append(len(conversations))
        return [self.reply(list(conversation)) for conversation in conversations]

    def reply(self, turns: list[Message]) -> Reply:
        prompt = normalise_prompt(turns)
        if prompt == self.broken:
            return Reply("", finish="error", error="the server went away")
        if "you may take" in prompt and "Now answer" not in turns[-1].content:
            return Reply("measure mass=0.5", prompt_tokens=5, completion_tokens=3)
        return Reply(self.answers[prompt], prompt_tokens=5, completion_tokens=2)


def test_an_exam_batches_rounds_and_keeps_failures_apart_from_wrong_answers() -> None:
    single = items(NODES[0], 6, 0, "gate")
    episodes = items(Node("mechanism", "spring", 1), 3, 0, "gate")
    refs = [*single[:3], *episodes, *single[3:]]
    prompts = [normalise_prompt(environment(r.environment).task(r).messages) for r in refs]
    answers = {
        prompt: environment(r.environment).solution(r)
        for prompt, r in zip(prompts, refs, strict=True)
    }
    answers[prompts[1]] = "no idea"
    speaker = Scripted(answers, broken=prompts[2])
    results = examine(speaker, refs)
    assert [result.ref for result in results] == refs
    assert [r.score for r in results] == [1.0, 0.0, None, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert [result.correct for result in results] == [True, False, False, *[True] * 6]
    assert speaker.batches == [9, 3, 3, 3, 3]
    assert results[3].tokens == 4 * 8 + 7


PACKAGE = """
from environments.mechanism import Mechanism
class {name}(Mechanism):
    name = "{entry}"
"""


def install(folder: Path, package: str, entry: str, source: str, attribute: str) -> None:
    """What pip leaves behind: a module and its dist-info."""
    (folder / f"{package}.py").write_text(source)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[regent.environments]\n{entry} = {package}:{attribute}\n"
    )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    return tmp_path


def test_the_built_in_two_are_known_without_being_installed() -> None:
    assert {"reasoning", "mechanism"} <= set(environments())
    assert discover().sources["mechanism"] == "built in"


def test_someone_elses_environment_is_found_by_its_entry_point(site: Path) -> None:
    source = PACKAGE.format(name="Annex", entry="annex")
    install(site, "annex_package", "annex", source, "Annex")
    assert environment("annex").name == "annex"
    assert discover().sources["annex"] == "annex_package"
    assert items(Node("annex", "spring", 0), 2, 0, "train")


@pytest.mark.parametrize(
    ("package", "source", "complaint"),
    [
        ("raises_package", "raise RuntimeError('no\\nlicence')", "RuntimeError: no licence"),
        ("exits_package", "raise SystemExit(3)", "SystemExit: 3"),
        ("missing_package", "", "AttributeError"),
        ("misnamed_package", PACKAGE.format(name="World", entry="other"), "its name is 'other'"),
        ("bare_package", "class World:\n  name = 'spoiled'\n", "`skills`"),
        (
            "lacking_package",
            "class World:\n  name = 'spoiled'\n  skills = {'a': 1}\n  def task(self, ref): ...\n",
            "it lacks reset, verify, solution",
        ),
    ],
)
def test_a_broken_one_is_reported_and_harms_no_other(
    site: Path, package: str, source: str, complaint: str
) -> None:
    install(site, package, "spoiled", source, "World")
    found = discover()
    assert complaint in found.broken[f"spoiled ({package})"]
    assert {"reasoning", "mechanism"} <= set(found.environments)
    with pytest.raises(CannotRun, match="is broken"):
        environment("spoiled")


def test_a_built_in_name_cannot_be_taken_over(site: Path) -> None:
    source = PACKAGE.format(name="Usurper", entry="mechanism")
    install(site, "usurper_package", "mechanism", source, "Usurper")
    assert "taken" in discover().broken["mechanism (usurper_package)"]
    assert type(environment("mechanism")).__name__ == "Mechanism"


def test_env_list_prints_one_json_object(site: Path) -> None:
    install(site, "failing_package", "failing", "1/0", "World")
    result = CliRunner().invoke(app, ["list", "--json"])
    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    assert {e["name"] for e in shown["environments"]} >= {"reasoning", "mechanism"}
    assert shown["environments"][0]["skills"]["chain_sum"] == 3
    assert "ZeroDivisionError" in shown["broken"]["failing (failing_package)"]


def test_env_list_shows_a_table_and_puts_the_broken_on_stderr(site: Path) -> None:
    install(site, "fallen_package", "fallen", "1/0", "World")
    result = CliRunner().invoke(app, ["list"])
    assert result.exit_code == 0
    assert "pendulum" in result.stdout
    assert "fallen" not in result.stdout
    assert "broken: fallen (fallen_package)" in result.stderr


_FINGERPRINT = """
import hashlib
from environments.registry import environment
from regent.records import TaskRef
seen = hashlib.sha256()
for name in ("reasoning", "mechanism"):
    world = environment(name)
    for skill, levels in world.skills.items():
        for level in range(levels):
            ref = TaskRef(environment=name, skill=skill, level=level, seed=7919)
            seen.update((world.task(ref).messages[0].content + world.solution(ref)).encode())
print(seen.hexdigest())
"""


def test_a_reference_gives_the_same_task_in_every_process() -> None:
    prints = {
        subprocess.run(
            [sys.executable, "-c", _FINGERPRINT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(prints) == 1
