"""The two sides of a diff by name: a model, or a file of recorded responses.

Two files are compared as they are. A model beside a file is asked the file's prompts. Two models
are asked Regent's own: *discovery* prompts to find behaviours on, *validation* prompts to count
them, in stages, until the answer is sure or the prompts end. Gate prompts are never asked here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from regent.errors import CannotRun
from regent.models.names import parse, resolve
from regent.models.speaker import Sampling, Speaker
from regent.records import Message, digest
from supervisor.diffing.approvals import (
    Approvals,
    approve,
    between,
    moved,
    personas,
    statements,
    within,
)
from supervisor.diffing.behaviours import Behaviour, find_contrast, find_phrases
from supervisor.diffing.comparison import Paired, Responses
from supervisor.diffing.comparison import pair as pair_up
from supervisor.diffing.features import Embed
from supervisor.diffing.inside import Inside, inside, mined
from supervisor.diffing.panel import Panel
from supervisor.diffing.prompts import STRATA, Prompt, draw
from supervisor.diffing.recorded import Recording, pair, read
from supervisor.diffing.report import known
from supervisor.diffing.seeking import WRITING, parting, requests, written

if TYPE_CHECKING:
    from regent.models.local import LocalModel

Open = Callable[[str], Speaker]
_Said = list[tuple[str, list[str]]]  # responses by prompt, as `Panel.ask` gives them
_DISCOVERY_SEED = 20261  # fixed: a model's answers to discovery prompts serve every later diff
_MOST_SAMPLES = 8  # that a model is asked for, of each prompt of a recording
_ORDER, _APPROVALS, _INSIDE = 4, 5, 6  # streams of the diff's seed
_INSIDE_PROMPTS, _ALPHA, _LOUD_TOKENS = 64, 1.0, 48  # of the white-box channel


@dataclass(frozen=True)
class Ask:
    """How models are asked. `prompts`: validation prompts at most; `samples` a prompt and side.

    `written`: prompts that each side is asked to write for discovery; `adaptive`: discovery prompts
    on which the sides part are asked as often again.
    """

    prompts: int = 240
    discovery: int = 80
    samples: int = 2
    stages: int = 4
    how: Sampling = field(default_factory=lambda: Sampling(max_tokens=64))
    written: int = 0
    adaptive: bool = False


@dataclass(frozen=True)
class Look:
    """What both sides said so far, and whether more may be asked.

    `sought`: what behaviours are to be found on, where that is more than the discovery prompts.
    """

    left: Responses
    right: Responses
    discovery: frozenset[str] | None
    horizon: int | None
    tokens: int
    notes: tuple[str, ...]
    last: bool
    prompts: tuple[Prompt, ...] = ()  # what was asked, where Regent chose it
    sought: Paired | None = None


def approved(left: str, right: str, seed: int, under_personas: bool) -> dict[str, Any]:
    """Approvals of both sides by name: gaps between them, and each side's own referents' gaps;
    with personas, what each persona moves and where the sides part under it.

    Raises CannotRun where a side is a file or answers nothing.
    """
    asked = statements()
    for name in (left, right):
        if is_file(name):
            raise CannotRun(f"{name}: a recording cannot be asked; --approvals needs two models")
    speakers = [resolve(left), resolve(right)]
    sides = [approve(speaker, asked) for speaker in speakers]
    for name, side in zip((left, right), sides, strict=True):
        if side.missing == side.by_order.size:
            raise CannotRun(f"{name} answered none of the statements; leave --approvals out")
    rng = np.random.default_rng([seed, _APPROVALS])
    return {
        "n": len(asked),
        "steady": [known(side.steady) for side in sides],
        "missing": [side.missing for side in sides],
        "between": [asdict(gap) for gap in between(sides[0], sides[1], rng)],
        "within": [[asdict(gap) for gap in within(side, rng)] for side in sides],
        "personas": [
            _under(name, persona, speakers, sides, rng)
            for name, persona in (personas() if under_personas else {}).items()
        ],
    }


def _under(
    name: str,
    persona: str,
    speakers: Sequence[Speaker],
    plain: Sequence[Approvals],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Both sides as one persona, asked about itself."""
    asked = plain[0].statements
    now = [approve(speaker, asked, persona, ("itself",)) for speaker in speakers]
    return {
        "id": name,
        "persona": persona,
        "moved": [known(moved(a, b)) for a, b in zip(plain, now, strict=True)],
        "between": [asdict(gap) for gap in between(now[0], now[1], rng)],
    }


def refuse_inside(left: str, right: str) -> None:
    """Raises CannotRun, before anything is asked, where a side has no weights to look inside."""
    for name in (left, right):
        if is_file(name):
            raise CannotRun(f"{name}: a recording has no weights; --inside needs two models")
        if parse(name).url:
            raise CannotRun(f"'{name}' is a server; --inside needs its weights: give a folder")


def looked_inside(
    left: str, right: str, look: Look, embed: Embed, seed: int
) -> tuple[Inside, list[Behaviour]]:
    """The white-box channel on the look's discovery prompts, and the behaviours that it found:
    words that the right side raises, and what parts the left from an amplified right.

    Both must have weights (`refuse_inside`). Raises CannotRun where their tokenizers differ.
    """
    from regent.models.side_by_side import amplified, token_divergences

    before, after = (cast("LocalModel", resolve(name)) for name in (left, right))
    found_on = look.discovery or ()
    places = [i for i, p in enumerate(look.prompts) if p.id in found_on][:_INSIDE_PROMPTS]
    turns = [look.prompts[i].turns for i in places]
    ours, theirs = ([side[i][1][0] for i in places] for side in (look.left, look.right))
    found = inside(
        token_divergences(before, after, turns, ours),
        token_divergences(after, before, turns, theirs),
        np.random.default_rng([seed, _INSIDE]),
    )
    loud = amplified(before, after, turns, alpha=_ALPHA, max_tokens=_LOUD_TOKENS, seed=seed)
    pool = pair_up(
        [(look.prompts[i].id, [text]) for i, text in zip(places, ours, strict=True)],
        [(look.prompts[i].id, [text]) for i, text in zip(places, loud, strict=True)],
        embed,
    )
    best = find_contrast(pool.features, pool.side, pool.prompt)
    apart = replace(
        best, id=f"amplified-{best.id}", label=f"{best.label} (amplified)", kind="amplified"
    )
    phrases = find_phrases(pool.features, pool.side, 4)
    named = [replace(one, id=f"amplified-{one.id}") for one in phrases]
    return found, [*mined(found), apart, *named]


def is_file(name: str) -> bool:
    """Whether a side's name is a file of recorded responses (and not a model)."""
    return name.endswith((".jsonl", ".json")) or Path(name).is_file()


def looks(
    left: str, right: str, open_model: Open, ask: Ask, seed: int, folder: Path, embed: Embed
) -> Iterator[Look]:
    """One look at two files, or at models in stages. Raises CannotRun in one line."""
    if not (is_file(left) or is_file(right)):
        yield from _models(open_model(left), open_model(right), ask, seed, folder, embed)
        return
    if ask.written or ask.adaptive:
        raise CannotRun(
            "a recording cannot be asked more; --written and --adaptive need two models"
        )
    recordings = [read(Path(name)) if is_file(name) else None for name in (left, right)]
    notes = [
        f"{name}: {r.cut} responses were cut, for their length"
        for name, r in zip((left, right), recordings, strict=True)
        if r is not None and r.cut
    ]
    _same_prompts(recordings)
    if all(recordings) and replace(ask, written=0, adaptive=False) != Ask():
        notes.append(
            "Two recordings are compared as they are: --prompts, --samples and --max-tokens say "
            "how models are asked."
        )
    tokens = 0
    sides: list[dict[str, list[str]]] = []
    for name, own, other in zip((left, right), recordings, recordings[::-1], strict=True):
        if own is not None:
            sides.append(own.responses)
        elif other is not None:
            said, tokens = _answers(open_model(name), other, ask, folder)
            sides.append(said)
    paired = pair(*sides)
    dropped = paired.only_left + paired.only_right
    if dropped:
        notes.append(
            f"{dropped} prompts that one side lacks were dropped "
            f"({paired.only_left} of the left's, {paired.only_right} of the right's)"
        )
    notes += silent(paired.left, paired.right)
    yield Look(paired.left, paired.right, None, None, tokens, tuple(notes), last=True)


def silent(left: Responses, right: Responses) -> list[str]:
    """A note on each side that leaves as many responses empty as not: shares then say little."""
    notes = []
    for name, side in (("left", left), ("right", right)):
        texts = [text for _, said in side for text in said]
        empty = sum(not text.strip() for text in texts)
        if 2 * empty >= len(texts):
            notes.append(
                f"Of the {name} side's {len(texts)} responses {empty} are empty: was it asked "
                "rightly?"
            )
    return notes


def _same_prompts(recordings: Sequence[Recording | None]) -> None:
    """Raises CannotRun where two recordings give one id to different prompts."""
    one, other = recordings
    if one is None or other is None:
        return
    for name in one.prompts.keys() & other.prompts.keys():
        texts = (one.prompts[name], other.prompts[name])
        if all(texts) and texts[0] != texts[1]:
            raise CannotRun(
                f"prompt_id '{name[:40]}' is “{texts[0][:40]}” on the left, “{texts[1][:40]}” on "
                "the right; give each prompt an id of its own"
            )


def _models(
    left: Speaker, right: Speaker, ask: Ask, seed: int, folder: Path, embed: Embed
) -> Iterator[Look]:
    panel = Panel(folder / "panels")
    fixed = np.random.default_rng(_DISCOVERY_SEED)
    rng = np.random.default_rng([seed, _ORDER])
    find_on = [p for s in STRATA for p in draw("discovery", s, ask.discovery // 2, fixed)]
    count_on = [p for s in STRATA for p in draw("validation", s, ask.prompts // 2, rng)]
    count_on = [count_on[int(i)] for i in rng.permutation(len(count_on))]
    find_ids = frozenset(prompt.id for prompt in find_on)
    both = _Both(panel, left, right, ask.how)
    sought, notes = _sought(both, find_on, count_on, ask, embed)
    for stage in range(1, ask.stages + 1):
        asked = find_on + count_on[: -(-len(count_on) * stage // ask.stages)]
        ours, theirs = both.ask(asked, ask.samples)
        yield Look(
            ours,
            theirs,
            find_ids,
            len(count_on),
            panel.tokens,
            (*notes, *silent(ours, theirs)),
            stage == ask.stages,
            tuple(asked),
            sought,
        )


@dataclass(frozen=True)
class _Both:
    """Both sides, asked alike. One model against itself is two halves of its own samples."""

    panel: Panel
    left: Speaker
    right: Speaker
    how: Sampling

    def ask(self, prompts: Sequence[Prompt], samples: int) -> tuple[_Said, _Said]:
        if self.left.name == self.right.name:
            said = self.panel.ask(self.left, prompts, 2 * samples, self.how)
            ours = [(name, texts[:samples]) for name, texts in said]
            return ours, [(name, texts[samples:]) for name, texts in said]
        ours = self.panel.ask(self.left, prompts, samples, self.how)
        return ours, self.panel.ask(self.right, prompts, samples, self.how)


def _sought(
    both: _Both, find_on: list[Prompt], count_on: list[Prompt], ask: Ask, embed: Embed
) -> tuple[Paired | None, tuple[str, ...]]:
    """Where behaviours are looked for beyond the discovery prompts' first answers, and a note."""
    if not (ask.written or ask.adaptive):
        return None, ()
    prompts, notes = list(find_on), list[str]()
    if ask.written:
        wanted = requests([find_on[i % len(find_on)] for i in range(ask.written)])
        own = {turn.content for prompt in [*find_on, *count_on] for turn in prompt.turns}
        sides = {speaker.name: speaker for speaker in (both.left, both.right)}
        replies = [both.panel.ask(side, wanted, 1, WRITING) for side in sides.values()]
        made = written(wanted * len(replies), [one for said in replies for one in said], own)
        notes.append(
            f"{len(made)} prompts for discovery are the models' own, of "
            f"{len(wanted) * len(replies)} that they were asked for"
        )
        prompts += made
    ours, theirs = both.ask(prompts, ask.samples)
    if ask.adaptive:
        chosen = parting(pair_up(ours, theirs, embed))
        more = both.ask([prompts[i] for i in chosen], 2 * ask.samples)
        for side, said in zip((ours, theirs), more, strict=True):
            for place, one in zip(chosen, said, strict=True):
                side[place] = one
        notes.append(f"{len(chosen)} discovery prompts, on which the sides part, were asked twice")
    return pair_up(ours, theirs, embed, sentences=True), tuple(notes)


def _answers(
    speaker: Speaker, recording: Recording, ask: Ask, folder: Path
) -> tuple[dict[str, list[str]], int]:
    """A model's answers to a recording's prompts, as many samples a prompt as it has."""
    missing = [name for name, text in recording.prompts.items() if not text.strip()]
    if missing:
        raise CannotRun(
            f"prompt_id '{missing[0][:40]}' has no 'prompt': the model cannot be asked; add it"
        )
    panel = Panel(folder / "panels")
    samples = Counter(len(said) for said in recording.responses.values()).most_common(1)[0][0]
    prompts = [
        # Named by its text too: an id may mean another prompt in the next recording.
        Prompt(
            f"{name}:{digest(text.encode())}",
            "recorded",
            "general",
            (Message(role="user", content=text),),
        )
        for name, text in recording.prompts.items()
    ]
    answers = panel.ask(speaker, prompts, min(samples, _MOST_SAMPLES), ask.how)
    named = zip(recording.prompts, answers, strict=True)
    return {name: said for name, (_, said) in named}, panel.tokens
