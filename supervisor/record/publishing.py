"""What each ledger row becomes in MLflow. Used by `audit` alone, which opens the client.

Every step can be repeated: runs and model versions are looked up by their tags, dataset inputs by
their digest, artifacts by their path, metrics by the time of their row.

Does not cover: when to publish, and what to do when MLflow fails (`audit`).
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from regent.store import Store
from supervisor.instrument import page_of
from supervisor.record.ledger import Row
from supervisor.record.lineage import Fields, Rows, champion

DIGEST_CHARACTERS = 36
_UNSAFE = re.compile(r"[^\w\-. /]")
_HEX = re.compile(r"[0-9a-f]{64}")


class Publishing:
    """One replay of the ledger's rows into MLflow, through `client` (an MlflowClient)."""

    def __init__(
        self,
        client: Any,
        lineage: str,
        rows: list[Row],
        store: Store,
        artifacts: str | None,
        checkpoints: Path | None,
    ) -> None:
        self.client, self.lineage, self.all, self.store = client, lineage, rows, store
        self.artifacts, self.checkpoints = artifacts, checkpoints
        self.model = model_name(lineage)
        self.rows = Rows(rows)
        self.key = rows[0].hash
        self.runs: dict[int | None, Any] = {}
        self.versions: dict[str, Any] = {}

    def replay(self, whole: bool, finished: bool) -> None:
        """Show the rows after the last published one (`whole`: all of them again)."""
        self.experiment = self._experiment()
        for run in every(
            self.client.search_runs,
            experiment_ids=[self.experiment],
            filter_string=f"tags.`regent.run` = '{self.key}'",
        ):
            number = run.data.tags.get("regent.round")
            self.runs[None if number is None else int(number)] = run
        parent = self._run(None)
        done = -1 if whole else int(parent.data.tags.get("regent.published", -1))
        if done < self.all[-1].seq:
            named = f"name = '{self.model}'"
            for version in every(self.client.search_model_versions, filter_string=named):
                if "regent.checkpoint" in version.tags:
                    self.versions[version.tags["regent.checkpoint"]] = version
            for row in self.all:
                if row.seq > done:
                    self._show(row, row.fields())
            self._crown()
            tip = self.all[-1]
            self.client.set_tag(parent.info.run_id, "regent.head", tip.hash)
            self.client.set_tag(parent.info.run_id, "regent.published", tip.seq)
        latest = max((n for n in self.runs if n is not None), default=0)
        for number, run in self.runs.items():
            over = finished or (number is not None and number < latest)
            if over and run.info.status == "RUNNING":
                self.client.set_terminated(run.info.run_id, "FINISHED", self._ended_ms(number))

    def _show(self, row: Row, fields: Fields) -> None:
        if row.kind == "run":
            self.client.log_dict(self._id(None), fields, "run.json")
            for name, value in fields.items():
                self.client.log_param(self._id(None), name, value)
        elif row.kind == "release":
            self._release(fields)
        elif row.kind == "verdict":
            self._verdict(row, fields)
        elif row.kind == "checkpoint":
            self._checkpoint(row, fields)
        elif row.kind == "metrics":
            self._metrics(row, int(fields["round"]), fields["metrics"])
        elif row.kind == "profile":
            named = {
                f"accuracy/{fields['split']}/{s['environment']}/{s['skill']}/{s['level']}": s[
                    "estimate"
                ]
                for s in fields["skills"]
            }
            self._metrics(row, 1 + len(self._closed_before(row.seq)), named)
        elif row.kind in ("review", "revoke"):
            subject = fields.get("subject", row.subject)
            run_id = self._id(self._round_of(subject))
            self.client.log_dict(run_id, fields, f"reviews/{row.kind}-{row.subject[:12]}.json")
            if row.kind == "revoke" and subject in self.versions:
                version = self.versions[subject].version
                self.client.set_model_version_tag(
                    self.model, version, "regent.revoked", fields["reason"]
                )

    def _release(self, fields: Fields) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        run, name = self._run(fields["round"]), fields["released_digest"]
        path = f"batches/{name}.jsonl"
        self._bytes(run.info.run_id, self.store.get(name), path)
        uri = f"{run.info.artifact_uri}/{path}"
        profile = {
            "num_rows": fields["examples"],
            "sha256": name,
            "merkle_root": fields["merkle_root"],
        }
        tags = {
            "mlflow.data.context": "training",
            "regent.sha256": name,
            "regent.merkle_root": fields["merkle_root"],
            "regent.deposited_sha256": fields["bytes_digest"],
            "regent.batch": fields["batch"],
            "regent.verdict": fields["verdict"],
        }
        dataset = Dataset(
            name=f"batch-r{fields['round']}-{name[:12]}",
            digest=name[:DIGEST_CHARACTERS],
            source_type="local" if urlparse(uri).scheme in ("", "file") else "mlflow-artifacts",
            source=json.dumps({"uri": uri}),
            profile=json.dumps(profile),
        )
        entry = DatasetInput(dataset, [InputTag(key, value) for key, value in tags.items()])
        self.client.log_inputs(run.info.run_id, [entry])

    def _verdict(self, row: Row, fields: Fields) -> None:
        number = self._round_of(fields["subject"])
        run_id, place = self._id(number), f"verdicts/{fields['subject_kind']}-{row.subject[:12]}"
        self.client.log_dict(run_id, fields, f"{place}/verdict.json")
        reasons = "\n".join([fields["decision"], *fields["reasons"]])
        self.client.log_text(run_id, reasons + "\n", f"{place}/reasons.txt")
        named: dict[str, float] = {}
        tokens, kept = 0, set[str]()
        # Required ones first: the page that several share is named after the first.
        for seen in sorted(fields["measurements"], key=lambda seen: not seen["required"]):
            against = "" if seen["reference"] == "none" else f"/vs_{seen['reference']}"
            kind = fields["subject_kind"]
            named_as = f"{kind}/{seen['instrument']}/{seen['quantity']}{against}"
            tokens += seen["tokens"]
            if seen["outcome"] == "measured":
                named[named_as] = seen["estimate"]
            evidence = seen["evidence"]
            file = _UNSAFE.sub("_", named_as).replace("/", ".")
            if evidence in kept:
                continue
            if _HEX.fullmatch(evidence) and self.store.has(evidence):
                kept.add(evidence)
                told = self.store.get(evidence)
                self._bytes(run_id, told, f"{place}/evidence/{evidence}.json")
                page = page_of(told)
                if page and self.store.has(page):
                    self._bytes(run_id, self.store.get(page), f"{place}/pages/{file}.html")
            elif evidence:
                self.client.log_text(run_id, evidence, f"{place}/evidence/{file}.txt")
        named[f"{fields['subject_kind']}/alpha_spent"] = fields["alpha_spent"]
        named[f"{fields['subject_kind']}/supervisor_tokens"] = tokens
        self._metrics(row, number, named)
        self._describe(run_id, number)
        version = self.versions.get(fields["subject"])
        if version is not None:
            self.client.update_model_version(self.model, version.version, _in_words(fields))
            said = {"regent.verdict": row.subject, "regent.decision": fields["decision"]}
            for key, value in said.items():
                self.client.set_model_version_tag(self.model, version.version, key, value)

    def _describe(self, run_id: str, number: int) -> None:
        """The round's description: each verdict and its reasons, as MLflow's page shows it; those
        on canaries last, as a veto there is what should be.
        """
        parts, canaries = list[str](), list[str]()
        for fields in self.rows.of("verdict").values():
            if self._round_of(fields["subject"]) == number:
                batch = self.rows.get("batch", fields["subject"])
                canary = bool(batch and batch["canary"])
                what = "a canary, known to be bad," if canary else fields["subject_kind"]
                told = f"**{what} {fields['subject'][:12]}**: {_in_words(fields)}"
                (canaries if canary else parts).append(told)
        self.client.set_tag(run_id, "mlflow.note.content", "\n\n".join([*parts, *canaries]))

    def _checkpoint(self, row: Row, fields: Fields) -> None:
        if row.subject in self.versions:
            return
        if not self.client.search_registered_models(f"name = '{self.model}'"):
            self.client.create_registered_model(self.model)
        run = self._run(fields["round"])
        place = f"checkpoints/{fields['name']}"
        self.client.log_dict(run.info.run_id, fields, f"{place}/checkpoint.json")
        parent = fields["parents"][0] if fields["parents"] else ""
        tags = {
            "regent.checkpoint": row.subject,
            "regent.digest": fields["digest"],
            "regent.parent": parent,
            "regent.round": fields["round"],
            "regent.name": fields["name"],
            "regent.run": self.key,
        }
        if parent in self.versions:
            tags["regent.parent_version"] = self.versions[parent].version
        weights = self.checkpoints / fields["name"] if self.checkpoints else None
        source = f"{run.info.artifact_uri}/{place}"
        # a server refuses sources outside its artifacts, so only a local view points at weights
        if self.artifacts and weights is not None and weights.is_dir():
            source = weights.resolve().as_uri()
        self.versions[row.subject] = self.client.create_model_version(
            self.model, source, run.info.run_id, tags=tags
        )

    def _crown(self) -> None:
        ruler = self.versions.get(champion(self.all) or "")
        if ruler is not None and champion_version(self.client, self.model) != str(ruler.version):
            self.client.set_registered_model_alias(self.model, "champion", ruler.version)

    def _metrics(self, row: Row, number: int, named: dict[str, float]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(_UNSAFE.sub("_", name), float(value), _ms(row), number)
            for name, value in named.items()
            if math.isfinite(value)
        ]
        if metrics:
            self.client.log_batch(self._id(number), metrics=metrics)

    def _bytes(self, run_id: str, data: bytes, path: str) -> None:
        folder, _, name = path.rpartition("/")
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / name).write_bytes(data)
            self.client.log_artifact(run_id, str(Path(scratch) / name), folder)

    def _round_of(self, subject: str) -> int:
        for kind in ("batch", "checkpoint"):
            fields = self.rows.get(kind, subject)
            if fields is not None:
                return int(fields["round"])
        return 0

    def _id(self, number: int | None) -> str:
        return str(self._run(number).info.run_id)

    def _run(self, number: int | None) -> Any:
        """The MLflow run of a round, or (None) of the whole Regent run; made if there is none."""
        if number not in self.runs:
            tags = {"regent.run": self.key}
            if number is None:
                name = f"run-{self.key[:8]}"
            else:
                name = f"round {number}"
                tags |= {"regent.round": str(number), "mlflow.parentRunId": self._id(None)}
            self.runs[number] = self.client.create_run(
                self.experiment, start_time=self._began_ms(number), tags=tags, run_name=name
            )
        return self.runs[number]

    def _closed_before(self, seq: int) -> list[Row]:
        """The rows that closed a round, before row `seq`."""
        return [row for row in self.all if row.kind == "round" and row.seq < seq]

    def _began_ms(self, number: int | None) -> int:
        """When the run began, or a round: where the one before it closed."""
        closed = self._closed_before(len(self.all))
        begun = closed[number - 2] if number and 2 <= number <= len(closed) + 1 else self.all[0]
        return _ms(begun)

    def _ended_ms(self, number: int | None) -> int:
        closed = self._closed_before(len(self.all))
        return _ms(closed[number - 1] if number and number <= len(closed) else self.all[-1])

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(self.lineage)
        if found is not None:
            return str(found.experiment_id)
        return str(self.client.create_experiment(self.lineage, artifact_location=self.artifacts))


def _ms(row: Row) -> int:
    """When the row was written, in Unix milliseconds."""
    return int(datetime.fromisoformat(row.at).timestamp() * 1000)


def _in_words(verdict: Fields) -> str:
    """The decision, then its reasons, as Markdown."""
    return "\n".join([verdict["decision"], "", *(f"- {reason}" for reason in verdict["reasons"])])


def model_name(lineage: str) -> str:
    """The lineage as the registry may spell it."""
    return re.sub(r"[/:']", "-", lineage)


def champion_version(client: Any, name: str) -> str:
    """The version of the registered model that `champion` stands for, empty if none."""
    found = client.search_registered_models(f"name = '{name}'")
    return str(found[0].aliases.get("champion", "")) if found else ""


def every(search: Any, **query: Any) -> list[Any]:
    """All pages of an MLflow search."""
    found: list[Any] = []
    token = None
    while True:
        page = search(page_token=token, **query)
        found.extend(page)
        token = page.token
        if not token:
            return found
