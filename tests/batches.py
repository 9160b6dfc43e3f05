"""Sound batches, as a loop of someone's own would bring them: tasks rightly answered, and prose."""

from __future__ import annotations

import numpy as np

from environments.registry import environment
from environments.skills import items, node_named
from regent.records import Example, Message, Provenance, TaskRef

NODES = ("chain_sum", "products", "gcd", "spell_backward", "fraction_simplification", "lcm")


def row(prompt: str, answer: str, task: TaskRef | None = None) -> Example:
    """One exchange."""
    messages = (Message(role="user", content=prompt), Message(role="assistant", content=answer))
    return Example(messages=messages, provenance=Provenance(task=task, agent="worker-1"))


def task_row(ref: TaskRef, answer: str | None = None) -> Example:
    """The task as its world asks it, with the right answer unless another is given."""
    world = environment(ref.environment)
    right = world.solution(ref) if answer is None else answer
    return row(world.task(ref).messages[-1].content, right, ref)


def task_rows(each: int, seed: int = 1) -> list[Example]:
    """`each` training tasks of every node, with right answers."""
    nodes = [node_named(f"reasoning/{name}/0") for name in NODES]
    return [task_row(ref) for node in nodes for ref in items(node, each, seed, "train")]


def prose(rng: np.random.Generator, words: int) -> str:
    """Words that no other text strings together."""
    letters = rng.choice(list("abdefgiklmnoprstu"), size=(words, 6))
    return " ".join(map("".join, letters)).capitalize() + "."


def open_rows(n: int, seed: int = 1) -> list[Example]:
    """Questions without a task, each with an answer of its own."""
    rng = np.random.default_rng(seed)
    return [row(f"What is {prose(rng, 4)}", prose(rng, 30)) for _ in range(n)]


def sound_batch(tasks: int = 4, others: int = 16) -> list[Example]:
    """`tasks` rows of each of six skills, then `others` without a task."""
    return [*task_rows(tasks), *open_rows(others)]
