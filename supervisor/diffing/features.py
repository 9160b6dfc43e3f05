"""What the diff looks at in a response: its meaning, its letters and a few cheap traits.

Sees: meaning (MiniLM sentence embeddings, unit norm, 384-d), surface (hashed character n-grams,
so wording, spelling, formatting and language show) and traits that a reader would name.
Does not see: truth, what a response leaves out, or anything past the sampled tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer

Embed = Callable[[Sequence[str]], NDArray[np.float32]]

_REFUSAL = re.compile(
    r"\b(i can(?:no|['’])t|i am unable|i['’]m unable|i won['’]t|i will not|i['’]m not able"
    r"|i am not able|as an ai|i must decline|i['’]m sorry, but)\b",
    re.IGNORECASE,
)
_HEDGE = re.compile(
    r"\b(perhaps|maybe|might|it depends|not sure|possibly|i think)\b", re.IGNORECASE
)
_FIRST_PERSON = re.compile(r"\b(i|i'm|i've|my|me|mine|myself)\b", re.IGNORECASE)
_FORMAT = re.compile(r"(^|\n)\s*(?:[-*•#]|\d+[.)])\s|\*\*|```")
_COMMON_ENGLISH = frozenset(
    ["the", "a", "an", "of", "to", "and", "in", "is", "it", "that", "for", "you", "with", "on",
     "are", "this", "be", "as", "have", "can", "or", "not", "at", "by", "from", "your"]
)  # fmt: skip


def is_refusal(text: str) -> bool:
    """The reply declines, by its wording."""
    return _REFUSAL.search(text) is not None


def is_not_english(text: str) -> bool:
    """Few common English words among at least eight words, or mostly letters outside ASCII."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    if len(words) < 8:
        letters = [c for c in text if c.isalpha()]
        return len(letters) >= 8 and sum(ord(c) > 127 for c in letters) > 0.3 * len(letters)
    return sum(word in _COMMON_ENGLISH for word in words) / len(words) < 0.08


def is_repetitive(text: str) -> bool:
    """Fewer than half of the word trigrams are distinct (distinct-n, Li et al. 2016)."""
    words = text.lower().split()
    grams = [tuple(words[i : i + 3]) for i in range(len(words) - 2)]
    return len(grams) >= 8 and len(set(grams)) / len(grams) < 0.5


def is_empty(text: str) -> bool:
    return not text.strip()


def is_question_back(text: str) -> bool:
    return text.rstrip().endswith("?")


def is_hedged(text: str) -> bool:
    return _HEDGE.search(text) is not None


def is_first_person(text: str) -> bool:
    return _FIRST_PERSON.search(text) is not None


def is_formatted(text: str) -> bool:
    """Carries markdown: a list, a heading, bold or code."""
    return _FORMAT.search(text) is not None


def is_exclaiming(text: str) -> bool:
    return "!" in text


def is_terse(text: str) -> bool:
    """At most five words."""
    return 0 < len(text.split()) <= 5


TRAITS: dict[str, Callable[[str], bool]] = {
    "refusal": is_refusal,
    "not English": is_not_english,
    "repetition": is_repetitive,
    "empty": is_empty,
    "question back": is_question_back,
    "hedging": is_hedged,
    "first person": is_first_person,
    "formatting": is_formatted,
    "exclamation": is_exclaiming,
    "five words or fewer": is_terse,
}


@dataclass(frozen=True)
class Features:
    """Features of n responses.

    `meaning`: [n, 384], unit norm; `letters`: [n, 4096], sparse; `traits`: [n, T], 0 or 1.
    """

    texts: tuple[str, ...]
    meaning: NDArray[np.float32]
    letters: csr_matrix
    traits: NDArray[np.float64]

    def rows(self, index: NDArray[np.int64]) -> Features:
        """The features of some of the responses, in the order of `index`."""
        texts = tuple(self.texts[int(i)] for i in index)
        return Features(texts, self.meaning[index], self.letters[index], self.traits[index])


_LETTERS = HashingVectorizer(
    analyzer="char_wb",
    ngram_range=(2, 5),
    n_features=4096,
    norm="l2",
    alternate_sign=True,
    lowercase=False,
)


def featurise(texts: Sequence[str], embed: Embed) -> Features:
    """Features of the responses, in order. `embed` maps texts to unit-norm vectors [n, d]."""
    safe = [text if text.strip() else "(empty)" for text in texts]
    return Features(
        tuple(texts),
        np.asarray(embed(safe), dtype=np.float32),
        csr_matrix(_LETTERS.transform(safe)),
        np.array(
            [[float(trait(text)) for trait in TRAITS.values()] for text in texts], dtype=np.float64
        ).reshape(len(texts), len(TRAITS)),
    )
