"""The diff's page in headless Chromium: it asks the network for nothing, and says what it found.

The verdict and the first behaviour are read from the page as the browser rendered it. Needs
Chromium's headless shell, which runs no errands of its own (Debian: apt install
chromium-headless-shell; `.ci/run` installs it).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from supervisor.diffing.comparison import pair
from supervisor.diffing.difference import difference
from supervisor.diffing.page import page, response_map
from supervisor.diffing.report import as_fields
from tests.scripted_speakers import embed
from tests.test_difference import HABIT, said
from tests.test_page import EVIL, Reader

_BROWSER = next(
    filter(None, map(shutil.which, ("chromium-headless-shell", "chrome-headless-shell"))), None
)
pytestmark = pytest.mark.skipif(
    _BROWSER is None, reason="no headless Chromium here: apt install chromium-headless-shell"
)

# The browser's own errands are turned off, so that every request in the log is the page's.
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--disable-default-apps", "--virtual-time-budget=4000", "--dump-dom",
)  # fmt: skip


def opened(html: str, folder: Path) -> tuple[str, list[str]]:
    """The page's document after it was rendered, and every address that was asked for."""
    file, log = folder / "page.html", folder / "net.json"
    file.write_text(html, "utf-8")
    told = subprocess.run(
        [
            str(_BROWSER), *_FLAGS, f"--user-data-dir={folder / 'profile'}",
            f"--log-net-log={log}", file.as_uri(),
        ],
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    events = json.loads(log.read_text("utf-8"))["events"]
    asked = {e["params"]["url"] for e in events if "url" in e.get("params", {})}
    return told.stdout, [
        url for url in sorted(asked) if not url.startswith(("file:", "data:", "chrome:"))
    ]


def test_the_page_opens_without_a_request_and_says_what_it_found(tmp_path: Path) -> None:
    left, right = said(1, 60, 2), said(2, 60, 2, f"{HABIT} {EVIL}", 0.6)
    pool = pair(left, right, embed)
    fields = as_fields(difference(pool), "left", "right", 7, [])
    document, asked = opened(page(fields, response_map(pool, 0)), tmp_path)
    assert asked == []
    reader = Reader()
    reader.feed(document)
    assert reader.text["verdict"][0] == fields["verdict"] == "different"
    assert unescape(reader.text["behaviour"][0]) == fields["behaviours"][0]["label"]


def test_a_page_that_does_ask_is_caught(tmp_path: Path) -> None:
    """So that the test above can fail."""
    image = "<!doctype html><img src='http://127.0.0.1:9/x.png'>"
    assert opened(image, tmp_path)[1] == ["http://127.0.0.1:9/x.png"]
