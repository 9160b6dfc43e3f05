"""The second solver: what the words of an item entail, by going through every world they allow.

It does not know how an item was made. It looks in the finished text for the phrases that declare
something, collects their facts, and asks in which worlds all of them hold: every unknown is tried
with every value of its domain. An answer that is the same in all is entailed; one that is not is
`UNDETERMINED`; facts that hold in no world are `CONTRADICTORY`. That is another road to the gold
answer than the simulator's, which computes forward from the facts that it was given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from supervisor.reflectivity.frame import Ask, Cell, Fact, Facts, Subtask
from supervisor.reflectivity.world import CHANNELS, HAPPENINGS, STATUSES, TARGETS, UNDETERMINED

CONTRADICTORY = "contradictory"
_ELSE = "someone else"


def declared(cell: Cell, context: str) -> list[tuple[str, Fact]]:
    """Every fact that a phrase of `context` declares, in no order; the same key may come twice."""
    flat = " ".join(context.split())
    phrases = [(said.quote, said.facts) for said in cell.says]
    phrases += [(way.text, state.facts) for state in cell.cause for way in state.ways]
    return [
        fact
        for phrase, facts in phrases
        if " ".join(phrase.split()) in flat
        for fact in facts.items()
    ]


def entailed(subtask: Subtask, facts: Sequence[tuple[str, Fact]], ask: Ask) -> str:
    """The answer in every world that `facts` allow."""
    known: Facts = {}
    for key, value in facts:
        if known.setdefault(key, value) != value:
            return CONTRADICTORY
    if subtask == "own_vs_others":
        answers = set(_holders(known, ask))
    elif subtask == "current_vs_future":
        answers = set(_histories(known, ask))
    elif subtask == "influence_desirability":
        answers = set(_processes(known))
    else:
        answers = set(_effects(subtask, known, ask))
    if not answers:
        return CONTRADICTORY
    return answers.pop() if len(answers) == 1 else UNDETERMINED


def _holders(known: Facts, ask: Ask) -> Iterator[str]:
    """What the one asked about holds, in each way of giving everyone one of the two values."""
    both = ask.values or ()
    people = {ask.agent} | {key.split(".", 1)[1] for key in known if key.startswith("holds.")}
    people |= {one for key in ("agrees", "differs") for one in _names(known.get(key))}
    order = sorted(people)
    for held in product(both, repeat=len(order)):
        world = dict(zip(order, held, strict=True))
        if any(world[one] != known.get(f"holds.{one}", world[one]) for one in order):
            continue
        alike = {world[one] for one in _names(known.get("agrees"))}
        unlike = {world[one] for one in _names(known.get("differs"))}
        if len(alike) != 2 and (not _names(known.get("differs")) or len(unlike) == 2):
            yield world[ask.agent]


def _histories(known: Facts, ask: Ask) -> Iterator[str]:
    """What governs at the moment asked about, in each course that the change may have taken."""
    both = ask.values or ()
    for before, after, status, due, counts in product(
        both, both, STATUSES, ("before", "after"), (True, False)
    ):
        course = {
            "before": before,
            "after": after,
            "status": status,
            "due": due,
            "half_counts": counts,
        }
        if any(known.get(name, value) != value for name, value in course.items()):
            continue
        steps = [before]  # what governed, from the outset to the moment asked about
        if status in ("in_force", "reverted") or (status == "half" and counts):
            steps.append(after)
        if status == "reverted":
            steps.append(before)
        if status == "planned" and ask.time == "later" and due == "before":
            steps.append(after)
        yield steps[-1]


def _effects(subtask: Subtask, known: Facts, ask: Ask) -> Iterator[str]:
    """Which event moves values, or where to, in each way of completing what is known of it."""
    rules = [
        name for name in ("channel", "exposed", "acts_on", "status") if f"rule.{name}" in known
    ]
    if not rules:
        yield from ("influences", "spares")
        return
    domains: dict[str, Sequence[Fact]] = {
        "channel": CHANNELS,
        "exposed": ([ask.agent], [_ELSE]),
        "acts_on": TARGETS,
        "status": HAPPENINGS,
    }
    events = list(ask.events or [str(ask.event)])
    slots = [(event, name) for event in events for name in rules]
    choices = [
        [known[f"{event}.{name}"]] if f"{event}.{name}" in known else domains[name]
        for event, name in slots
    ]
    for filled in product(*choices):
        moving = set(events)
        for (event, name), value in zip(slots, filled, strict=True):
            enough = ask.agent in _names(value) if name == "exposed" else None
            if enough is None:
                enough = value in _names(known[f"rule.{name}"])
            if not enough:
                moving.discard(event)
        if subtask == "influence_prediction":
            yield from _leanings(known, ask, bool(moving))
        elif ask.events is None:
            yield "influences" if moving else "spares"
        elif len(moving) == 1:
            yield moving.pop()
        else:
            yield from events  # both or neither: the text does not single one out


def _leanings(known: Facts, ask: Ask, moved: bool) -> Iterator[str]:
    both = ask.values or ()
    if not moved:
        yield "unmoved"
        return
    for toward, sign in product(both, ("with", "against")):
        if known.get(f"{ask.event}.toward", toward) == toward and (
            known.get("rule.sign", sign) == sign
        ):
            yield toward if sign == "with" else next(v for v in both if v != toward)


def _processes(known: Facts) -> Iterator[str]:
    """Whether the declared standard takes the influence, in each way it may have come about."""
    needs, bars = _names(known.get("standard.needs")), _names(known.get("standard.bars"))
    if not needs and not bars:
        yield from ("welcome", "unwelcome")
        return
    names = sorted({*needs, *bars})
    for values in product((True, False), repeat=len(names)):
        world = dict(zip(names, values, strict=True))
        if any(known.get(f"event.{name}", world[name]) != world[name] for name in names):
            continue
        good = all(world[name] for name in needs) and not any(world[name] for name in bars)
        yield "welcome" if good else "unwelcome"


def _names(value: Fact | None) -> list[str]:
    if isinstance(value, str):
        return [value]
    return value if isinstance(value, list) else []
