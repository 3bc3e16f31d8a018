"""Errors of the harness that a user meets, each one clear line and an exit code."""

from __future__ import annotations

from ..codecs.errors import PccbenchError


class UsageError(PccbenchError):
    """The command or the run's description is wrong; exit code 2."""


class DeclarationError(PccbenchError):
    """What a codec says of itself makes no sense: it costs that codec, or that row, alone."""


class StoreError(PccbenchError):
    """A run folder cannot be read or written as it is; exit code 2."""


class StoreWriteError(PccbenchError):
    """The store could not be written during a run (disk full); what was written is safe; exit code 1."""
