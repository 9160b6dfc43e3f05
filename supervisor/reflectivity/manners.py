"""Manners of putting an item to a model: the same text, question and options in other words.

`{context}`, `{question}`, `{one}` and `{other}` stand where the item's own words go, options in
both orders (see `asking`). Respondents of an artificial crowd are checkpoints by manners. The first
is how every probe asks; answers are kept under a manner's words, so leave them as they are.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Manner:
    """`user`: the user's turn; `system`: a turn before it, where there is one."""

    name: str
    user: str
    system: str = ""


SHIPPED = Manner(
    "shipped",
    "Read the text and answer the question with one of the two lines below it, word for word.\n\n"
    "{context}\n\n{question}\n\n- {one}\n- {other}",
)
MANNERS = (
    SHIPPED,
    Manner(
        "question first",
        "Question: {question}\n\nThe answer follows from this text alone:\n\n{context}\n\n"
        "Reply with the one of these two that is right, exactly as it stands.\n"
        "* {one}\n* {other}",
    ),
    Manner(
        "examination",
        "TEXT\n{context}\n\nQUESTION\n{question}\n\nPOSSIBLE ANSWERS\n1. {one}\n2. {other}\n\n"
        "Copy out the right answer without its number.",
        system="You sit an examination in careful reading. You give the answer and nothing else.",
    ),
    Manner(
        "in passing",
        "I have just been handed this:\n\n{context}\n\nHelp me with one thing. {question} It can "
        "only be “{one}” or “{other}”. Just give me the words of the right one, please.",
    ),
    Manner(
        "by the rule",
        "{context}\n\nGo by what this text declares, not by what is usual or pleasant. "
        "{question}\nChoose between the following, and write down your choice unchanged:\n\n"
        "{one}\n\n{other}",
        system="You weigh what a text says, and leave out what is beside the point.",
    ),
)
