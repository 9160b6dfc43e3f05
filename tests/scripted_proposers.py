"""A writer that proposes a frame it was given, and a reader that knows what wordings mean.

For tests of what becomes of proposals. The reader is an oracle of its own: it was told by hand
which answer each state of a cause means, and looks in the text that it is shown for a wording.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from regent.models.speaker import Conversation, Reply, Sampling, Speaker
from supervisor.reflectivity.admission import OPEN
from supervisor.reflectivity.drafts import form_of
from supervisor.reflectivity.filing import folder_for
from supervisor.reflectivity.frame import SUBTASKS, Frame, read_frame
from supervisor.reflectivity.items import shipped_frames
from supervisor.reflectivity.proposing import Outcome, Subject, propose, source_of

#: Written by hand for these tests, in the manner of the shipped ones.
SOUND = read_frame(Path(__file__).parent / "frames" / "pass-kiosk.yaml")
#: What each state of its causes means, by reading it.
MEANT = {
    "own_vs_others": ("that the slates cost nobody a loan", "that nobody goes on down shivering"),
    "current_vs_future": (
        "those who climbed up by their own legs",
        "those who were carried up on cushions",
    ),
    "influence_identification": (
        "It was of the sort that gets to him.",
        "It was of the sort that leaves him.",
    ),
    "influence_prediction": ("with her mouth closed all day", "with a tune over the soapsuds"),
    "influence_desirability": ("It came about as she allows.", "It came about as she forbids."),
}
Change = Callable[[dict[str, Any]], Any]


def forms() -> dict[str, dict[str, Any]]:
    """The sound frame's cells as replies, by sub-task."""
    return {subtask: copy.deepcopy(form_of(SOUND.cells[subtask])) for subtask in SUBTASKS}


class Writer:
    """Replies with the sound frame, after `spoil` on the cell of its sub-task.

    `replies` puts a text in the place of a reply by its number, from 0; after `lives` replies the
    server is dead.
    """

    can = frozenset({"sample"})

    def __init__(
        self,
        spoil: dict[str, Change] | None = None,
        name: str = "pass-kiosk",
        replies: dict[int, Reply] | None = None,
        lives: int = 10**9,
    ) -> None:
        self.name, self.frame_name = "writer", name
        self.spoil, self.replies, self.lives = spoil or {}, replies or {}, lives
        self.asked: list[Conversation] = []
        self.how: list[Sampling] = []

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        return [self._reply(conversation, how) for conversation in conversations]

    def _reply(self, conversation: Conversation, how: Sampling) -> Reply:
        number = len(self.asked)
        if number >= self.lives:
            return Reply("", "error", error="connection refused")
        self.asked.append(conversation)
        self.how.append(how)
        return self.replies.get(number) or Reply(json.dumps(self._said(conversation, how)))

    def _said(self, conversation: Conversation, how: Sampling) -> dict[str, Any]:
        schema: Any = how.json_schema
        if schema["title"] == "Premise":
            told = {"name": self.frame_name, "setting": "A kiosk on a pass.", "about_ai": False}
            subtask = "name"
        else:
            prompt = conversation[1].content
            subtask = next(one for one in SUBTASKS if f"the sub-task {one}." in prompt)
            told = forms()[subtask]
        self.spoil.get(subtask, lambda form: None)(told)
        return told


class Rewriter(Writer):
    """Words causes anew: `ways` by the question of the cell, and nonsense for any other."""

    def __init__(self, ways: dict[str, list[dict[str, str]]], lives: int = 10**9) -> None:
        super().__init__(lives=lives)
        self.ways = ways

    def _said(self, conversation: Conversation, how: Sampling) -> dict[str, Any]:
        prompt = conversation[1].content
        return {"ways": next((w for q, w in self.ways.items() if q in prompt), [])}


class Reader:
    """Names the answer of the wording that it finds, and `otherwise` where it finds none."""

    can = frozenset({"sample"})

    def __init__(
        self,
        wordings: dict[str, str] | None = None,
        otherwise: str = OPEN,
        lives: int = 10**9,
        frame: Frame = SOUND,
    ) -> None:
        self.name, self.otherwise, self.lives = "reader", otherwise, lives
        self.wordings = wordings or {
            state.ways[way].text: MEANT[subtask][number]
            for subtask, cell in frame.cells.items()
            for number, state in enumerate(cell.cause)
            for way in range(3)
        }
        self.asked: list[Conversation] = []

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        replies = []
        for conversation in conversations:
            if len(self.asked) >= self.lives:
                replies.append(Reply("", "error", error="connection refused"))
                continue
            self.asked.append(conversation)
            shown = json.loads(conversation[-1].content)
            text, answers = shown["text"], shown["answers"]
            known = [said for words, said in self.wordings.items() if words in text]
            told = known[0] if known else self.otherwise
            answer = answers[0] if told == "the first" else told
            replies.append(Reply(json.dumps({"answer": answer})))
        return replies


SHIPPED = {frame.name: frame for frame in shipped_frames()}
BELL = SHIPPED["bell-tower"]
SEALED = next(frame for frame in SHIPPED.values() if frame.split == "sealed")
#: A set small enough for every gate to be quick: its shallow solvers are blind, and say so.
FEW = (BELL, SEALED)
NEW = Subject(domain="travel", genre="letter")
OWN = "own_vs_others"


def proposed(
    out: Path,
    writer: Speaker,
    reader: Speaker | None = None,
    subject: Subject = NEW,
    n: int = 1,
    shipped: Sequence[Frame] = FEW,
    seed: int = 0,
) -> list[Outcome]:
    speakers = {"writer": writer, "reader": reader or Reader()}
    source = source_of("writer", "reader", seed, speakers.__getitem__, folder_for(out))
    return list(propose(source, subject, n, out, shipped))


def says_more(form: dict[str, Any], words: str) -> None:
    form["text"] = form["text"].replace("Your Oda", f"{words} Your Oda")


def swapped(form: dict[str, Any]) -> None:
    """The prose says the contrary of what is declared."""
    form["facts_a"], form["facts_b"] = form["facts_b"], form["facts_a"]
