"""What happens at each station of the loop. Effects live here; the rules are in the rooms it calls.

Every station can run twice: what it would make is looked for in the ledger first, and the ledger
takes each record once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agents import metrics
from agents.anchors import anchor_conversations, anchor_examples
from agents.bandit import shares
from agents.code import code_version
from agents.crew import run_experiments
from agents.curator import assemble, profile_examples
from agents.desk import Desk, EndpointAddress
from agents.held_out import Scores, gains, held_out
from agents.live import View
from agents.planner import plan as plan_experiments
from agents.profiler import gaps, guess_rates, no_gap, profile, suspects
from agents.proposals import chat_ask
from agents.reading import Reading, State
from agents.serving import Serving
from agents.summary import RoundSummary
from agents.training import train_on_ray
from environments.skills import ItemResult, Node, skill_tree
from regent.config import RunConfig
from regent.errors import CannotRun
from regent.models.endpoint import Endpoint
from regent.models.speaker import Sampling
from regent.records import (
    CapabilityProfile,
    Checkpoint,
    Example,
    ExperimentPlan,
    Gap,
    Promotion,
    Record,
    TaskRef,
    Trajectory,
    Verdict,
    canonical_json,
)
from regent.store import Store
from supervisor.record.ledger import Ledger
from supervisor.record.vault import build_batch
from supervisor.service import Supervisor, verdict_of

Update = dict[str, Any]
_ANCHOR_TOKENS = 96


class Stations:
    """The loop's stations over one run's engine, desk, supervisor, store and (read only) ledger."""

    def __init__(
        self,
        folder: Path,
        config: RunConfig,
        *,
        serving: Serving,
        desk: Desk,
        supervisor: Supervisor,
        view: View,
        on_station: Callable[[int, str, str], None],
        planner: EndpointAddress | None = None,
        worker: EndpointAddress | None = None,
    ) -> None:
        self.folder, self.config = folder, config
        self.serving, self.desk, self.supervisor, self.view = serving, desk, supervisor, view
        self.store = Store(folder / "store")
        self.ledger = Ledger(
            f"sqlite:///{folder.resolve() / 'ledger.sqlite'}", folder / "supervisor", read_only=True
        )
        self.nodes = skill_tree(config.environments)
        self.code = code_version()
        self.reading = Reading(self.store, self.ledger)
        self._on_station = on_station
        self._planner, self._worker = planner, worker
        self._summary: RoundSummary | None = None

    def station(self, name: str) -> Callable[[State], Update]:
        """The station called `name`, timed, shown and counted."""
        work: Callable[[State], Update] = getattr(self, f"_{name}")

        def run(state: State) -> Update:
            self._on_station(state["round"], name, state["champion"])
            self.view.station(name)
            summary = self._round(state["round"])
            started = time.monotonic()
            try:
                return work(state)
            finally:
                seconds = time.monotonic() - started
                metrics.add_station_seconds(name, seconds)
                if name != "promote":
                    summary.add_seconds(name, seconds)

        return run

    def waits_for(self, verdict_id: str) -> bool:
        """Whether the run stops here for a person."""
        if self.config.on_quarantine != "wait" or not verdict_id:
            return False
        return self.reading.verdict(verdict_id).decision == "quarantine"

    def reviewed(self, verdict_id: str) -> bool:
        return bool(self.supervisor.call("review_of", verdict_id=verdict_id))

    def after_review(self, kind: str, state: State) -> Update:
        """What follows from a person's word on a quarantined subject."""
        if kind == "checkpoint":
            return {}
        batch = self.reading.batch(state["batch"])
        verdict = self.reading.verdict(state["batch_verdict"])
        return {"released": self.supervisor.call("release_reviewed", batch=batch, verdict=verdict)}

    def _profile(self, state: State) -> Update:
        round_ = state["round"]
        self.view.round(round_)
        champion = self.reading.checkpoint(state["champion"])
        endpoint = self.serving.speaker(champion)
        seed = self.config.seed * 1000 + round_
        measured, results = self._measured(champion, endpoint, self.nodes, seed, "profile")
        doubtful = suspects(measured, self.config.profile)
        found: list[Gap] = []
        if doubtful:
            second, more = self._measured(champion, endpoint, doubtful, seed, "confirm")
            results += more
            found = gaps(measured, second, self.config.profile)
        self._append([("gap", gap, None) for gap in found])
        if not found:
            self._notes(round_, [no_gap(measured, self.config.profile)])
        for gap in found:
            self.view.note(
                f"gap: {gap.environment}/{gap.skill} level {gap.level}, right {gap.accuracy:.0%}"
            )
        answers = self.store.put(
            canonical_json([_answer(r) for r in results if r.score is not None])
        )
        tokens = sum(result.tokens for result in results)
        self._round(round_).note_gaps(found, tokens)
        self.view.tokens(tokens)
        return {
            "profile": measured.id,
            "answers": answers,
            "gaps": [gap.id for gap in found],
            "plans": [],
            "batch": "",
            "batch_verdict": "",
            "released": "",
            "candidate": "",
            "checkpoint_verdict": "",
        }

    def _plan(self, state: State) -> Update:
        round_ = state["round"]
        past = self.reading.past_plans()
        made = [plan for plan in past if plan.round == round_]
        if not made:
            found = self.reading.gaps(state)
            rng = np.random.default_rng([self.config.seed, round_, 5])
            guessing = guess_rates(found, self.config.seed)
            budget = shares(found, self.reading.history(), rng, guessing=guessing)
            address = self._planner or self._address(state["champion"])
            ask = chat_ask(address.base_url, address.api_key, address.model)
            made, notes = plan_experiments(
                found, budget, self.config.experiment, self.config.seed, round_, ask, past
            )
            self._append([("plan", plan, None) for plan in made])
            self._notes(round_, notes)
        for plan in made:
            self.view.note(plan.goal)
        return {"plans": [plan.id for plan in made]}

    def _experiment(self, state: State) -> Update:
        plans = self.reading.plans(state)
        self.desk.serve(self._worker or self._address(state["champion"]))

        def keep(plan: ExperimentPlan, trajectories: list[Trajectory]) -> None:
            failed = all(trajectory.outcome == "failed" for trajectory in trajectories)
            if failed and not self._worker and not self.serving.alive():
                # Not kept, so it is due again: a dead engine is no attempt of the model's.
                raise CannotRun(
                    f"the engine died while experimenting; see {self.folder}/logs/engine, "
                    f"then `regent resume {self.folder}`"
                )
            # One transaction: an experiment stands in the ledger once and whole, or not at all.
            rows: list[tuple[str, Record | dict[str, Any], str | None]] = [
                ("trajectory", trajectory, None) for trajectory in trajectories
            ]
            ids = [trajectory.id for trajectory in trajectories]
            rows.append(
                ("experiment", {"plan": plan.id, "round": plan.round, "trajectories": ids}, plan.id)
            )
            self.supervisor.append(rows)
            self.view.tokens(sum(trajectory.tokens for trajectory in trajectories))

        run_experiments(
            self.reading.due(plans), self.desk, self.config.experiment, self._on_worker, keep
        )
        self._round(state["round"]).note_trajectories(plans, self.reading.trajectories(state))
        return {}

    def _assemble(self, state: State) -> Update:
        round_ = state["round"]
        targets = self.reading.target_skills(state)
        answers = [_result(row) for row in json.loads(self.store.get(state["answers"]))]
        replay = profile_examples(answers, state["champion"], self.code, targets)
        replay += self._rehearsed(state)
        examples, notes = assemble(
            self.reading.trajectories(state),
            replay,
            self.config.curate,
            self.config.seed,
            round_,
            targets,
            self.config.train.method,
        )
        self._notes(round_, notes)
        if not examples:
            self._notes(round_, ["nothing was collected: no batch this round"])
            return {"batch": ""}
        batch, data = build_batch(examples, round_, targets)
        self.store.put(data)
        for example in examples:
            self.store.put_record(example)
        self.store.put_record(batch)
        metrics.add_examples(len(examples))
        self._round(round_).note_examples(examples)
        return {"batch": batch.id}

    def _judge_batch(self, state: State) -> Update:
        batch = self.reading.batch(state["batch"])
        data, examples = self.reading.contents(batch)
        answer = self.supervisor.judge_batch(batch, data, examples, self.reading.references(state))
        verdict = self._judged(state["round"], "batch", answer)
        return {"batch_verdict": verdict.id, "released": answer["released"]}

    def _train(self, state: State) -> Update:
        round_ = state["round"]
        parent = self.reading.checkpoint(state["champion"])
        targets = self.reading.targets(state)
        before = self._held_out(state["champion"], targets, round_)
        trained = train_on_ray(
            self.folder,
            state["batch"],
            state["released"],
            parent,
            self.config.train,
            self.config.seed * 1000 + round_,
            round_,
            lambda done, total, loss: self.view.progress(f"training, loss {loss:.3f}", done, total),
            lambda line: self._notes(round_, [line]),
        )
        self._append(
            [("training_run", trained.run, None), ("checkpoint", trained.checkpoint, None)]
        )
        after = self._held_out(trained.checkpoint.id, targets, round_)
        for skill, gain in gains(before, after).items():
            self._round(round_).note_held_out(skill, gain)
            self.view.gain(skill, gain["before"], gain["after"], gain["low"], gain["high"])
            metrics.set_held_out_accuracy(skill, gain["after"])
        return {"candidate": trained.checkpoint.id}

    def _judge_checkpoint(self, state: State) -> Update:
        candidate = self.reading.checkpoint(state["candidate"])
        answer = self.supervisor.judge_checkpoint(
            candidate, self.reading.references(state), self.reading.target_skills(state)
        )
        verdict = self._judged(state["round"], "checkpoint", answer)
        return {"checkpoint_verdict": verdict.id}

    def _promote(self, state: State) -> Update:
        """Crown the successor if the verdict (or a person) lets it, close the round."""
        round_, champion = state["round"], state["champion"]
        promoted = False
        if state.get("candidate") and state.get("checkpoint_verdict"):
            verdict = self.reading.verdict(state["checkpoint_verdict"])
            word = self.supervisor.call("review_of", verdict_id=verdict.id)
            promoted = verdict.decision == "approve" or word == "release"
            if promoted:
                champion = state["candidate"]
                crowned = Promotion(
                    parents=(champion, verdict.id),
                    round=round_,
                    checkpoint=champion,
                    verdict=verdict.id,
                )
                self._append([("promotion", crowned, champion)])
        summary = self._round(round_)
        summary.close(state, champion, promoted)
        self._append([("round", summary.fields(), f"round-{round_}")])
        figures = summary.metrics()
        self._append([("metrics", {"round": round_, "metrics": figures}, f"round-{round_}")])
        behind = self.supervisor.call("publish", finished=round_ >= self.config.rounds)
        if behind:
            self.view.note(behind)
        return {"round": round_ + 1, "champion": champion}

    def _measured(
        self, champion: Checkpoint, endpoint: Endpoint, nodes: list[Node], seed: int, split: Any
    ) -> tuple[CapabilityProfile, list[ItemResult]]:
        measured, results = profile(endpoint, nodes, self.config.profile, champion.id, seed, split)
        if all(result.score is None for result in results):
            raise CannotRun(
                "the engine answered none of the profile's items; "
                "see logs/engine/engine.log, then `regent resume`"
            )
        self._append([("profile", measured, None)])
        return measured, results

    def _rehearsed(self, state: State) -> list[Example]:
        """The champion's own replies to open-ended prompts, so that training keeps them."""
        wanted = round(self.config.curate.examples * self.config.curate.replay_share)
        if not wanted:
            return []
        rng = np.random.default_rng([self.config.seed, state["round"], 6])
        asked = anchor_conversations(wanted, rng)
        replies = self._champion(state["champion"]).sample(
            asked, Sampling(max_tokens=_ANCHOR_TOKENS)
        )
        self._round(state["round"]).add_tokens(sum(reply.tokens for reply in replies))
        return anchor_examples(asked, replies, state["champion"], self.code)

    def _held_out(self, checkpoint: str, targets: list[Node], round_: int) -> Scores:
        seed = self.config.seed * 1000 + round_
        scores, tokens = held_out(self._champion(checkpoint), targets, seed)
        self._round(round_).add_tokens(tokens)
        return scores

    def _judged(self, round_: int, kind: str, answer: dict[str, Any]) -> Verdict:
        verdict = verdict_of(answer)
        self._round(round_).note_verdict(kind, verdict, answer["costs"])
        metrics.add_verdict(verdict.decision, kind)
        tokens = sum(m.tokens for m in verdict.measurements)
        metrics.add_tokens("supervise", tokens)
        self.view.verdict(kind, verdict.decision, verdict.reasons)
        self.view.tokens(tokens)
        for canary in answer.get("canaries", []):
            word = "caught" if canary["caught"] else "MISSED"
            self.view.note(f"canary ({canary['kind_of_harm']}): {word}")
        return verdict

    def _champion(self, checkpoint: str) -> Endpoint:
        return self.serving.speaker(self.reading.checkpoint(checkpoint))

    def _address(self, checkpoint: str) -> EndpointAddress:
        return self.serving.address(self.reading.checkpoint(checkpoint))

    def _on_worker(self, event: dict[str, Any]) -> None:
        self.view.worker(event)

    def _notes(self, round_: int, notes: list[str]) -> None:
        for note in notes:
            self.view.note(note)
        self._round(round_).add_notes(notes)

    def _append(self, rows: list[tuple[str, Any, str | None]]) -> None:
        self.supervisor.append(rows)

    def _round(self, number: int) -> RoundSummary:
        if self._summary is None or self._summary.round != number:
            self._summary = RoundSummary.load(self.folder / "rounds", number)
        return self._summary


def _answer(result: ItemResult) -> dict[str, Any]:
    return {
        "ref": result.ref.model_dump(),
        "reply": result.reply,
        "score": result.score,
        "tokens": result.tokens,
    }


def _result(row: dict[str, Any]) -> ItemResult:
    return ItemResult(TaskRef(**row["ref"]), row["reply"], row["score"], row["tokens"])
