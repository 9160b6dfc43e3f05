"""Makes training examples of what the experiments brought, and mixes in rehearsal.

- `own_attempt`: an attempt that the environment verified, in its shortest form that still verifies;
- `world_answer`: what the world answered where the model was wrong;
- `replay`: the model's own replies elsewhere, on skills that are not targets and on open-ended
  anchors (`agents.anchors`), so that training does not disturb other behaviour.

Every answer is verified again here, by the environment and not by the worker's word. Examples are
balanced over the target skills, and within a skill over the two sources.
Does not cover: near-duplicates, contamination and harm, which the supervisor screens.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np

from environments.protocol import Environment, Task
from environments.registry import environment
from environments.skills import CORRECT, ItemResult
from regent.config import CurateConfig
from regent.records import Example, Message, Provenance, TaskRef, Trajectory

LONGEST_CHARACTERS = 1_400
# Where the world may say what it would have answered; "failed" tells nothing of the model.
TEACHABLE = frozenset({"verified", "refuted", "unanswered", "capped"})

Key = Callable[[Example], str]


def assemble(
    trajectories: Sequence[Trajectory],
    replay: Sequence[Example],
    config: CurateConfig,
    seed: int,
    round: int,
    targets: Sequence[str],
    method: Literal["sft", "dpo"] = "sft",
) -> tuple[list[Example], list[str]]:
    """The examples of one batch, at most `config.examples`, in random order, and notes.

    `replay` is the pool of rehearsal examples; those on a target skill, or with a prompt that is
    trained on, are left out of it. `config.replay_share` of the batch is replay, or less where the
    pool is short (a note says so): the share is never kept by repeating examples. For "dpo" the
    batch is pairs alone, the world's answer over the model's, and no replay: nothing lost there.
    The same arguments give the same examples, in whatever order the trajectories came back.
    """
    rng = np.random.default_rng([seed, round, 2])
    notes: list[str] = []
    pairs, share = method == "dpo", 0.0 if method == "dpo" else config.replay_share
    made = _target_examples(sorted(trajectories, key=lambda t: t.id), set(targets), pairs, notes)
    learned = _unique(made)
    if len(made) > len(learned):
        notes.append(f"dropped {len(made) - len(learned)} examples with a prompt already there")
    used = {prompt_key(example) for example in learned}
    elsewhere = [
        example
        for example in _unique(sorted(replay, key=lambda example: example.id))
        if skill_of(example) not in targets and prompt_key(example) not in used
    ]

    wanted = round_half_up((1 - share) * config.examples)
    chosen = balanced(learned, wanted, (skill_of, _source), rng)
    rehearsal = min(round_half_up(len(chosen) * share / (1 - share)), config.examples - len(chosen))
    rehearsed = balanced(elsewhere, rehearsal, (_is_anchor, skill_of), rng)
    if len(rehearsed) < rehearsal:
        notes.append(f"replay is short: {len(rehearsed)} examples of {rehearsal}")
    absent = set(targets) - {skill_of(example) for example in chosen}
    notes.extend(f"nothing was learned of {target}" for target in sorted(absent))
    batch = [*chosen, *rehearsed]
    return [batch[int(i)] for i in rng.permutation(len(batch))], notes


def profile_examples(
    results: Iterable[ItemResult], model: str, code: str, targets: Sequence[str]
) -> list[Example]:
    """Verified own answers on skills that are not targets, as spoken, for replay."""
    examples = []
    for result in results:
        ref = result.ref
        if not result.correct or f"{ref.environment}/{ref.skill}" in targets:
            continue
        task = environment(ref.environment).task(ref)
        if task.single_turn:
            answer = Message(role="assistant", content=result.reply.strip())
            examples.append(
                Example(
                    messages=(*task.messages, answer),
                    provenance=Provenance(task=ref, model=model, code=code, source="replay"),
                )
            )
    return examples


def shortest_form(world: Environment, task: Task, text: str, actions: Sequence[str] = ()) -> str:
    """The shortest of `text` and its parts that verifies; empty where not even the whole does.

    Parts are its lines and, where the task has one turn, what follows a last ':' or '='. With an
    instrument a part must also be what the world takes for an answer after `actions`.
    """
    whole = text.strip()
    parts = {whole, *(line.strip() for line in whole.splitlines())}
    if task.single_turn:
        parts |= {part.rpartition(mark)[2].strip() for part in tuple(parts) for mark in ":="}
    for part in sorted(parts, key=lambda part: (len(part), part)):
        if not part or world.verify(task.ref, part) < CORRECT:
            continue
        if task.single_turn or _ends_episode(world, task.ref, actions, part):
            return part
    return ""


def balanced(
    examples: Sequence[Example], n: int, keys: Sequence[Key], rng: np.random.Generator
) -> list[Example]:
    """At most `n` examples, as even as can be over the groups of the first key, then the next."""
    return _interleaved(examples, keys, rng)[: max(0, n)]


def prompt_key(example: Example) -> str:
    """What makes two examples exact duplicates: all turns but the last, spaces and case aside."""
    return "\n".join(
        f"{message.role}: {' '.join(message.content.lower().split())}"
        for message in example.messages[:-1]
    )


def skill_of(example: Example) -> str:
    """`environment/skill` of the task that the example came from; empty for an anchor."""
    task = example.provenance.task
    return f"{task.environment}/{task.skill}" if task else ""


def round_half_up(value: float) -> int:
    return int(value + 0.5)


def _target_examples(
    trajectories: Sequence[Trajectory], targets: set[str], pairs: bool, notes: list[str]
) -> list[Example]:
    """An example for every trajectory that gives one; own attempts first, the shortest first."""
    made: list[Example] = []
    set_aside: Counter[str] = Counter()
    for trajectory in trajectories:
        example = (
            _example(trajectory, pairs)
            if f"{trajectory.task.environment}/{trajectory.task.skill}" in targets
            else "on no target skill"
        )
        if isinstance(example, str):
            set_aside[example] += 1
        elif sum(len(message.content) for message in example.messages) > LONGEST_CHARACTERS:
            set_aside[f"longer than {LONGEST_CHARACTERS} characters"] += 1
        else:
            made.append(example)
    notes.extend(f"{n} trajectories set aside: {why}" for why, n in set_aside.items())
    return sorted(made, key=lambda example: (_source(example), len(example.messages[-1].content)))


def _example(trajectory: Trajectory, pairs: bool) -> Example | str:
    """What one trajectory teaches, or why it teaches nothing."""
    world = environment(trajectory.task.environment)
    task = world.task(trajectory.task)
    before, actions = _replayed(world, task, trajectory)
    said, rejected = _answer(trajectory), ""
    source: Literal["own_attempt", "world_answer"]
    if trajectory.outcome == "verified" and world.verify(task.ref, said) < CORRECT:
        return "called verified, but the answer does not verify"
    if trajectory.outcome == "verified" and (own := shortest_form(world, task, said, actions)):
        answer, source = own, "own_attempt"
    elif trajectory.outcome in TEACHABLE and trajectory.steps:
        answer, source = world.solution(task.ref), "world_answer"
        rejected = said if pairs and trajectory.outcome == "refuted" else ""
    else:
        return f"no answer to learn from ({trajectory.outcome})"
    if not task.single_turn and not actions:
        return "nothing was measured from which an answer could follow"
    if pairs and not rejected.strip():
        return "no answer that lost, which preference training needs"
    return Example(
        parents=(trajectory.id,),
        messages=(*before, Message(role="assistant", content=answer)),
        rejected=rejected,
        provenance=Provenance(
            trajectory=trajectory.id,
            plan=trajectory.plan,
            task=trajectory.task,
            agent=trajectory.agent,
            model=trajectory.model,
            code=trajectory.code,
            source=source,
        ),
    )


def _replayed(
    world: Environment, task: Task, trajectory: Trajectory
) -> tuple[tuple[Message, ...], list[str]]:
    """The turns before the answer, and the actions among them.

    The worker's valid actions are taken again in a fresh episode, so that every reading is the
    world's own and what was no action teaches nothing.
    """
    if task.single_turn:
        return task.messages, []
    tried = [s.response for s in trajectory.steps if s.kind == "observe" and s.response.strip()]
    probe, episode = world.reset(task.ref), world.reset(task.ref)
    turns, actions = list(task.messages), []
    for action in tried:
        seen = probe.step(action)
        if seen.done:
            break
        if seen.valid:
            text = episode.step(action).text
            turns.append(Message(role="assistant", content=action.strip()))
            turns.append(Message(role="user", content=text))
            actions.append(action)
    return tuple(turns), actions


def _ends_episode(world: Environment, ref: TaskRef, actions: Sequence[str], answer: str) -> bool:
    episode = world.reset(ref)
    for action in actions:
        episode.step(action)
    seen = episode.step(answer)
    return seen.done and seen.valid


def _answer(trajectory: Trajectory) -> str:
    """The last answer that the worker handed in; empty where it gave none."""
    answers = [step.response for step in trajectory.steps if step.kind == "answer"]
    return answers[-1] if answers else ""


def _unique(examples: Iterable[Example]) -> list[Example]:
    """The first example of each prompt."""
    seen: dict[str, Example] = {}
    for example in examples:
        seen.setdefault(prompt_key(example), example)
    return list(seen.values())


def _interleaved(
    examples: Sequence[Example], keys: Sequence[Key], rng: np.random.Generator
) -> list[Example]:
    if not keys:
        return [examples[int(i)] for i in rng.permutation(len(examples))]
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[keys[0](example)].append(example)
    queues = [_interleaved(groups[name], keys[1:], rng) for name in sorted(groups)]
    longest = max((len(queue) for queue in queues), default=0)
    return [queue[i] for i in range(longest) for queue in queues if i < len(queue)]


def _source(example: Example) -> str:
    return example.provenance.source


def _is_anchor(example: Example) -> str:
    return "skill" if example.provenance.task else "anchor"
