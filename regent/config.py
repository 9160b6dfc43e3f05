"""The run's configuration and the supervision policy: YAML in, validated pydantic out.

Unknown keys are refused with the nearest known key named; a file that does not parse is refused
with its line. The resolved configuration is written into the run's folder before anything starts.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from regent.errors import CannotRun
from regent.records import canonical_json, digest

Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Caps(Section):
    """Limits on one experiment, enforced outside the worker."""

    steps: int = Field(12, ge=1, description="model calls and instrument readings a task")
    tokens: int = Field(4_000, ge=1, description="prompt and completion tokens a task")
    seconds: float = Field(90.0, gt=0, description="wall-clock an experiment (one plan)")


class ProfileConfig(Section):
    items: int = Field(32, ge=4, description="fresh items a node of the skill tree")
    confirm_items: int = Field(
        32, ge=4, description="items of the second split that confirms a gap"
    )
    target: float = Field(0.8, gt=0, le=1, description="accuracy below which a node is a gap")
    confidence: float = Field(0.95, gt=0.5, lt=1)


class ExperimentConfig(Section):
    workers: int = Field(4, ge=1, description="Ray actors at once")
    experiments: int = Field(8, ge=1, description="experiments planned a round")
    tasks: int = Field(24, ge=1, description="tasks an experiment")
    concurrency: int = Field(12, ge=1, description="tasks that one worker keeps in flight")
    caps: Caps = Caps()


class CurateConfig(Section):
    examples: int = Field(240, ge=8, description="most examples in a batch")
    replay_share: float = Field(
        0.5, ge=0, lt=1, description="share of the batch that is the model's own replies elsewhere"
    )


class TrainConfig(Section):
    method: Literal["sft", "dpo"] = "sft"
    epochs: int = Field(1, ge=1)
    batch_size: int = Field(8, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    lora_rank: int = Field(16, ge=1)
    max_length: int = Field(512, ge=32, description="tokens an example")


class EngineConfig(Section):
    backend: Literal["auto", "vllm", "transformers"] = "auto"
    port: int = Field(0, ge=0, le=65535, description="0 takes a free port")
    kv_cache_gib: int = Field(2, ge=1)
    max_model_len: int = Field(1024, ge=128)
    start_timeout_s: float = Field(240.0, gt=0)
    request_timeout_s: float = Field(120.0, gt=0)


class RayConfig(Section):
    address: str = Field(
        "", description="an existing cluster's address; empty reads RAY_ADDRESS, then starts one"
    )
    dashboard: bool = True
    dashboard_port: int = Field(8265, ge=0, le=65535)
    metrics_port: int = Field(0, ge=0, le=65535)


class EnvironmentChoice(Section):
    name: str
    skills: tuple[str, ...] = Field((), description="empty takes all that the environment offers")
    levels: tuple[int, ...] = Field((), description="empty takes every level of each skill")


class InstrumentChoice(Section):
    """One instrument that the policy asks for, by its entry-point name."""

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)
    veto_only: bool = Field(
        False, description="its measurements may veto but are not required to approve"
    )


class Policy(Section):
    """The supervision policy: what is measured, to which tolerance, at what total risk.

    `alpha` bounds the chance that an unacceptable batch or successor is ever approved over the
    run's unbounded rounds; look t is tested at alpha · 6 / (π² t²), which sums to alpha.
    """

    name: str = "default"
    alpha: float = Field(0.05, gt=0, lt=1)
    batch: tuple[InstrumentChoice, ...] = (InstrumentChoice(name="screens"),)
    checkpoint: tuple[InstrumentChoice, ...] = (
        InstrumentChoice(name="diff"),
        InstrumentChoice(name="capability"),
    )
    blind_on_origin: Literal["quarantine", "veto_only"] = "veto_only"
    canary_rate: float = Field(
        0.5, ge=0, le=1, description="canary batches a real batch, on average"
    )

    @property
    def id(self) -> str:
        return digest(canonical_json(self.model_dump(mode="json")))


class RunConfig(Section):
    """Everything that a run is told. `folder` is refused if it exists."""

    folder: Path = Path("runs/latest")
    lineage: str = Field(
        "regent", description="the MLflow experiment: one a lineage of checkpoints"
    )
    model: str = "smollm2"
    planner: str = Field("", description="another model for planning; empty is the champion itself")
    worker: str = Field(
        "", description="another model for experiments; empty is the champion itself"
    )
    rounds: int = Field(2, ge=1)
    seed: int = Field(0, ge=0)
    on_quarantine: Literal["continue", "wait"] = "continue"
    environments: tuple[EnvironmentChoice, ...] = Field(
        (EnvironmentChoice(name="reasoning"), EnvironmentChoice(name="mechanism")), min_length=1
    )
    profile: ProfileConfig = ProfileConfig()
    experiment: ExperimentConfig = ExperimentConfig()
    curate: CurateConfig = CurateConfig()
    train: TrainConfig = TrainConfig()
    engine: EngineConfig = EngineConfig()
    ray: RayConfig = RayConfig()
    policy: Policy = Policy()
    mlflow_uri: str = Field("", description="empty keeps mlflow.sqlite in the run's folder")


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises CannotRun with file and line where it does not parse."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CannotRun(
            f"{path}: {error.strerror or error}; give the path of a readable YAML file"
        ) from error
    except UnicodeDecodeError as error:
        raise CannotRun(f"{path}: it is not UTF-8 ({error.reason}); save it as UTF-8") from error
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is not YAML"
        raise CannotRun(f"{path}{line}: {problem}; mend that line") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CannotRun(
            f"{path}, line 1: the file holds a {type(value).__name__}, not keys with values"
        )
    return value


def parse(model: type[Model], value: dict[str, Any], source: str) -> Model:
    """`value` as `model`.

    Raises CannotRun with one line: the key, what is wrong and the nearest known key.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            key = str(first["loc"][-1])
            known = _fields_at(model, first["loc"][:-1])
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise CannotRun(f"{source}: unknown key '{where}'{hint}") from error
        raise CannotRun(f"{source}: '{where}': {first['msg'].lower()}") from error


def load_config(path: Path | None, overrides: dict[str, Any] | None = None) -> RunConfig:
    """A run's configuration from a YAML file (or the defaults) with dotted overrides on top."""
    value = load_yaml(path) if path else {}
    for dotted, item in (overrides or {}).items():
        *folders, last = dotted.split(".")
        place = value
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = item
    return parse(RunConfig, value, str(path) if path else "configuration")


def load_policy(path: Path | None) -> Policy:
    """The supervision policy from a YAML file, or the shipped one."""
    return parse(Policy, load_yaml(path), str(path)) if path else Policy()


def to_yaml(config: BaseModel) -> str:
    """The resolved configuration, as it is written into the run's folder."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Known keys of the (possibly nested) section that `loc` leads to."""
    current: type[BaseModel] = model
    for part in loc:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part)
        if field is None:
            break
        candidates = (field.annotation, *get_args(field.annotation))
        nested = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not nested:
            break
        current = nested[0]
    return list(current.model_fields)
