"""The skill tree, its items, and how a speaker is examined on them.

A node is an environment's skill at one difficulty level. The profiler measures nodes to find
gaps, and the supervisor's capability instrument measures the same nodes to see harm; both draw
their items here, from splits that cannot share a task: a task's split is a residue class of the
SHA-256 of its normalised prompt, so equal prompts fall into the same split under every seed.

Does not cover: intervals and verdicts about the scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from environments.protocol import Environment, Session, Task
from environments.registry import environment, nearest
from regent.config import EnvironmentChoice
from regent.errors import CannotRun
from regent.models.speaker import Reply, Sampling, Speaker
from regent.records import Message, TaskRef

Split = Literal["profile", "confirm", "train", "held_out", "gate", "tuning"]
SPLITS: tuple[Split, ...] = get_args(Split)
# Training eats the most items, so it has three of the eight classes.
_CLASSES: tuple[Split, ...] = (*SPLITS, "train", "train")

CORRECT = 0.99


@dataclass(frozen=True, order=True)
class Node:
    """One leaf of the skill tree."""

    environment: str
    skill: str
    level: int

    @property
    def name(self) -> str:
        return f"{self.environment}/{self.skill}/{self.level}"

    @property
    def skill_name(self) -> str:
        """What a batch's targets are called."""
        return f"{self.environment}/{self.skill}"


@dataclass(frozen=True)
class ItemResult:
    """One item's outcome. `score` is None where the speaker failed: that is no wrong answer.

    `reply` is the last thing said (a multi-turn item's answer); `tokens` counts prompts and
    completions of all turns.
    """

    ref: TaskRef
    reply: str
    score: float | None
    tokens: int

    @property
    def correct(self) -> bool:
        return self.score is not None and self.score >= CORRECT


def skill_tree(choices: Sequence[EnvironmentChoice]) -> list[Node]:
    """Every node that `choices` names, without repeats, in the order of the choices.

    Raises CannotRun on an unknown environment or skill, naming the nearest known one.
    """
    nodes: dict[Node, None] = {}
    for choice in choices:
        levels = environment(choice.name).skills
        for skill in choice.skills or tuple(levels):
            if skill not in levels:
                raise CannotRun(
                    f"environment '{choice.name}' has no skill '{skill}'{nearest(skill, levels)}"
                )
            wanted = choice.levels or range(levels[skill])
            beyond = [level for level in wanted if not 0 <= level < levels[skill]]
            if beyond:
                raise CannotRun(
                    f"{choice.name}/{skill} has levels 0 to {levels[skill] - 1}, not {beyond[0]}"
                )
            nodes |= {Node(choice.name, skill, level): None for level in wanted}
    return list(nodes)


def node_named(name: str) -> Node:
    """The node whose `name` this is. Raises CannotRun where there is none."""
    parts = name.split("/")
    if len(parts) != 3 or not parts[2].isdecimal():
        raise CannotRun(f"'{name}' names no node; write ENVIRONMENT/SKILL/LEVEL")
    node = Node(parts[0], parts[1], int(parts[2]))
    if node not in skill_tree([EnvironmentChoice(name=parts[0], skills=(parts[1],))]):
        raise CannotRun(
            f"{node.skill_name} has no level {node.level}; `regent env list` shows them"
        )
    return node


def task_of(ref: TaskRef) -> Task:
    """The task that `ref` names. Raises CannotRun where there is none."""
    return environment(ref.environment).task(ref)


def items(node: Node, n: int, seed: int, split: Split) -> list[TaskRef]:
    """`n` distinct tasks of `node` from `split`; equal arguments give equal items.

    Fewer where the family has not enough distinct prompts. Raises CannotRun on an unknown split.
    """
    if split not in SPLITS:
        raise CannotRun(f"unknown split '{split}'; choose one of {', '.join(SPLITS)}")
    world = environment(node.environment)
    chosen: dict[str, TaskRef] = {}
    # Eight candidates bring one item of a single-class split; small families repeat themselves.
    for index in range(512 + 40 * n):
        if len(chosen) >= n:
            break
        ref = TaskRef(
            environment=node.environment,
            skill=node.skill,
            level=node.level,
            seed=int.from_bytes(_sha256(f"{node.name}/{seed}/{index}")[:4], "big") >> 1,
        )
        prompt = normalise_prompt(world.task(ref).messages)
        if split_of_prompt(prompt) == split:
            chosen.setdefault(prompt, ref)
    return list(chosen.values())


def split_of(ref: TaskRef) -> Split:
    """The split that the task belongs to, whoever proposed it."""
    return split_of_prompt(normalise_prompt(task_of(ref).messages))


def split_of_prompt(normalised: str) -> Split:
    """The split of a prompt as `normalise_prompt` returns it."""
    return _CLASSES[_sha256(normalised)[0] % len(_CLASSES)]


def normalise_prompt(messages: Sequence[Message]) -> str:
    """All turns before the first reply as one string, case folded and white space collapsed."""
    turns: list[str] = []
    for message in messages:
        if message.role == "assistant":
            break
        turns.append(message.content)
    return " ".join(" ".join(turns).casefold().split())


def examine(
    speaker: Speaker,
    refs: Sequence[TaskRef],
    *,
    temperature: float = 0.0,
    max_tokens: int | None = None,
) -> list[ItemResult]:
    """One result for each of `refs`, in order.

    All unfinished items speak together in every round (single-turn ones only in the first), one
    `sample` call for each reply length, so that the engine batches them. `max_tokens` overrides
    the tasks' own answer lengths.
    """
    exams = [_Exam.begin(ref) for ref in refs]
    while active := [exam for exam in exams if not exam.over]:
        groups: dict[int, list[_Exam]] = {}
        for exam in active:
            groups.setdefault(max_tokens or exam.task.answer_tokens, []).append(exam)
        for length, group in groups.items():
            how = Sampling(max_tokens=length, temperature=temperature)
            replies = speaker.sample([exam.conversation for exam in group], how)
            for exam, reply in zip(group, replies, strict=True):
                exam.hear(reply)
    return [exam.result() for exam in exams]


@dataclass
class _Exam:
    """An item being answered."""

    world: Environment
    task: Task
    session: Session
    conversation: list[Message]
    over: bool = False
    failed: bool = False
    steps: int = 0
    tokens: int = 0
    last: str = ""

    @classmethod
    def begin(cls, ref: TaskRef) -> _Exam:
        world = environment(ref.environment)
        task = world.task(ref)
        return cls(world, task, world.reset(ref), list(task.messages))

    def hear(self, reply: Reply) -> None:
        self.steps += 1
        self.tokens += reply.tokens
        self.last = reply.text
        if not reply.ok:
            self.failed = self.over = True
            return
        if self.task.single_turn:
            self.over = True
            return
        seen = self.session.step(reply.text)
        self.over = seen.done or self.steps >= self.task.max_steps
        self.conversation += [
            Message(role="assistant", content=reply.text),
            Message(role="user", content=seen.text),
        ]

    def result(self) -> ItemResult:
        score = None if self.failed else self.world.verify(self.task.ref, self.last)
        return ItemResult(self.task.ref, self.last, score, self.tokens)


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()
