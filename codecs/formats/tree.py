"""Tree: the files below a folder, through links, without going round in circles."""

from __future__ import annotations

import hashlib
import os
import stat
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import CloudError, PccbenchWarning

_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_BLOCK_BYTES = 1 << 20
#: How often a folder is entered at most, by different links; links upon links would multiply without end.
_MOST_VISITS = 16


class CloudWarning(PccbenchWarning):
    """A file or folder was read, but not all that is in it: says what was left out."""


def walk_files(root: Path, patterns: Sequence[str]) -> list[Path]:
    """The regular files below a folder whose name fits a pattern, in upper or lower case, sorted by path.

    Linked folders and files count as if they lay there; a link to a folder that leads to itself is not followed.
    Names that begin with a dot are passed over: editors, archives and systems leave such files behind.  What fits but
    cannot be read is named by a `CloudWarning`: links to nothing, pipes, folders without permission.

    Args:
        root: the folder.
        patterns: of names (not paths), as `*.ply`.
    """
    lowered = [pattern.lower() for pattern in patterns]
    found = [
        path
        for path in _walk(root)
        if any(fnmatchcase(path.name.lower(), pattern) for pattern in lowered) and is_file(path)
    ]
    return sorted(found)


def is_file(path: Path) -> bool:
    """Whether there is a regular file; anything else is named by a `CloudWarning`, for it was to be expected."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        what = "a link to nothing" if path.is_symlink() else f"cannot be read: {error.strerror or error}"
        _leave_out(path, what)
        return False
    if not stat.S_ISREG(mode):
        _leave_out(path, "a folder" if stat.S_ISDIR(mode) else "a device or pipe")
    return stat.S_ISREG(mode)


def _leave_out(path: Path, what: str) -> None:
    warnings.warn(f"{printable(str(path))}: {what}, left out", CloudWarning, stacklevel=4)


def printable(text: str) -> str:
    r"""A name as a terminal, a table and a file of UTF-8 can take it: what cannot be shown is escaped.

    >>> printable("a\nb\udcff")
    'a\\nb\\udcff'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _walk(root: Path) -> Iterator[Path]:
    """All that lies below a folder and is no folder."""
    visits: Counter[tuple[int, int]] = Counter()
    waiting: list[tuple[Path, tuple[tuple[int, int], ...]]] = [(root, ())]
    while waiting:
        folder, above = waiting.pop()
        try:
            status = folder.stat()
            identity = (status.st_dev, status.st_ino)
            if identity in above or visits[identity] >= _MOST_VISITS:
                continue
            visits[identity] += 1
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            _leave_out(folder, f"cannot be read: {error.strerror or error}")
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = folder / entry.name
            if _is_folder(entry):
                waiting.append((path, (*above, identity)))
            else:
                yield path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # of a link that leads to itself, say
        return False


def read_bytes(path: Path) -> bytes:
    """The content of a regular file.

    Raises:
        CloudError: there is none, or it cannot be read; the text does not name it.
    """
    return b"".join(_blocks(path, whole=True))


def file_sha256(path: Path) -> str:
    """Hash of a regular file, of any size.

    Raises:
        CloudError: there is none, or it cannot be read; the text names it.
    """
    digest = hashlib.sha256()
    try:
        for block in _blocks(path):
            digest.update(block)
    except CloudError as error:
        raise CloudError(printable(f"{path}: {error}")) from error.__cause__
    return digest.hexdigest()


def _blocks(path: Path, *, whole: bool = False) -> Iterator[bytes]:
    try:
        # Without blocking: another program may put a pipe, which never ends, in the place of the file at any time.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NONBLOCK)) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise CloudError("a device or pipe, expected a file")
            while block := stream.read(-1 if whole else _BLOCK_BYTES):
                yield block
    except IsADirectoryError:
        raise CloudError("a folder, expected a file") from None
    except FileNotFoundError:
        raise CloudError("a link to nothing" if path.is_symlink() else "no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if isinstance(error, CloudError):
            raise
        raise CloudError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
