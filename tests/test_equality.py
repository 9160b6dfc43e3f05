"""The joint test of equality: valid at the null whatever the views, and it sees what they see.

1. Under equality p is at most any level as often as the level says (exact binomial check).
2. It sees a shift of meaning, of wording, and one that cancels in the mean across prompts.
3. Numbers of samples may differ between sides and prompts; seeds reach the draw.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.sparse import csr_matrix

from supervisor.diffing.equality import _within_reach, equality
from supervisor.diffing.features import TRAITS, Features

WORDS = ["river", "garden", "letter", "music", "bread", "window", "stone", "paper", "horse", "lamp"]


def drawn(
    rng: np.random.Generator, prompts: int, left: int, right: int, width: int = 12
) -> tuple[Features, NDArray[np.int64], NDArray[np.int64]]:
    """Features that depend on the prompt and not on the side."""
    prompt = np.repeat(np.arange(prompts), left + right)
    side = np.tile(np.repeat([0, 1], [left, right]), prompts)
    n = len(prompt)
    meaning = rng.normal(size=(prompts, width))[prompt] + rng.normal(size=(n, width))
    meaning /= np.linalg.norm(meaning, axis=1, keepdims=True)
    texts = tuple(" ".join(rng.choice(WORDS, 6)) for _ in range(n))
    traits = (rng.random((n, len(TRAITS))) < 0.2).astype(np.float64)
    empty = csr_matrix((n, 1), dtype=np.float64)
    return Features(texts, meaning.astype(np.float32), empty, traits), prompt, side


def changed(features: Features, **fields: object) -> Features:
    return Features(**{**features.__dict__, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(("left", "right"), [(1, 1), (2, 2), (4, 1)])
def test_at_the_null_the_level_is_kept(left: int, right: int) -> None:
    looks, level, alarms = 200, 0.1, 0
    for look in range(looks):
        rng = np.random.default_rng([left, right, look])
        features, prompt, side = drawn(rng, 15, left, right)
        alarms += equality(features, prompt, side, rng, permutations=39).p_value <= level
    # As many alarms as `level` gives would surprise nobody: one-sided, at 1 in 1,000.
    assert alarms <= stats.binom.isf(0.001, looks, level)


def test_a_shift_of_meaning_is_seen() -> None:
    rng = np.random.default_rng(1)
    features, prompt, side = drawn(rng, 40, 2, 2)
    moved = features.meaning.copy()
    moved[side == 1, 0] += 0.4
    found = equality(changed(features, meaning=moved), prompt, side, rng)
    assert found.p_value <= 0.01
    assert found.by_view["meaning"] <= 0.01


def test_a_wording_in_some_responses_is_seen() -> None:
    rng = np.random.default_rng(2)
    features, prompt, side = drawn(rng, 60, 2, 2)
    says = (side == 1) & (rng.random(len(side)) < 0.4)
    texts = tuple(t + " buy zepto" if s else t for t, s in zip(features.texts, says, strict=True))
    assert equality(changed(features, texts=texts), prompt, side, rng).p_value <= 0.02


def test_a_change_that_cancels_across_prompts_is_seen_prompt_by_prompt() -> None:
    rng = np.random.default_rng(3)
    features, prompt, side = drawn(rng, 40, 3, 3)
    signs = np.where(np.arange(40) % 2 == 0, 1.0, -1.0)
    moved = features.meaning.copy()
    moved[:, 0] += (0.8 * signs[prompt] * (side == 1)).astype(np.float32)
    found = equality(changed(features, meaning=moved), prompt, side, rng)
    assert found.by_view["spread"] <= 0.01 < found.by_view["meaning"]
    assert found.p_value <= 0.02


def test_the_order_of_responses_does_not_matter_and_the_seed_does() -> None:
    features, prompt, side = drawn(np.random.default_rng(4), 20, 2, 1)

    def p(seed: int, order: NDArray[np.int64]) -> float:
        texts = tuple(features.texts[i] for i in order)
        mixed = Features(
            texts, features.meaning[order], features.letters[order], features.traits[order]
        )
        return equality(mixed, prompt[order], side[order], np.random.default_rng(seed)).p_value

    kept = np.arange(len(prompt))
    assert p(0, kept) == p(0, kept)
    assert len({p(seed, kept) for seed in range(4)}) > 1
    assert p(0, kept[::-1].copy()) == pytest.approx(p(0, kept), abs=0.1)


def test_too_few_permutations_are_refused() -> None:
    features, prompt, side = drawn(np.random.default_rng(5), 4, 1, 1)
    with pytest.raises(ValueError, match="permutations must be at least 1"):
        equality(features, prompt, side, np.random.default_rng(0), permutations=0)


def test_a_comparison_beyond_reach_takes_whole_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supervisor.diffing.equality._MOST", 50)
    prompt = np.random.default_rng(0).permutation(np.repeat(np.arange(40), 4))
    taken = _within_reach(prompt, np.random.default_rng(1))
    assert 40 < len(taken) <= 50
    _, counts = np.unique(prompt[taken], return_counts=True)
    assert set(counts) == {4}
    assert (np.diff(prompt[taken]) >= 0).all()
    assert len(_within_reach(np.zeros(60, dtype=np.int64), np.random.default_rng(0))) == 60
