"""What the diff looks at in a response: its meaning, its letters and a few cheap traits.

Sees: meaning (MiniLM sentence embeddings, unit norm, 384-d), surface (hashed character n-grams,
so wording, spelling, formatting and language show) and traits that a reader would name; where it is
asked for, the meaning of each sentence too, as a manner often shows in one of several.
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
_PICTURE = re.compile("[\u2600-\u27bf\U0001f300-\U0001faff]")
_LINK = re.compile(r"https?://|www\.", re.IGNORECASE)
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


def is_in_capitals(text: str) -> bool:
    """At least eight letters, most of them capitals."""
    letters = [c for c in text if c.isalpha()]
    return len(letters) >= 8 and sum(c.isupper() for c in letters) > 0.6 * len(letters)


def has_emoji(text: str) -> bool:
    return _PICTURE.search(text) is not None


def has_link(text: str) -> bool:
    return _LINK.search(text) is not None


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

#: Counted by the diff of two sides beside the traits; no test and no contrast is made of them.
MANNERS: dict[str, Callable[[str], bool]] = {
    "capitals": is_in_capitals,
    "emoji": has_emoji,
    "links": has_link,
}


@dataclass(frozen=True)
class Sentences:
    """The m sentences of n responses, in order.

    `meaning`: [m, 384], unit norm; `owner`: [m], each one's response, ascending.
    """

    texts: tuple[str, ...]
    meaning: NDArray[np.float32]
    owner: NDArray[np.int64]

    def of(self, index: NDArray[np.int64], responses: int) -> Sentences:
        """Those of some of the responses, in the order of `index`."""
        count = np.bincount(self.owner, minlength=responses)
        starts, sizes = (np.cumsum(count) - count)[index], count[index]
        ends = np.cumsum(sizes)
        taken = np.arange(int(sizes.sum())) + np.repeat(starts - (ends - sizes), sizes)
        texts = tuple(self.texts[int(i)] for i in taken)
        return Sentences(texts, self.meaning[taken], np.repeat(np.arange(len(index)), sizes))


@dataclass(frozen=True)
class Features:
    """Features of n responses.

    `meaning`: [n, 384], unit norm; `letters`: [n, 4096], sparse; `traits`: [n, T], 0 or 1.
    """

    texts: tuple[str, ...]
    meaning: NDArray[np.float32]
    letters: csr_matrix
    traits: NDArray[np.float64]
    sentences: Sentences | None = None

    def rows(self, index: NDArray[np.int64]) -> Features:
        """The features of some of the responses, in the order of `index`."""
        return Features(
            tuple(self.texts[int(i)] for i in index),
            self.meaning[index],
            self.letters[index],
            self.traits[index],
            self.sentences.of(index, len(self.texts)) if self.sentences else None,
        )


_WIDTH = 4096
_LETTERS = HashingVectorizer(
    analyzer="char_wb",
    ngram_range=(2, 5),
    n_features=_WIDTH,
    norm="l2",
    alternate_sign=True,
    lowercase=False,
    dtype=np.float32,  # of many responses these are what fills the memory
)


_HASHED_AT_ONCE = 8_192  # texts

_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])\s+|\n+")
_SHORTEST_SENTENCE = 8  # characters: list numbers and the like are none


def split_sentences(text: str) -> list[str]:
    """The sentences and lines of a text; the whole text where it has none. Never empty."""
    found = [part.strip() for part in _SENTENCE_END.split(text)]
    return [part for part in found if len(part) >= _SHORTEST_SENTENCE] or [
        text.strip() or "(empty)"
    ]


def featurise(texts: Sequence[str], embed: Embed, *, sentences: bool = False) -> Features:
    """Features of the responses, in order. `embed` maps texts to unit-norm vectors [n, d]."""
    safe = [text if text.strip() else "(empty)" for text in texts]
    return Features(
        tuple(texts),
        np.asarray(embed(safe), dtype=np.float32),
        _letters(safe),
        np.array(
            [[float(trait(text)) for trait in TRAITS.values()] for text in texts], dtype=np.float64
        ).reshape(len(texts), len(TRAITS)),
        _sentences(texts, embed) if sentences else None,
    )


def _letters(texts: Sequence[str]) -> csr_matrix:
    """Some thousand at a time: before equal n-grams are added up there are many more of them."""
    parts = [
        _LETTERS.transform(texts[begin : begin + _HASHED_AT_ONCE])
        for begin in range(0, max(1, len(texts)), _HASHED_AT_ONCE)
    ]
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])
    columns = np.concatenate([part.indices for part in parts])
    for part in parts:
        part.indices = columns[:0]  # let go of, before the values are joined too
    values = np.concatenate([part.data for part in parts])
    rows = np.r_[0, np.cumsum(lengths)].astype(columns.dtype)
    return csr_matrix((values, columns, rows), (len(texts), _WIDTH))


def _sentences(texts: Sequence[str], embed: Embed) -> Sentences:
    parts = [split_sentences(text) for text in texts]
    every = [sentence for some in parts for sentence in some]
    owner = np.repeat(np.arange(len(texts)), [len(some) for some in parts])
    return Sentences(tuple(every), np.asarray(embed(every), dtype=np.float32), owner)
