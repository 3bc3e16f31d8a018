"""Typed errors of codecs and of cloud files; the harness turns each into a status and a reason."""

from __future__ import annotations


class PccbenchError(Exception):
    """Base of every error that a user can meet: its text is one clear line."""


class PccbenchWarning(UserWarning):
    """Base of every warning that a user can meet: its text is one clear line."""


class CloudError(PccbenchError, ValueError):
    """A point cloud, or a file of one, is not what it should be (says what was expected and what came)."""


class CodecError(PccbenchError):
    """A codec could not do what it was asked, for a reason that it knows."""


class NotApplicableError(CodecError):
    """A codec does not code this kind of cloud (real-valued, say, or without loss): nobody's failure."""


class BitstreamError(CodecError):
    """A bitstream is damaged, truncated or foreign."""


class CodecUnavailableError(PccbenchError):
    """A codec cannot run on this machine: says what is missing and the remedy."""


class UnknownCodecError(PccbenchError, LookupError):
    """No codec has that name: shows the near matches."""


class CodecModuleError(PccbenchError):
    """A file of codecs cannot be used: names the file and says what is wrong with it."""
