"""Who is put the probing items: weights at hand where a name has any, else the server itself.

A witness is named by its content: kept answers outlive a folder's name, never a change of weights.
"""

from __future__ import annotations

from pathlib import Path

from regent.models.local import LocalModel
from regent.models.names import parse, resolve, weights_folder
from regent.models.speaker import Speaker
from regent.models.weights import checkpoint_digest


def witness(name: str) -> Speaker:
    """Raises CannotRun where the name does not resolve."""
    return resolve(name) if parse(name).url else local_witness(weights_folder(name))


def local_witness(folder: Path) -> LocalModel:
    """The weights in a folder, named by their digest."""
    return LocalModel(folder, name=checkpoint_digest(folder))
