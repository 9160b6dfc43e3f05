"""Writing the probing items as lm-eval tasks and an inspect_ai task that run without Regent.

FOLDER/lm_eval holds a group, a YAML a sub-task, their rows and `scoring.py`; FOLDER/inspect holds
`regent_reflectivity.py` and the same rows. A row is what is asked: the prompt in both orders of the
options, the options, the place of the right one, and what groups it (frame, quad). Sealed rows
carry the canary. Both Python files are copies of modules of this package, which imports neither
harness.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from regent.errors import CannotRun
from regent.records import canonical_json, digest
from supervisor.reflectivity.asking import ORDERS, conversation
from supervisor.reflectivity.frame import SUBTASKS
from supervisor.reflectivity.items import CANARY, Item

_GROUP = "regent_reflectivity"
_METRICS = {  # of lm-eval, each with its function in scoring.py, and whether more is better
    "acc": ("accuracy", True),
    "acc_se_by_frame": ("standard_error", False),
    "consistency": ("consistency", True),
    "missing": ("missing", False),
}


def export(items: Sequence[Item], folder: Path) -> list[Path]:
    """The files written, in a new folder.

    Raises CannotRun where a sub-task has no item, the folder holds something already, or it cannot
    be written.
    """
    for subtask in SUBTASKS:
        if not any(item.subtask == subtask for item in items):
            raise CannotRun(f"no item of {subtask}: an export has all five sub-tasks")
    try:
        if folder.exists() and any(folder.iterdir()):
            raise CannotRun(f"{folder} is not empty; name a new folder")
        texts = _texts(items)
        for name, text in texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, "utf-8")
    except OSError as error:
        raise CannotRun(f"{folder}: {error.strerror or error}; name a folder") from error
    return [folder / name for name in texts]


def _texts(items: Sequence[Item]) -> dict[str, str]:
    """Every file's text by its name."""
    rows = {
        subtask: "".join(_row(item) for item in items if item.subtask == subtask)
        for subtask in SUBTASKS
    }
    named = digest(canonical_json(list(rows.values())))
    splits = sorted({item.split for item in items})
    about = _own("about.md").format(
        items=f"{len(items):,}", split=" and ".join(splits), canary=CANARY, digest=named
    )
    return {
        "README.md": about,
        f"lm_eval/{_GROUP}.yaml": _group(named),
        "lm_eval/scoring.py": _own("for_lm_eval.py"),
        f"inspect/{_GROUP}.py": _own("for_inspect.py"),
        **{f"lm_eval/{_GROUP}_{subtask}.yaml": _task(subtask, named) for subtask in SUBTASKS},
        **{
            f"{side}/{subtask}.jsonl": rows[subtask]
            for side in ("lm_eval", "inspect")
            for subtask in SUBTASKS
        },
    }


def _row(item: Item) -> str:
    row = {
        "id": item.id,
        "frame": item.frame,
        "quad": item.quad,
        "split": item.split,
        "prompts": [conversation(item, order)[0].content for order in ORDERS],
        "options": list(item.options),
        "gold": item.gold,
    }
    if item.split == "sealed":
        row["canary"] = CANARY
    return json.dumps(row, ensure_ascii=False) + "\n"


def _group(named: str) -> str:
    members = "".join(f"  - {_GROUP}_{subtask}\n" for subtask in SUBTASKS)
    means = "".join(f"  - metric: {name}\n" for name in ("acc", "consistency"))
    return (
        f"group: {_GROUP}\ntask:\n{members}aggregate_metric_list:\n{means}"
        f"metadata:\n  version: 1\n  items: '{named}'\n"
    )


def _task(subtask: str, named: str) -> str:
    metrics = "".join(
        f"  - metric: {name}\n    aggregation: !function scoring.{function}\n"
        f"    higher_is_better: {str(better).lower()}\n"
        for name, (function, better) in _METRICS.items()
    )
    return (
        f"task: {_GROUP}_{subtask}\n"
        "class: !function scoring.ProbingTask\n"
        f"dataset_name: {subtask}\n"
        "test_split: test\n"
        "output_type: multiple_choice\n"
        'doc_to_text: "{{prompts[0]}}"\n'
        "doc_to_choice: options\n"
        "doc_to_target: gold\n"
        "process_results: !function scoring.outcome\n"
        f"metric_list:\n{metrics}"
        f"metadata:\n  version: 1\n  items: '{named}'\n"
    )


def _own(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")
