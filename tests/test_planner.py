"""The bandit shares the budget by measured progress; a model proposes; nothing is run twice.

Whatever the model answers (nothing, an endless reply, no JSON), a full plan comes out and says
who planned it.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.bandit import Progress, allocate, shares
from agents.planner import plan, prompt
from agents.proposals import Asked, Proposal, chat_ask, proposal_schema
from environments.skills import split_of
from regent.config import ExperimentConfig
from regent.records import ExperimentPlan, Gap

CONFIG = ExperimentConfig(experiments=4, tasks=6)


def gap(skill: str, accuracy: float, level: int = 0) -> Gap:
    return Gap(
        environment="reasoning", skill=skill, level=level, accuracy=accuracy,
        low=0.0, high=0.7, target=0.8, n=32,
    )  # fmt: skip


CHAIN, SPELL, LCM = gap("chain_sum", 0.45), gap("spell_backward", 0.1), gap("lcm", 0.02)


def proposal(name: str, reason: str, strategy: str = "teach", difficulty: str = "same") -> Asked:
    fields = {"gap": name, "strategy": strategy, "difficulty": difficulty, "reason": reason}
    return Asked(Proposal.model_validate(fields))


class Scripted:
    """Gives these answers, whatever it is asked."""

    def __init__(self, *answers: Asked) -> None:
        self.answers = list(answers)

    def __call__(self, prompts: Sequence[str], schema: type[Proposal]) -> list[Asked]:
        return (self.answers + [Asked(None, "no reply in time")] * len(prompts))[: len(prompts)]


def planned(
    ask: Scripted, past: Sequence[ExperimentPlan] = (), round: int = 1, seed: int = 7
) -> tuple[list[ExperimentPlan], list[str]]:
    return plan([CHAIN, SPELL], {CHAIN.id: 0.5, SPELL.id: 0.5}, CONFIG, seed, round, ask, past=past)


# The bandit.


def test_without_history_the_learnable_middle_leads_and_two_skills_share() -> None:
    share = shares([LCM, SPELL, CHAIN, gap("gcd", 0.01)], [], np.random.default_rng(0))
    worked_on = {name for name, value in share.items() if value > 0}
    assert max(share, key=lambda name: share[name]) == CHAIN.id
    assert len(worked_on) == 2


def test_measured_progress_draws_the_budget_in_either_direction() -> None:
    for after in (0.9, 0.1):
        history = [
            Progress(
                "reasoning/spell_backward", 1, before=0.5, after=after, n_before=200, n_after=200
            ),
            Progress("reasoning/chain_sum", 1, before=0.5, after=0.5, n_before=200, n_after=200),
        ]
        share = shares([CHAIN, SPELL], history, np.random.default_rng(0))
        assert share[SPELL.id] > 0.7


def test_progress_of_the_last_round_outweighs_that_of_the_first() -> None:
    def history(early: float, late: float) -> list[Progress]:
        steady = [Progress("reasoning/chain_sum", r, 0.5, 0.6, 900, 900) for r in (1, 2, 3)]
        moved = [
            Progress("reasoning/spell_backward", r, 0.2, 0.2 + gain, 900, 900)
            for r, gain in ((1, early), (2, 0.0), (3, late))
        ]
        return steady + moved

    late = shares([CHAIN, SPELL], history(0.0, 0.5), np.random.default_rng(0))
    early = shares([CHAIN, SPELL], history(0.5, 0.0), np.random.default_rng(0))
    assert late[SPELL.id] > early[SPELL.id]


def test_a_skill_at_chance_is_not_taken_for_half_learned() -> None:
    coin = gap("syllogism", 0.5)
    for guessing, leader in (({}, coin), ({coin.id: 0.5}, CHAIN)):
        share = shares([coin, CHAIN, SPELL], [], np.random.default_rng(0), guessing=guessing)
        assert max(share, key=lambda name: share[name]) == leader.id


def test_no_skill_is_out_of_reach() -> None:
    gaps = [CHAIN, gap("gcd", 0.4), SPELL, LCM]
    seen = Counter(
        name
        for seed in range(400)
        for name, value in shares(gaps, [], np.random.default_rng(seed)).items()
        if value > 0
    )
    assert all(seen[one.id] > 0 for one in gaps)
    assert seen[LCM.id] < seen[CHAIN.id]


@given(
    st.lists(
        st.tuples(st.sampled_from(["lcm", "gcd", "products"]), st.integers(0, 2), st.floats(0, 1)),
        max_size=6,
        unique_by=lambda item: item[:2],
    ),
    st.integers(0, 5),
)
def test_shares_and_whole_experiments_always_add_up(
    drawn: list[tuple[str, int, float]], seed: int
) -> None:
    gaps = [gap(skill, accuracy, level) for skill, level, accuracy in drawn]
    share = shares(gaps, [], np.random.default_rng(seed))
    counts = allocate(share, 8)
    assert share == shares(gaps, [], np.random.default_rng(seed))
    assert sum(share.values()) == pytest.approx(1.0 if gaps else 0.0)
    assert sum(counts.values()) == (8 if gaps else 0)
    assert all(abs(counts[name] - 8 * value) < 1 for name, value in share.items())


# The plan.


def test_a_proposal_becomes_a_plan_on_training_tasks() -> None:
    plans, _ = planned(Scripted(proposal("r1", "sums come first", "attempt")))
    first = plans[0]
    assert (first.skill, first.level, first.strategy) == ("chain_sum", 0, "attempt")
    assert first.gap == CHAIN.id
    assert first.parents == (CHAIN.id,)
    assert first.goal.startswith("planned by the model")
    assert "sums come first" in first.goal
    assert len(first.tasks) == 6
    assert {split_of(task) for one in plans for task in one.tasks} == {"train"}


@pytest.mark.parametrize("error", ["no reply in time", "the reply was cut at the token limit"])
def test_without_a_usable_reply_the_bandit_plans_and_says_so(error: str) -> None:
    plans, notes = planned(Scripted(*[Asked(None, error)] * 4))
    assert Counter(one.skill for one in plans) == {"chain_sum": 2, "spell_backward": 2}
    assert all(one.goal.startswith(f"planned by the bandit ({error})") for one in plans)
    assert len([note for note in notes if error in note]) == 4


def test_a_model_that_always_wants_the_same_gap_does_not_move_the_budget() -> None:
    reasons = ["sums", "adding twice is easier", "carry digits", "because"]
    plans, notes = planned(Scripted(*[proposal("r1", reason) for reason in reasons]))
    assert Counter(one.skill for one in plans) == {"chain_sum": 2, "spell_backward": 2}
    assert any("had its share already" in note for note in notes)


def test_a_near_same_proposal_is_refused() -> None:
    plans, notes = planned(
        Scripted(proposal("r1", "Practise the sums."), proposal("r1", "practise the sums"))
    )
    assert sum(one.goal.startswith("planned by the model") for one in plans) == 1
    assert any("repeats another proposal" in note for note in notes)


def test_easier_tasks_are_given_only_where_almost_nothing_succeeds() -> None:
    high, low = gap("chain_sum", 0.4, level=1), gap("gcd", 0.05, level=1)
    ask = Scripted(
        proposal("r1", "a", difficulty="easier"), proposal("r2", "b", difficulty="easier")
    )
    config = ExperimentConfig(experiments=2, tasks=2)
    plans, _ = plan([high, low], {high.id: 0.5, low.id: 0.5}, config, 1, 1, ask)
    assert [(one.skill, one.level) for one in plans] == [("chain_sum", 1), ("gcd", 0)]


def test_no_task_is_met_twice_within_a_round_or_across_rounds() -> None:
    first, _ = planned(Scripted())
    second, _ = planned(Scripted(), past=first, round=2)
    tasks = [task for one in [*first, *second] for task in one.tasks]
    assert len(tasks) == len(set(tasks)) == 48


def test_an_experiment_that_would_repeat_an_earlier_one_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, _ = planned(Scripted())
    known = {one.skill: list(one.tasks) for one in first}
    monkeypatch.setattr("agents.planner.items", lambda node, n, seed, split: known[node.skill])
    plans, notes = planned(Scripted(), past=first, round=2)
    assert plans == []
    assert sum(note.startswith("refused: ") for note in notes) == 4


def test_equal_seeds_plan_equally_and_other_seeds_otherwise() -> None:
    one, again, other = planned(Scripted()), planned(Scripted()), planned(Scripted(), seed=8)
    assert [p.id for p in one[0]] == [p.id for p in again[0]]
    assert {p.id for p in one[0]}.isdisjoint(p.id for p in other[0])


def test_the_longest_reason_fits_into_a_plan() -> None:
    plans, _ = planned(Scripted(proposal("r1", "x" * 120)))
    assert "x" * 120 in plans[0].goal


def test_the_prompt_stays_short() -> None:
    assert len(prompt({"r1": CHAIN, "r2": SPELL}, 1, 8)) < 600


# Asking, over HTTP.

GOOD = json.dumps({"gap": "r1", "strategy": "teach", "difficulty": "same", "reason": "sums"})


class Endpoint(ThreadingHTTPServer):
    """An OpenAI-compatible server that says these (text, finish_reason) one after another."""

    def __init__(self, *script: tuple[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.script = list(script)
        self.requests: list[dict[str, object]] = []


class _Answering(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(json.loads(body))
        text, finish = self.server.script.pop(0) if self.server.script else ("", "stop")
        self.send_response(500 if finish == "error" else 200)
        answer = {
            "id": "x", "object": "chat.completion", "created": 0, "model": "m",
            "choices": [{"index": 0, "finish_reason": finish,
                         "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }  # fmt: skip
        data = json.dumps(answer).encode()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[list[Endpoint]]:
    running: list[Endpoint] = []
    yield running
    for server in running:
        server.shutdown()
        server.server_close()


def asked_of(running: list[Endpoint], *script: tuple[str, str]) -> tuple[Asked, Endpoint]:
    server = Endpoint(*script)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    running.append(server)
    ask = chat_ask(f"http://127.0.0.1:{server.server_port}/v1", "key", "m", attempts=3)
    (answer,) = ask(["plan"], proposal_schema(["r1", "r2"]))
    return answer, server


def test_a_request_bounds_every_field_and_carries_no_seed(serve: list[Endpoint]) -> None:
    answer, server = asked_of(serve, (GOOD, "stop"))
    assert answer.proposal is not None
    assert answer.proposal.gap == "r1"
    (request,) = server.requests
    assert "seed" not in request
    schema = json.dumps(request["response_format"])
    assert '"enum": ["r1", "r2"]' in schema
    assert '"maxLength": 120' in schema


@pytest.mark.parametrize(
    ("spoiled", "finish", "complaint"),
    [
        ("I would rather not.", "stop", "not a proposal"),
        ("", "stop", "not a proposal"),
        (GOOD.replace("r1", "r9"), "stop", "not a proposal"),
        (GOOD[:30], "length", "cut at the token limit"),
        ("", "error", "answered 500"),
    ],
)
def test_a_spoiled_reply_is_asked_for_again_and_then_recorded(
    serve: list[Endpoint], spoiled: str, finish: str, complaint: str
) -> None:
    mended, server = asked_of(serve, (spoiled, finish), (GOOD, "stop"))
    assert mended.proposal is not None
    assert len(server.requests) == 2
    failed, server = asked_of(serve, *[(spoiled, finish)] * 9)
    assert failed.proposal is None
    assert complaint in failed.error
    assert len(server.requests) == 3


def test_every_try_is_paid_for(serve: list[Endpoint]) -> None:
    answer, _ = asked_of(serve, ("no", "stop"), (GOOD[:30], "length"), (GOOD, "stop"))
    assert answer.tokens == 45


def test_a_dead_endpoint_is_a_recorded_failure() -> None:
    (answer,) = chat_ask("http://127.0.0.1:9/v1", "key", "m")(["plan"], proposal_schema(["r1"]))
    assert answer == Asked(None, "the endpoint cannot be reached")
