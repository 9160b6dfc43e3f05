"""What every batch and example passes first: form, duplicates, overlap, verification, phrases."""

from supervisor.screens.instrument import Screens

__all__ = ["Screens"]
