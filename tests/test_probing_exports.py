"""What others run unchanged gives Regent's own figures.

1. lm-eval, from the exported folder alone, gives each item the answer that Regent gives it on the
   same weights, and so the same accuracy and consistency.
2. inspect_ai, likewise, counts replies as Regent counts them: agreeing, at odds, no option at all.
3. What is exported imports nothing of Regent, and sealed rows carry the canary.
"""

from __future__ import annotations

import ast
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from agents.cli import app
from regent.models.local import LocalModel
from regent.models.speaker import Conversation, Reply, Sampling
from supervisor.reflectivity.asking import ask, conversation
from supervisor.reflectivity.frame import SUBTASKS
from supervisor.reflectivity.items import CANARY, shipped, write_items
from supervisor.reflectivity.scoring import right, scores
from tests.tiny_chat_model import save_tiny_chat_model

ORDERS = ((0, 1), (1, 0))
FRAMES = ("bell-tower", "after-the-beep")  # of development, and sealed
ITEMS = [item for item in shipped() if item.frame in FRAMES]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two frames' forty items, as the command writes them."""
    folder = tmp_path_factory.mktemp("exported")
    write_items(ITEMS, folder / "items")
    args = ["probe", "export", str(folder / "out"), "--items", str(folder / "items"), "--json"]
    said = CliRunner().invoke(app, args)
    assert said.exit_code == 0, said.stderr
    assert json.loads(said.stdout)["items"] == len(ITEMS) == 40
    return folder / "out"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat_model(tmp_path_factory.mktemp("tiny"), [item.text for item in ITEMS])


def test_lm_eval_gives_every_item_the_answer_that_regent_gives(
    exported: Path, weights: Path
) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    found: Any = simple_evaluate(
        model="hf",
        model_args=f"pretrained={weights},dtype=float32,add_bos_token=False",
        tasks=["regent_reflectivity"],
        task_manager=TaskManager(include_path=str(exported / "lm_eval"), include_defaults=False),
        apply_chat_template=True,
        device="cpu",
    )
    own = LocalModel(weights)
    own.model.float()
    first = ask(own, ITEMS).raw
    rights = dict(zip([item.id for item in ITEMS], right(ITEMS, first), strict=True))
    logged = [row for rows in found["samples"].values() for row in rows]
    assert {row["doc"]["id"]: row["acc"] for row in logged} == rights
    assert 0 < np.mean(list(rights.values())) < 1

    by_item = {row["doc"]["id"]: [nats for nats, _ in row["filtered_resps"]] for row in logged}
    for item in ITEMS[::7]:
        turns = [conversation(item, order) for order in ((0, 1), (0, 1), (1, 0), (1, 0))]
        nats = own.score(turns, [*item.options, *item.options])
        theirs = np.array(by_item[item.id])  # with the line break before the reply, the same twice
        assert theirs[::2] - theirs[1::2] == pytest.approx(nats[::2] - nats[1::2], abs=1e-3)

    for score in scores(ITEMS, first):
        told = found["results"][f"regent_reflectivity_{score.subtask}"]
        assert told["acc,none"] == score.accuracy
        assert told["consistency,none"] == score.consistency
        assert told["missing,none"] == score.missing == 0
    assert found["results"]["regent_reflectivity"]["acc,none"] == np.mean(list(rights.values()))


class Replay:
    """Says again what another harness was told, asked the same."""

    can = frozenset({"sample"})
    name = "replay"

    def __init__(self, replies: dict[str, str]) -> None:
        self.replies = replies

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        return [Reply(self.replies[said[0].content]) for said in conversations]


@pytest.fixture
def own_server(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The tiny model behind an OpenAI-compatible server that holds replies to a schema."""
    import uvicorn

    from regent.models.transformers_server import application

    monkeypatch.setenv("REGENT_ENGINE_KEY", "k")
    config = uvicorn.Config(application(weights), host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/v1"
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def inspected(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the exported file; a log a sub-task, with its samples."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(exported)
    import inspect_ai

    def run(model: Any, limit: int | None = None) -> list[Any]:
        task = "inspect/regent_reflectivity.py"  # as the README has it: no absolute path is taken
        logs = inspect_ai.eval(
            task, model=model, limit=limit, log_dir=str(tmp_path), display="none"
        )
        assert [log.status for log in logs] == ["success"] * len(SUBTASKS)
        return sorted(logs, key=lambda log: SUBTASKS.index(log.eval.task))

    return run


def test_inspect_counts_a_models_choices_as_regent_does(inspected: Any, own_server: str) -> None:
    from inspect_ai.model import get_model

    served = get_model("openai-api/tiny/m", base_url=own_server, api_key="k")
    logs = inspected(served, limit=4)  # a quad
    samples = [sample for log in logs for sample in log.samples]
    replies = {
        asked: reply
        for sample in samples
        for asked, reply in zip(sample.metadata["prompts"], sample.store["replies"], strict=True)
    }
    asked = [item for item in ITEMS if item.id in {sample.id for sample in samples}]
    assert len(replies) == 2 * len(asked) == 40
    first = ask(Replay(replies), asked).raw
    rights = dict(zip([item.id for item in asked], right(asked, first), strict=True))
    assert {sample.id: sample.scores["same_option"].value for sample in samples} == rights
    for log, score in zip(logs, scores(asked, first), strict=True):
        assert log.eval.task == score.subtask
        (told,) = log.results.scores
        assert told.metrics["accuracy"].value == pytest.approx(score.accuracy)
        assert told.metrics["consistency"].value == score.consistency
        assert (told.scored_samples, told.unscored_samples) == (score.n, 0)


def test_inspect_counts_half_where_orders_disagree_and_nothing_where_no_option_is_named(
    inspected: Any,
) -> None:
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    listed = {conversation(i, order)[0].content: (i, order) for i in ITEMS for order in ORDERS}

    def says(input: Any, *_: Any) -> Any:
        item, order = listed[input[0].text]
        gold = item.options[item.gold]
        said = {
            "a1": json.dumps({"answer": gold}),
            "a2": json.dumps({"answer": item.options[order[0]]}),
            "b1": "As an AI I have no values.",
            "b2": f"- {gold}\n",  # a provider without response schemas
        }
        output = ModelOutput.from_content("mockllm", said[item.variant])
        output.usage = ModelUsage()  # else it is counted with a tokenizer from the network
        return output

    logs = inspected(get_model("mockllm/model", custom_outputs=says))
    worth = {"a1": 1.0, "a2": 0.5, "b2": 1.0}
    for log in logs:
        found = {sample.id[-2:]: sample.scores["same_option"].value for sample in log.samples}
        assert found.pop("b1") != 0
        assert found == worth
        (told,) = log.results.scores
        assert told.metrics["accuracy"].value == pytest.approx(2.5 / 3)
        assert (told.scored_samples, told.unscored_samples) == (6, 2)


def test_log_probabilities_that_are_no_numbers_are_missing_in_lm_eval() -> None:
    from supervisor.reflectivity.exports.for_lm_eval import accuracy, missing, outcome

    doc = {"gold": 1, "frame": "f", "quad": "f.q"}
    asked = [(-1.0, False), (-2.0, False), (-4.0, False), (-2.0, False)]
    assert outcome(doc, asked)["acc"] == 1  # -2.5 against -2 over both orders
    assert outcome({**doc, "gold": 0}, asked)["acc"] == 0
    assert outcome(doc, [(-1.0, False)] * 4)["acc"] == 0.5
    lost = outcome(doc, [(float("-inf"), False), *asked[1:]])["acc"]
    assert (accuracy([1, 0, lost]), missing([1, 0, lost])) == (0.5, 1)


def test_both_harnesses_have_one_standard_error() -> None:
    """lm-eval's is the export's own, inspect's the library's."""
    from inspect_ai.scorer import SampleScore, Score, stderr

    from supervisor.reflectivity.exports.for_lm_eval import standard_error

    rng = np.random.default_rng(3)
    rows = [(str(frame), float(rng.integers(3)) / 2) for frame in range(9) for _ in range(4)]
    told = [
        SampleScore(score=Score(value=value), sample_metadata={"frame": frame})
        for frame, value in rows
    ]
    assert standard_error(rows) == pytest.approx(stderr(cluster="frame")(told))  # type: ignore[operator]


@pytest.mark.parametrize("how", [{}, {"apply_chat_template": True, "num_fewshot": 2}])
def test_lm_eval_refuses_to_ask_otherwise_than_regent_does(
    exported: Path, how: dict[str, Any]
) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    tasks = TaskManager(include_path=str(exported / "lm_eval"), include_defaults=False)
    with pytest.raises(ValueError, match="leave --num_fewshot out and add --apply_chat_template"):
        simple_evaluate("dummy", tasks=["regent_reflectivity"], task_manager=tasks, **how)


def test_what_is_exported_imports_nothing_of_regent(exported: Path) -> None:
    allowed = {*sys.stdlib_module_names, "datasets", "lm_eval", "inspect_ai"}
    files = list(exported.rglob("*.py"))
    assert len(files) == 2
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module] if isinstance(node, ast.ImportFrom) else node.names
                assert {str(getattr(n, "name", n)).split(".")[0] for n in names} <= allowed


def test_sealed_rows_alone_carry_the_canary(exported: Path) -> None:
    rows = [json.loads(line) for file in exported.rglob("*.jsonl") for line in file.open("rb")]
    assert len(rows) == 2 * len(ITEMS)
    for row in rows:
        assert row.get("canary") == (CANARY if row["split"] == "sealed" else None)
    assert CANARY in (exported / "README.md").read_text("utf-8")


def test_an_export_goes_into_a_new_folder_and_is_whole(exported: Path, tmp_path: Path) -> None:
    few = tmp_path / "items"
    write_items([item for item in ITEMS if item.subtask != "influence_prediction"], few)
    for args, says in (
        ([str(exported)], "is not empty; name a new folder"),
        ([str(tmp_path / "out"), "--items", str(few)], "no item of influence_prediction"),
        ([str(tmp_path / "out"), "--split", "test"], "there is no split 'test'"),
        ([str(exported / "README.md")], "Not a directory; name a folder"),
    ):
        refused = CliRunner().invoke(app, ["probe", "export", *args])
        assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
        assert says in refused.stderr
