"""Where a record came from and what came of it: a pure walk over the ledger's rows.

`why` goes back from an example, batch, verdict or checkpoint to the experiment (plan), task, agent,
model and code that made it, and forward to every checkpoint trained on it. `champion` says which
checkpoint rules. Does not cover: whether the rows are sound (`Ledger.verify`).
"""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from regent.errors import CannotRun
from regent.records import Example
from regent.store import Store
from supervisor.record.ledger import Ledger, Row

Fields = dict[str, Any]

_ALIKE = 4  # characters from which one id may be a slip for another
_NO_PLAN = {
    "replay": "rehearsed from before, of no experiment",
    "external": "from outside, of no experiment",
}


@dataclass(frozen=True)
class Link:
    """One station of a record's lineage; `depth` counts steps from the record asked about.

    `reasons` are a verdict's, one sentence each.
    """

    direction: Literal["back", "here", "forward"]
    depth: int
    kind: str
    id: str
    summary: str
    reasons: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Rows:
    """The ledger's rows by kind and subject, read once."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.by_kind: dict[str, dict[str, Fields]] = {}
        for row in rows:
            self.by_kind.setdefault(row.kind, {})[row.subject] = row.fields()

    def of(self, kind: str) -> dict[str, Fields]:
        return self.by_kind.get(kind, {})

    def get(self, kind: str, subject: str) -> Fields | None:
        return self.of(kind).get(subject)

    def about(self, subject: str) -> list[tuple[str, str, Fields]]:
        """Verdicts on `subject`, their reviews, its release and its revocation, in order."""
        found: list[tuple[str, str, Fields]] = []
        for verdict_id, verdict in self.of("verdict").items():
            if verdict["subject"] == subject:
                found.append(("verdict", verdict_id, verdict))
                review = self.get("review", verdict_id)
                if review is not None:
                    found.append(("review", verdict_id, review))
        for kind in ("release", "revoke"):
            fields = self.get(kind, subject)
            if fields is not None:
                found.append((kind, subject, fields))
        return found


def resolve(names: Iterable[str], prefix: str, what: str = "record") -> str:
    """The one name that starts with `prefix`.

    Raises CannotRun if none does (naming the one with the longest common start) or several do.
    """
    known = sorted(set(names))
    matches = [name for name in known if name.startswith(prefix)] if prefix else []
    if prefix in matches or len(matches) == 1:
        return prefix if prefix in matches else matches[0]
    if matches:
        shown = ", ".join(name[:16] for name in matches[:3])
        raise CannotRun(f"'{prefix}' names {len(matches)} {what}s ({shown}…); give more of the id")
    if not known:
        raise CannotRun(f"no {what} is called '{prefix}': there is none yet")
    near = max(known, key=lambda name: _common_start(name, prefix))
    if _common_start(near, prefix) < _ALIKE:
        raise CannotRun(
            f"no {what} is called '{prefix}'; ids look like {near[:12]}: the closing screen "
            "(`regent status RUN`) and `regent audit why RUN ID` show more"
        )
    raise CannotRun(f"no {what} is called '{prefix}'; the nearest id is {near[:16]}")


def champion(rows: Sequence[Row]) -> str | None:
    """The id of the checkpoint that rules: the newest promoted and not revoked, else the origin."""
    revoked = {row.subject for row in rows if row.kind == "revoke"}
    for row in reversed(rows):
        if row.kind == "promotion":
            promoted = str(row.fields()["checkpoint"])
            if promoted not in revoked:
                return promoted
    for row in rows:
        if row.kind == "checkpoint" and not row.fields()["training_run"]:
            return row.subject
    return None


def why(ledger: Ledger, store: Store, id: str) -> list[Link]:
    """The lineage of the record whose id starts with `id`: back to its making, then forward.

    Raises CannotRun if nothing, or more than one thing, is called so.
    """
    rows = Rows(ledger.rows())
    names: dict[str, str] = {}
    for kind in ("batch", "checkpoint", "training_run", "trajectory", "plan", "gap"):
        names.update(dict.fromkeys(rows.of(kind), kind))
    names.update(dict.fromkeys(rows.of("verdict"), "verdict"))
    for batch in rows.of("batch").values():
        names.update(dict.fromkeys(batch["examples"], "example"))
    for release in rows.of("release").values():
        names.setdefault(release["released_digest"], "bytes")
    called = {str(fields["name"]): key for key, fields in rows.of("checkpoint").items()}
    found = called.get(id) or resolve(names, id)
    kind = names[found]
    walk = _Walk(rows, store)
    if kind == "bytes":
        for batch_id, release in rows.of("release").items():
            if release["released_digest"] == found:
                found, kind = batch_id, "batch"
                break
    walk.back(kind, found, 0)
    walk.forward(kind, found, 0)
    return walk.links


def render(links: Sequence[Link], width: int = 100) -> str:
    """The lineage as indented lines for a person, at most `width` columns where words allow it."""
    lines = []
    for link in links:
        mark = {"back": "←", "here": "●", "forward": "→"}[link.direction]
        margin = "  " * link.depth
        named = f"{link.kind} {link.id[:12]}".strip()
        lines += _wrapped(f"{mark} {named}  {link.summary}", margin, width)
        for reason in link.reasons:
            lines += _wrapped(f"- {reason}", f"{margin}    ", width)
    return "\n".join(lines)


def _wrapped(text: str, margin: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, len(margin) + 40),
        initial_indent=margin,
        subsequent_indent=f"{margin}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


class _Walk:
    def __init__(self, rows: Rows, store: Store) -> None:
        self.rows, self.store = rows, store
        self.links: list[Link] = []

    def add(self, forward: bool, depth: int, kind: str, id: str, fields: Fields | None) -> None:
        direction: Literal["back", "here", "forward"] = (
            "here" if depth == 0 else "forward" if forward else "back"
        )
        summary = _summary(kind, fields) if fields is not None else "(not in the ledger)"
        reasons = tuple(fields["reasons"]) if kind == "verdict" and fields else ()
        self.links.append(Link(direction, depth, kind, id, summary, reasons))

    def back(self, kind: str, id: str, depth: int) -> None:
        if not id:
            return
        fields = self.example(id) if kind == "example" else self.rows.get(kind, id)
        self.add(False, depth, kind, id, fields)
        if fields is None:
            return
        below = depth + 1
        if kind in ("batch", "checkpoint"):
            for about, subject, said in self.rows.about(id):
                if not (about == "verdict" and self.links[0].id == subject):
                    self.add(False, below, about, subject, said)
        if kind == "example":
            origin = fields["provenance"]
            self.back("trajectory", origin["trajectory"], below)
            if self.rows.get("trajectory", origin["trajectory"]) is None:
                self.back("plan", origin["plan"], below + 1)
        elif kind == "trajectory":
            self.back("plan", fields["plan"], below)
        elif kind == "plan":
            self.back("gap", fields["gap"], below)
        elif kind == "batch":
            self.plans_of(fields["examples"], below)
        elif kind == "verdict":
            self.back(fields["subject_kind"], fields["subject"], below)
        elif kind == "training_run":
            self.back("batch", fields["batch"], below)
        elif kind == "checkpoint":
            self.back("training_run", fields["training_run"], below)
            for parent in fields["parents"]:
                self.back("checkpoint", parent, below)

    def forward(self, kind: str, id: str, depth: int) -> None:
        below = depth + 1
        if kind == "example":
            for batch_id, batch in self.rows.of("batch").items():
                if id in batch["examples"]:
                    self.add(True, below, "batch", batch_id, batch)
                    for about, subject, said in self.rows.about(batch_id):
                        self.add(True, below + 1, about, subject, said)
                        self.dropped(id, said, subject, below + 2)
                    self.forward("batch", batch_id, below)
        following = {
            "gap": ("plan", "gap"),
            "plan": ("trajectory", "plan"),
            "batch": ("training_run", "batch"),
            "training_run": ("checkpoint", "training_run"),
        }
        if kind == "trajectory":
            self.example_of(id, below)
        if kind in following:
            next_kind, key = following[kind]
            for next_id, fields in self.rows.of(next_kind).items():
                if fields[key] == id:
                    self.add(True, below, next_kind, next_id, fields)
                    self.forward(next_kind, next_id, below)
        if kind == "checkpoint":
            for promotion_id, fields in self.rows.of("promotion").items():
                if fields["checkpoint"] == id:
                    self.add(True, below, "promotion", promotion_id, fields)
            for child_id, fields in self.rows.of("checkpoint").items():
                if id in fields["parents"]:
                    self.add(True, below, "checkpoint", child_id, fields)
                    self.forward("checkpoint", child_id, below)

    def example_of(self, trajectory: str, depth: int) -> None:
        """The examples that a trajectory became, each with its batch."""
        for example_id, batch_id in self.made_of.get(trajectory, ()):
            self.add(True, depth, "example", example_id, self.example(example_id))
            self.add(True, depth + 1, "batch", batch_id, self.rows.get("batch", batch_id))

    @cached_property
    def made_of(self) -> dict[str, list[tuple[str, str]]]:
        """(example, batch) by trajectory."""
        found: dict[str, list[tuple[str, str]]] = {}
        for batch_id, batch in self.rows.of("batch").items():
            for example_id in batch["examples"]:
                example = self.example(example_id)
                if example and example["provenance"]["trajectory"]:
                    trajectory = example["provenance"]["trajectory"]
                    found.setdefault(trajectory, []).append((example_id, batch_id))
        return found

    def dropped(self, example: str, verdict: Fields, verdict_id: str, depth: int) -> None:
        for said in verdict.get("dispositions", ()):
            if said["example"] == example and said["disposition"] == "drop":
                reason = f"this example was dropped: {said['reason']}"
                self.links.append(Link("forward", depth, "disposition", verdict_id, reason))

    def plans_of(self, examples: Sequence[str], depth: int) -> None:
        """A batch's experiments, each with what it gave, by gap; then what came of none."""
        counts: Counter[str] = Counter()
        others: Counter[str] = Counter()
        first: dict[str, str] = {}
        for example_id in examples:
            example = self.example(example_id)
            plan = example["provenance"]["plan"] if example else ""
            source = example["provenance"]["source"] if example else "external"
            first.setdefault(plan or source, example_id)
            if plan:
                counts[plan] += 1
            else:
                others[source] += 1
        by_gap: dict[str, list[str]] = {}
        for plan_id, _ in counts.most_common():
            fields = self.rows.get("plan", plan_id)
            by_gap.setdefault(fields["gap"] if fields else "", []).append(plan_id)
        for gap, plans in by_gap.items():
            for plan_id in plans:
                fields = self.rows.get("plan", plan_id)
                summary = _summary("plan", fields) if fields else "(not in the ledger)"
                told = f"{counts[plan_id]} examples, e.g. {first[plan_id][:12]}; {summary}"
                self.links.append(Link("back", depth, "plan", plan_id, told))
            self.back("gap", gap, depth + 1)
        for source, count in others.most_common():
            told = f"{count} {_NO_PLAN.get(source, source)}, e.g. {first[source][:12]}"
            self.links.append(Link("back", depth, "examples", "", told))

    def example(self, id: str) -> Fields | None:
        row = self.rows.get("example", id)
        if row is not None:
            return row
        if not self.store.has(id):
            return None
        try:
            return self.store.get_record(Example, id).model_dump(mode="json")
        except ValueError as error:
            raise CannotRun(f"{id[:12]} is stored but is no example; verify the run") from error


def _summary(kind: str, f: Fields) -> str:
    """One line about a record, for a person."""
    if kind == "example":
        made = f["provenance"]
        task = made["task"]
        place = (
            f"{task['environment']}/{task['skill']} level {task['level']} seed {task['seed']}"
            if task
            else "no task"
        )
        model, code = _cut(made["model"]) or "?", made["code"] or "?"
        by = f"by {made['agent'] or '?'}, model {model}, code {code}"
        return f"{made['source']}; {place}; {by}"
    if kind == "trajectory":
        task = f["task"]
        return (
            f"{f['outcome']} on {task['environment']}/{task['skill']} level {task['level']} seed "
            f"{task['seed']}; by {f['agent']}, model {_cut(f['model'])}, code {f['code']}"
        )
    if kind == "plan":
        return f"round {f['round']}, {f['goal']}"
    if kind == "gap":
        node = f"{f['environment']}/{f['skill']} level {f['level']}"
        return f"{node}: {f['accuracy']:.2f} [{f['low']:.2f}, {f['high']:.2f}] of {f['target']:.2f}"
    if kind == "batch":
        canary = ", a canary" if f["canary"] else ""
        targets = ", ".join(f["targets"])
        return f"round {f['round']}, {len(f['examples'])} examples{canary}, for {targets}"
    if kind == "verdict":
        return str(f["decision"]) if f["reasons"] else f"{f['decision']}: no reason given"
    if kind == "review":
        return f"{f['action']} by {f['reviewer']}: {f['reason']}"
    if kind == "release":
        return f"{f['examples']} examples as {f['released_digest'][:12]}, {f['dropped']} dropped"
    if kind == "revoke":
        return f"revoked by {f['reviewer']}: {f['reason']}"
    if kind == "training_run":
        return f"round {f['round']}, from {f['checkpoint'][:12]} on bytes {f['bytes_digest'][:12]}"
    if kind == "checkpoint":
        return f"round {f['round']}, {f['name']}, digest {f['digest'][:12]}"
    if kind == "promotion":
        return f"round {f['round']}, champion on verdict {f['verdict'][:12]}"
    return json.dumps(f, ensure_ascii=False)[:120]


def _cut(model: str) -> str:
    """A model's name, or the start of its digest."""
    return model[:12] if re.fullmatch(r"[0-9a-f]{64}", model) else model


def _common_start(left: str, right: str) -> int:
    length = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        length += 1
    return length
