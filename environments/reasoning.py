"""Short questions with short answers, from reasoning-gym's generators, scored by its own scorers.

Task number `seed` of a skill and level is item number `seed` of that family's dataset with seed 0.
Chosen are families whose question stays under 600 characters and whose answer stays under 24
tokens of a small model's vocabulary. Left out are families whose scorer evaluates the answer as
an expression (a worker's text must never run in the verifier), pays in full for a wrong answer
(`word_sorting` ignores surplus words, `gsm_symbolic` takes the first of many numbers), or whose
generator depends on Python's hash seed (`ransom_note`, `isomorphic_strings`): the same reference
must give the same task in every process.

Partial credit stays as reasoning-gym gives it, below `PARTIAL`: only what its scorer calls
exactly right scores 1. Its own partial credit can come within 0.01 of 1 for a wrong answer (a
word spelt backward with letters added; an interval that is a day off).

Does not cover: questions of more than one turn, answers of more than one line.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any

import reasoning_gym

from environments.protocol import Observation, Session, Task
from regent.errors import CannotRun
from regent.records import Message, TaskRef

PARTIAL = 0.98
ANSWER_CHARACTERS = 200
REPLY_CHARACTERS = 4_000
INSTRUCTION = "Give only the answer."

_Config = dict[str, Any]


def _terms(low: int, high: int, digits_low: int, digits_high: int) -> _Config:
    return {
        "min_terms": low,
        "max_terms": high,
        "min_digits": digits_low,
        "max_digits": digits_high,
    }


def _numbers(count_low: int, count_high: int, bound: int, decimals: int = 0) -> _Config:
    return {
        "min_numbers": count_low,
        "max_numbers": count_high,
        "min_decimals": decimals,
        "max_decimals": decimals,
        "min_value": -bound,
        "max_value": bound,
    }


def _span(name: str, *bounds: tuple[float, float], **fixed: Any) -> tuple[_Config, ...]:
    """One level for each pair of bounds on `min_NAME` and `max_NAME`."""
    return tuple({f"min_{name}": low, f"max_{name}": high, **fixed} for low, high in bounds)


_DAYS = ["weekday_of_date_from_first_date", "weekday_offset", "weekday_of_date"]

# Settings of each family's generator, easiest level first.
FAMILIES: dict[str, tuple[_Config, ...]] = {
    "aiw": tuple({"max_entities": most} for most in (4, 8, 15)),
    "base_conversion": (
        {"min_base": 2, "max_base": 10, "min_value": 1, "max_value": 99},
        {"min_base": 2, "max_base": 16, "min_value": 1, "max_value": 400},
        {"min_base": 2, "max_base": 16, "min_value": 100, "max_value": 4000},
    ),
    "basic_arithmetic": (
        {**_terms(2, 3, 1, 1), "allow_parentheses": False, "allow_negation": False},
        {**_terms(2, 4, 1, 2), "allow_parentheses": False, "allow_negation": True},
        {**_terms(3, 5, 1, 3), "allow_parentheses": True, "allow_negation": True},
    ),
    "caesar_cipher": (
        {"min_words": 2, "max_words": 3, "min_rotation": 1, "max_rotation": 5},
        {"min_words": 2, "max_words": 4, "min_rotation": 1, "max_rotation": 13},
        {"min_words": 3, "max_words": 4, "min_rotation": 1, "max_rotation": 25},
    ),
    "calendar_arithmetic": (
        {"tasks": ["weekday_offset"], "offset_upper_bound": 30},
        {"tasks": _DAYS, "offset_upper_bound": 100},
        {"tasks": ["count_days", "count_business_days", "recurring_event_day"]},
    ),
    "chain_sum": (_terms(2, 3, 1, 1), _terms(2, 4, 1, 2), _terms(3, 6, 2, 3)),
    "color_cube_rotation": _span("rotations", (1, 1), (2, 2), (3, 4)),
    "complex_arithmetic": (
        {"operations": ["+", "-"], "operations_weights": [0.5, 0.5]},
        {"operations": ["*"], "operations_weights": [1.0]},
        {"operations": ["*", "/"], "operations_weights": [0.5, 0.5]},
    ),
    "count_bits": _span("n", (1, 4_000), (4_000, 200_000), (200_000, 2**31 - 1)),
    "count_primes": _span("n", (1, 60), (1, 300), (1, 3_000)),
    "decimal_chain_sum": (
        {**_terms(2, 3, 1, 1), "min_decimal_places": 1, "max_decimal_places": 1},
        {**_terms(2, 3, 1, 2), "min_decimal_places": 1, "max_decimal_places": 2},
        {**_terms(3, 5, 2, 3), "min_decimal_places": 1, "max_decimal_places": 3},
    ),
    "family_relationships": _span("family_size", (3, 4), (5, 6), (7, 9)),
    "fraction_simplification": tuple(
        {"min_value": 1, "max_value": value, "max_factor": factor, "styles": ("plain",)}
        for value, factor in ((20, 10), (100, 20), (1000, 100))
    ),
    "gcd": _span("value", (2, 60), (10, 300), (100, 2_000)),
    "lcm": _span("value", (2, 30), (5, 60), (20, 200)),
    "leg_counting": (
        {"min_animals": 1, "max_animals": 2, "max_instances": 5},
        {"min_animals": 2, "max_animals": 4, "max_instances": 9},
        {"min_animals": 4, "max_animals": 8, "max_instances": 15},
    ),
    "letter_counting": _span("words", (3, 6), (7, 11), (12, 18)),
    "number_filtering": (_numbers(2, 3, 20), _numbers(3, 4, 50), _numbers(4, 4, 99, 1)),
    "number_format": tuple(
        {"max_num_candidates": most, "min_n": low, "max_n": high, "max_delta": delta}
        for most, low, high, delta in (
            (2, 100, 10_000, 900.0),
            (3, 1_000, 1_000_000, 100.0),
            (5, 1_000, 10**9, 10.0),
        )
    ),
    "number_sequence": tuple(
        {
            "min_terms": low,
            "max_terms": 8,
            "min_value": -bound,
            "max_value": bound,
            "max_complexity": complexity,
        }
        for low, bound, complexity in ((5, 30, 1), (5, 60, 2), (4, 100, 3))
    ),
    "number_sorting": (_numbers(2, 3, 20), _numbers(3, 3, 99), _numbers(3, 3, 99, 1)),
    "palindrome_generation": _span("length", (3, 5), (5, 7), (8, 11)),
    "products": (_terms(2, 3, 1, 1), _terms(2, 2, 1, 2), _terms(2, 2, 2, 3)),
    "sentence_reordering": _span("words_in_sentence", (3, 4), (4, 6), (6, 9)),
    "simple_equations": (
        {"min_terms": 2, "max_terms": 2, "max_value": 12},
        {"min_terms": 2, "max_terms": 3, "max_value": 30},
        {"min_terms": 3, "max_terms": 4, "max_value": 100},
    ),
    "simple_geometry": _span("sides", (3, 3), (4, 4), (5, 7)),
    "spell_backward": _span("word_len", (3, 4), (5, 6), (7, 10)),
    "syllogism": (
        {"allow_some": False, "allow_some_not": False, "inversion_probability": 0.0},
        {"allow_some_not": False, "inversion_probability": 0.3},
        {"inversion_probability": 0.5},
    ),
    "time_intervals": (
        {"task_types": ["time"], "max_time_difference_seconds": 3_600},
        {"task_types": ["time"], "max_time_difference_seconds": 43_200},
        {"task_types": ["time_seconds", "date"], "max_date_difference_days": 60},
    ),
    "word_sequence_reversal": _span("words", (2, 3), (3, 4), (5, 7)),
}

_NOT_FINITE = re.compile(r"[+-]?(nan|inf(inity)?)[ij]?", re.IGNORECASE)
# A scorer that turns 1e999999999 into a fraction would never come back.
_HUGE_EXPONENT = re.compile(r"\d[eE][+-]?\d{4,}")
_LABEL = re.compile(r"\banswer\s*(?:is\b\s*:?|:|=)", re.IGNORECASE)
# "The sum is 12", "2 + 10 = 12": what is concluded follows the last of these.
_CONCLUSION = re.compile(r"=|\b(?:is|are|equals|was)\b")
_BOXED = re.compile(r"\\boxed\{(.*)\}")


class Reasoning:
    """reasoning-gym's families as an environment of single-turn questions."""

    name = "reasoning"

    def __init__(self) -> None:
        self.skills: dict[str, int] = {name: len(levels) for name, levels in FAMILIES.items()}

    def task(self, ref: TaskRef) -> Task:
        """One user message: the question and a line asking for the bare answer."""
        question = str(self._entry(ref)["question"]).strip()
        return Task(ref, (Message(role="user", content=f"{question}\n{INSTRUCTION}"),))

    def reset(self, ref: TaskRef) -> Session:
        """A session whose first step is its last."""
        self._entry(ref)
        return _OneAnswer()

    def verify(self, ref: TaskRef, answer: str) -> float:
        """reasoning-gym's score of the answer found in the reply: 1 where right, else ≤ PARTIAL."""
        entry = self._entry(ref)
        dataset = _dataset(ref.skill, ref.level)
        return max((_score(dataset, entry, text) for text in readings_of(answer)), default=0.0)

    def solution(self, ref: TaskRef) -> str:
        return str(self._entry(ref)["answer"])

    def _entry(self, ref: TaskRef) -> dict[str, Any]:
        if ref.skill not in FAMILIES:
            raise CannotRun(f"reasoning has no skill '{ref.skill}'; `regent env list` shows them")
        levels = len(FAMILIES[ref.skill])
        if ref.level >= levels:
            raise CannotRun(
                f"reasoning/{ref.skill} has levels 0 to {levels - 1}, not {ref.level}; choose one"
            )
        return _entry(ref.skill, ref.level, ref.seed)


class _OneAnswer:
    def step(self, action: str) -> Observation:
        return Observation(text="", done=True, valid=bool(action.strip()))


def readings_of(reply: str) -> tuple[str, ...]:
    """The texts that `reply` may mean as its answer: as written, without its full stop, bare, and
    what its last sentence concludes ("… is 12", "… = 12").

    The answer is what follows the last "answer:", or else the last line that is not blank.
    Empty for a blank reply, for one over REPLY_CHARACTERS (an endless one) and for an answer
    over ANSWER_CHARACTERS.
    """
    if not reply.strip() or len(reply) > REPLY_CHARACTERS:
        return ()
    labels = list(_LABEL.finditer(reply))
    tail = reply[labels[-1].end() :].strip() if labels else ""
    line = (tail.splitlines()[0] if tail else reply.strip().splitlines()[-1]).strip()
    if not line or len(line) > ANSWER_CHARACTERS:
        return ()
    boxed = _BOXED.search(line)
    bare = boxed.group(1) if boxed else line
    for marks in ("*`$ ", ".", "*`$\"' "):
        bare = bare.strip(marks) if marks != "." else bare.removesuffix(".")
    concluded = _CONCLUSION.split(bare)[-1].strip("*`$\"' ")
    readings = (line, line.removesuffix("."), bare, concluded)
    return tuple(dict.fromkeys(text for text in readings if text))


def _score(dataset: Any, entry: dict[str, Any], text: str) -> float:
    """The scorer's verdict on one text; 0 where the scorer fails or answers with no number."""
    if _HUGE_EXPONENT.search(text):
        return 0.0
    # min(1, NaN) is 1 in more than one scorer.
    if _NOT_FINITE.search(text) and text.lower() != str(entry["answer"]).lower():
        return 0.0
    try:
        score = float(dataset.score_answer(text, entry))
    except Exception:  # a scorer that chokes on the worker's text has found it wrong
        return 0.0
    if not math.isfinite(score):
        return 0.0
    return 1.0 if score == 1.0 else min(max(score, 0.0), PARTIAL)


@lru_cache(maxsize=256)
def _dataset(skill: str, level: int) -> Any:
    return reasoning_gym.create_dataset(skill, size=1, seed=0, **FAMILIES[skill][level])


@lru_cache(maxsize=16_384)
def _entry(skill: str, level: int, seed: int) -> dict[str, Any]:
    entry: dict[str, Any] = _dataset(skill, level)[seed]
    return entry
