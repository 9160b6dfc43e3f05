"""What training gave: paired by item, counted on answers that both sides gave."""

from __future__ import annotations

import math

import pytest

from agents.held_out import ITEMS, gains, held_out
from environments.skills import Node
from tests.scripted_speakers import Chatter, Failing

NODE = Node("reasoning", "chain_sum", 0)
NAN = math.nan


def test_a_gain_counts_items_that_both_sides_answered() -> None:
    found = gains({"s": [0, 0, 1, NAN, 1]}, {"s": [1, 1, 1, 1, NAN]})["s"]
    assert (found["before"], found["after"], found["n"]) == (pytest.approx(1 / 3), 1.0, 3)


def test_a_skill_that_nobody_answered_is_left_out() -> None:
    assert gains({"s": [NAN, 1.0]}, {"s": [1.0, NAN]}) == {}


def test_a_clear_gain_excludes_zero_and_no_gain_does_not() -> None:
    before = [0.0] * 30 + [1.0] * 18
    after = [1.0] * 20 + [0.0] * 10 + [1.0] * 18
    assert gains({"s": before}, {"s": after})["s"]["low"] > 0
    same = gains({"s": before}, {"s": before})["s"]
    assert same["low"] <= 0 <= same["high"]


def test_a_fall_is_shown_as_a_fall() -> None:
    found = gains({"s": [1.0] * 40}, {"s": [0.0] * 20 + [1.0] * 20})["s"]
    assert found["high"] < 0


def test_a_silent_speaker_is_no_wrong_one_and_each_round_has_its_own_items() -> None:
    silent = Failing("silent", seed=0)
    silent.every = 1
    scores, _ = held_out(silent, [NODE], seed=5)
    (asked,) = scores.values()
    assert len(asked) == ITEMS == len(silent.asked)
    assert all(math.isnan(score) for score in asked)
    other = Chatter("other", seed=0)
    held_out(other, [NODE], seed=6)
    assert other.asked != silent.asked
