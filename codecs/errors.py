"""Typed errors of codecs and of cloud files; the harness turns each into a status and a reason."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path


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


#: The folder of pccbench, and those of Python and of installed packages.
_OWN = str(Path(__file__).parent.parent)
_INSTALLED = tuple(
    {str(Path(folder)) for folder in (sys.prefix, sys.base_prefix, str(Path(traceback.__file__).parent))}
)


def where(error: BaseException, file: str | None = None) -> str | None:
    """The place in a codec's code that an error came from, as `file.py:12`; None for one without a place.

    Args:
        error: as it was caught.
        file: of the codec's class, if it is known: the innermost place in its folder counts.  Else, and where there
            is none, the innermost that is neither pccbench's nor of an installed package; else the innermost.
    """
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    folder = None if file is None else str(Path(file).parent)
    foreign = [frame for frame in frames if not _is_installed(frame[0])]
    near = [frame for frame in frames if folder is not None and str(Path(frame[0]).parent) == folder]
    for some in (near, foreign, frames):
        if some:
            return f"{Path(some[-1][0]).name}:{some[-1][1]}"
    return None


def _is_installed(filename: str) -> bool:
    is_package = {"site-packages", "dist-packages"} & set(Path(filename).parts)
    return bool(is_package) or filename.startswith((_OWN, *_INSTALLED, "<"))
