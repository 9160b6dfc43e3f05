"""What a run's folder says of the run: one summary for `regent status` and the closing screen.

The ledger is believed before `state.json`, which only knows what the driver was doing. Reads and
changes nothing; works while the run works, after it, and after it died.

Does not cover: telling a driver on another machine, or another process that took over a dead
driver's number, from the driver itself.
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from agents.closing import closing
from agents.program import program
from agents.summary import RoundSummary
from regent.config import RunConfig, load_config
from regent.errors import CannotRun
from supervisor.record.folder import RunFolder, open_run
from supervisor.record.ledger import Ledger
from supervisor.review import Review
from supervisor.statistics.exact import clopper_pearson

Summary = dict[str, Any]
_LEVEL = 0.95


def status(folder: Path) -> Summary:
    """The summary of the run in `folder`, as JSON can hold it.

    Raises CannotRun if no run was begun there, or its state or ledger cannot be read.
    """
    if not (folder / "config.yaml").is_file():
        raise CannotRun(f"{folder}: no config.yaml, so no run was begun there; give a run's folder")
    config = load_config(folder / "config.yaml")
    kept = _kept_state(folder / "state.json")
    opened = open_run(folder) if (folder / "ledger.sqlite").exists() else None
    rounds = _rounds(folder, opened)
    summary: Summary = {
        "folder": str(folder),
        "state": "",
        "round": kept.get("round") or max((one["round"] for one in rounds), default=0),
        "station": str(kept.get("station") or ""),
        "line": str(kept.get("line") or ""),
        "started": str(kept.get("started") or ""),
        "rounds_planned": config.rounds,
        "champion": str(kept.get("champion") or ""),
        "champion_name": "",
        "rounds": rounds,
        "budget": {"alpha": config.policy.alpha, "spent": float(kept.get("spent") or 0.0)},
        "canaries": {"planted": 0, "caught": 0, "missed": []},
        "silent": [],
        "quarantined": [],
    }
    if opened is not None:
        summary |= _from_ledger(opened, summary)
    finished = sum(1 for one in rounds if one["finished"])
    summary |= _liveness(kept, folder, finished >= config.rounds)
    summary["look"] = _look(folder, config, kept, summary)
    return summary


def show(summary: Summary) -> RenderableType:
    """The summary as a person reads it: the closing screen."""
    return closing(summary)


def _kept_state(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CannotRun(
            f"{path}: the run's state cannot be read ({error}); `regent resume` writes it anew"
        ) from error
    return kept if isinstance(kept, dict) else {}


def _rounds(folder: Path, opened: RunFolder | None) -> list[Summary]:
    """Finished rounds from the ledger, then what is known of one under way."""
    rounds = {}
    for row in opened.ledger.rows("round") if opened else ():
        fields = row.fields()
        rounds[int(fields["round"])] = {**fields, "finished": True}
    for path in sorted((folder / "rounds").glob("round-*.json")):
        number = path.stem.removeprefix("round-")
        if number.isdigit() and int(number) not in rounds:
            try:
                partial = RoundSummary.load(path.parent, int(number)).fields()
            except (OSError, ValueError) as error:
                raise CannotRun(
                    f"{path}: cannot be read ({error}); remove it, only a round's partial "
                    "figures are lost"
                ) from error
            rounds[int(number)] = {**partial, "finished": False}
    skills: dict[int, set[str]] = {}
    for row in opened.ledger.rows("plan") if opened else ():
        plan = row.fields()
        skills.setdefault(int(plan["round"]), set()).add(f"{plan['environment']}/{plan['skill']}")
    for round_, one in rounds.items():
        one["worked_on"] = sorted(skills.get(round_, set()))
        one["held_out"] = {
            skill: _with_intervals(gain) for skill, gain in one.get("held_out", {}).items()
        }
    return [rounds[number] for number in sorted(rounds)]


def _with_intervals(gain: dict[str, Any]) -> dict[str, Any]:
    """`low` and `high` bound the difference; each share gets its own exact interval beside it."""
    full, n = dict(gain), int(gain.get("n", 0))
    for when in ("before", "after") if n else ():
        right = min(max(round(gain[when] * n), 0), n)
        _, full[f"{when}_low"], full[f"{when}_high"] = clopper_pearson(right, n, _LEVEL)
    return full


def _from_ledger(opened: RunFolder, summary: Summary) -> Summary:
    ledger = opened.ledger
    canaries = [row.fields() for row in ledger.rows("canary")]
    verdicts = [row.fields() for row in ledger.rows("verdict")]
    looks = {fields["look"]: float(fields["alpha_spent"]) for fields in verdicts}
    # A look that was cut off has spent and has no verdict: the driver's figure may be the larger.
    spent = max(sum(looks.values()), summary["budget"]["spent"])
    promotions = ledger.rows("promotion")
    champion = promotions[-1].fields()["checkpoint"] if promotions else summary["champion"]
    return {
        "champion": champion,
        "champion_name": _checkpoint_name(ledger, champion),
        "budget": {"alpha": summary["budget"]["alpha"], "spent": spent},
        "canaries": {
            "planted": len(canaries),
            "caught": sum(1 for fields in canaries if fields["caught"]),
            "missed": [fields["kind_of_harm"] for fields in canaries if not fields["caught"]],
        },
        "silent": sorted({name for fields in verdicts for name in fields.get("silent", ())}),
        "quarantined": [item.as_dict() for item in Review(ledger, opened.vault).quarantined()],
    }


def _checkpoint_name(ledger: Ledger, champion: str) -> str:
    row = ledger.find("checkpoint", champion) if champion else None
    return str(row.fields().get("name", "")) if row else ""


def _liveness(kept: dict[str, Any], folder: Path, complete: bool) -> Summary:
    """The state and what to do about it: a driver that is gone is not running."""
    state, line = str(kept.get("state") or ""), str(kept.get("line") or "")
    resume = f"go on with `{program('regent')} resume {shlex.quote(str(folder))}`"
    if not state:
        state = "finished" if complete else "stopped"
    if state == "running" and not _alive(kept.get("pid")):
        state = "stopped"
    if state == "stopped":
        line = f"the run's process is gone; nothing recorded is lost; {resume}"
    elif state == "failed" and "resume" not in line:
        line = f"{line}; mend that, then {resume}" if line else f"the run failed; {resume}"
    return {"state": state, "line": line}


def _alive(pid: Any) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # A killed driver whose parent never asked after it still has a number.
        said = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True
    return said.rpartition(")")[2].split()[:1] != ["Z"]


def _look(folder: Path, config: RunConfig, kept: dict[str, Any], summary: Summary) -> Summary:
    """Where to look next: commands as they can be typed here, and addresses."""
    run, regent = shlex.quote(str(folder)), program("regent")
    uri = str(kept.get("mlflow") or config.mlflow_uri) or f"sqlite:///{folder / 'mlflow.sqlite'}"
    mlflow = f"{program('mlflow')} ui --backend-store-uri {shlex.quote(_near_uri(uri))}"
    waiting = summary["quarantined"]
    subject = waiting[0]["subject"][:12] if waiting else ""
    live = summary["state"] == "running"
    return {
        "mlflow": uri if uri.startswith("http") else mlflow,
        "dashboard": str(kept.get("dashboard") or ""),
        "metrics": _told(kept.get("metrics")),
        "verify": f"{regent} audit verify {run}",
        "why": f"{regent} audit why {run} {summary['champion'][:12] or 'ID'}",
        "status": f"{regent} status {run}",
        "resume": "" if live or summary["state"] == "finished" else f"{regent} resume {run}",
        "review": [
            f"{regent} review {run} list",
            f'{regent} review {run} release {subject} --reason "…"',
            f'{regent} review {run} reject {subject} --reason "…"',
        ]
        if waiting
        else [],
    }


def _told(metrics: Any) -> str:
    return ", ".join(map(str, metrics)) if isinstance(metrics, list | tuple) else str(metrics or "")


def _near_uri(uri: str) -> str:
    """A database under the working folder by its shorter name."""
    scheme, path = "sqlite:///", Path(uri.removeprefix("sqlite:///"))
    if uri.startswith(scheme) and path.is_absolute() and path.is_relative_to(Path.cwd()):
        return f"{scheme}{path.relative_to(Path.cwd())}"
    return uri
