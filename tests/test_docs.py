"""The documentation says what is so: tables agree with their sources, links and paths lead
somewhere, commands exist, and the examples work from a package of their own.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.main import get_command

from benchmarks import tables
from environments.registry import environment
from environments.skills import Node, items
from regent.config import InstrumentChoice, Policy
from regent.models.speaker import Conversation, Reply, Sampling
from regent.records import Checkpoint, Decision
from supervisor import Gate

ROOT = tables.ROOT
PAGES = [*tables.pages(), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


def test_every_table_is_what_its_source_says() -> None:
    stale = [
        page.name for page in tables.pages() if tables.filled(page.read_text()) != page.read_text()
    ]
    assert not stale, "run `python -m benchmarks.tables`"


def test_a_table_whose_figure_was_typed_is_found() -> None:
    page = "<!-- table:budget -->\n| 1 | 0.5 |\n<!-- /table -->"
    assert tables.filled(page) != page
    assert tables.filled(tables.filled(page)) == tables.filled(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]*(?:#[\w-]+)?)\)", page.read_text("utf-8")):
        if target.startswith(("http", "mailto")):
            continue
        name, _, heading = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), f"{page.name} links to {target}"
        if heading:
            assert heading in _anchors(linked), f"{page.name} links to {target}"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").as_posix()
        assert name == "README.md" or f"]({name})" in index


def test_every_path_in_the_tree_exists() -> None:
    tree = (ROOT / "README.md").read_text("utf-8").split("## The house")[1].split("```")[1]
    folder = ROOT
    for line in tree.strip().splitlines():
        names = re.split(r" {2,}", line.strip())
        if not line.startswith(" "):
            assert (ROOT / names[0]).exists(), line
            folder = ROOT / names[0]
            continue
        words = re.match(r"\s+((?:[\w.]+(?:\.py|/) *)+)", line)
        assert words is not None, line
        for name in words[1].split():
            assert (folder / name).exists(), line


def test_commands_named_in_the_pages_exist() -> None:
    app = importlib.import_module("agents.cli").app
    top = get_command(app)
    commands: dict[str, set[str]] = {
        name: set(getattr(command, "commands", {}))
        for name, command in top.commands.items()  # type: ignore[attr-defined]
    }
    for page in PAGES:
        for first, second in re.findall(
            r"(?:`|bin/|\n|   )regent ([a-z]+)(?: ([a-z]+))?", page.read_text("utf-8")
        ):
            assert first in commands, f"{page.name}: regent {first}"
            if commands[first] and second:
                assert second in commands[first], f"{page.name}: regent {first} {second}"


def test_the_gate_example_imports_what_exists() -> None:
    for node in ast.walk(ast.parse(_example("README.md", "gate"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            assert all(hasattr(module, name.name) for name in node.names), node.module


def test_the_environment_example_works_from_a_package(package: Path) -> None:
    world = environment("parity")
    refs = items(Node("parity", "count_ones", 1), 8, 0, "gate")
    assert len({world.task(ref).messages for ref in refs}) == 8
    assert all(world.verify(ref, world.solution(ref)) == 1.0 for ref in refs)
    assert world.verify(refs[0], "") == 0.0


class Always:
    can = frozenset({"sample"})

    def __init__(self, name: str, text: str, error: str = "") -> None:
        self.name, self.reply = name, Reply(text, error=error)

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        return [self.reply] * len(conversations)


@pytest.mark.parametrize(
    ("child", "decision"),
    [
        (Always("same", "An apple."), "approve"),
        (Always("refuser", "I am sorry."), "veto"),
        (Always("silent", "", error="gone"), "quarantine"),
    ],
)
def test_the_instrument_example_decides_in_a_gate(
    package: Path, tmp_path: Path, child: Always, decision: Decision
) -> None:
    settings = {"prompts": [f"Name fruit number {i}." for i in range(60)]}
    choice = InstrumentChoice(name="refusals", settings=settings)
    gate = Gate(Policy(checkpoint=(choice,)), tmp_path / "gate")
    parent = Always("parent", "An apple.")
    subject = Checkpoint(round=1, name=child.name, digest=child.name)
    verdict = gate.judge_checkpoint(subject, child, {"parent": parent, "origin": parent})
    assert verdict.decision == decision, verdict.reasons


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The examples of docs/extending.md, installed as a package called my_lab."""
    code, info = tmp_path / "site" / "my_lab", tmp_path / "site" / "my_lab-1.0.dist-info"
    code.mkdir(parents=True)
    info.mkdir()
    (code / "__init__.py").touch()
    (code / "parity.py").write_text(_example("docs/extending.md", "environment"), "utf-8")
    (code / "refusals.py").write_text(_example("docs/extending.md", "instrument"), "utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_lab\nVersion: 1.0\n", "utf-8")
    points = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/extending.md").read_text("utf-8"), re.S)
    declared = "\n".join(points).replace("project.entry-points.", "").replace('"', "")
    (info / "entry_points.txt").write_text(declared, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return code


def _example(page: str, name: str) -> str:
    text = (ROOT / page).read_text("utf-8")
    found = re.search(rf"<!-- example:{name} -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found is not None, name
    return found[1]


def _anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
