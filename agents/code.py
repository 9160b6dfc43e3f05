"""Which code made a record: the commit where there is one, and a digest of the sources otherwise.

Covers the four packages' Python sources. Does not cover installed dependencies, which the pinned
requirements name. A Ray worker has no commit at hand: the driver computes the version once and
hands it on.
"""

from __future__ import annotations

import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from regent.records import digest, merkle_root

PACKAGES = ("regent", "environments", "supervisor", "agents")
ROOT = Path(__file__).resolve().parent.parent


@lru_cache(maxsize=1)
def code_version() -> str:
    """`COMMIT` on a clean checkout, `COMMIT+SOURCES` on one with changes, else `VERSION+SOURCES`.

    COMMIT and SOURCES are 12 hex digits; SOURCES is a Merkle root over the packages' files.
    """
    commit = _git("rev-parse", "--short=12", "HEAD")
    if commit and _git("status", "--porcelain", "--", *PACKAGES) == "":
        return commit
    return f"{commit or _installed_version()}+{sources_digest()[:12]}"


def sources_digest(root: Path = ROOT) -> str:
    """Merkle root over `relative-path:sha256` of every Python source of the four packages."""
    files = sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))
    return merkle_root(
        [f"{path.relative_to(root).as_posix()}:{digest(path.read_bytes())}" for path in files]
    )


def _installed_version() -> str:
    try:
        return metadata.version("regent-lab")
    except metadata.PackageNotFoundError:
        return "0"


def _git(*arguments: str) -> str | None:
    """What git says about this checkout, or None: no repository of ours, no git, or it refuses."""
    if not (ROOT / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
