"""Sources: the files that a codec's code lives in, found by reading imports, and their common hash.

A stored result is stale when the code that made it has changed.  What a codec consists of is not declared but
followed: its module, and every module of pccbench's `codecs`, `metrics` and `_jit` that this imports, directly or
through others, at the top or inside a function.  The interface itself (see `INTERFACE`) is left out: it says how to
call a codec, not what bytes come out.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from .base import Codec

#: The import package of pccbench and its folder.
_PACKAGE = __name__.partition(".")[0]
_ROOT = Path(__file__).resolve().parent.parent

#: Modules of `codecs` that no codec's bytes depend on.
INTERFACE = frozenset(
    f"{_PACKAGE}.codecs{name}"
    for name in ("", ".base", ".cloud", ".errors", ".registry", ".conformance", ".sources", ".packages")
)
_FOLLOWED = tuple(f"{_PACKAGE}.{name}" for name in ("codecs", "metrics", "_jit"))


def sources_sha256(cls: type, *functions: Callable[..., Any]) -> str | None:
    """Hash of the source files of a class; None where it has no file (typed into an interpreter).

    Args:
        cls: the class; a package that is not pccbench's counts with all the files in its folder, a single file with
            the neighbours that it imports.
        functions: functions of pccbench whose sources count too.
    """
    files = sorted(source_files(cls, *functions).items())
    if not files:
        return None
    digest = hashlib.sha256()
    for name, path in files:
        digest.update(f"{name}\0{_read(path, path.stat().st_mtime_ns)[0]}\n".encode())
    return digest.hexdigest()


def source_files(cls: type, *functions: Callable[..., Any]) -> dict[str, Path]:
    """Name (the same on every machine) and path of each source file of a class, and of functions of pccbench."""
    found: dict[str, Path] = {}
    waiting = [function.__module__ for function in functions]
    # Base classes count: a codec may be three lines on top of another one.
    for base in cls.__mro__:
        if base.__module__.startswith(_FOLLOWED):
            waiting.append(base.__module__)
        elif issubclass(base, Codec):
            for name, path in _foreign_files(base.__module__):
                found[name] = path
                waiting += _imports(path, "", is_package=False)
    while waiting:
        name = waiting.pop()
        file = None if name in found or name in INTERFACE else _module_file(name)
        if file is not None:
            found[name] = file
            waiting += _imports(file, name, is_package=file.name == "__init__.py")
    return found


def _foreign_files(module_name: str) -> Iterator[tuple[str, Path]]:
    """Files of a module that is not pccbench's: all of its package's folder, or the one with its neighbours."""
    top = sys.modules.get(module_name.partition(".")[0])
    module = sys.modules.get(module_name)
    path = getattr(top, "__file__", None) or getattr(module, "__file__", None)
    if path is None:
        return
    file = Path(path)
    if file.name == "__init__.py":
        for each in sorted(file.parent.rglob("*.py")):
            yield each.relative_to(file.parent).as_posix(), each
    elif file.suffix == ".py":
        for each in _with_neighbours(file):
            yield each.relative_to(file.parent).as_posix(), each


def _with_neighbours(file: Path) -> list[Path]:
    """A file and those beside it (and in folders there) that it imports, directly or through others."""
    folder, found, waiting = file.parent, [], [file]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.append(path)
        for level, name in _read(path, path.stat().st_mtime_ns)[1]:
            above = path.parents[level - 1] if level else folder
            if above != folder and folder not in above.parents:
                continue
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                inner = above.joinpath(*parts[:end])
                candidates = (inner.with_name(f"{inner.name}.py"), inner / "__init__.py") if name else ()
                waiting += [each for each in candidates if each.is_file()]
    return sorted(found)


def _module_file(name: str) -> Path | None:
    """Where a module of pccbench lies; None for a name that is no module (a class, a function)."""
    path = _ROOT.joinpath(*name.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _imports(path: Path, module_name: str, *, is_package: bool) -> list[str]:
    """Absolute names below `_FOLLOWED` that a file imports; of `from x import y` both x and x.y."""
    parts = module_name.split(".")
    package = parts if is_package else parts[:-1]
    names = []
    for level, name in _read(path, path.stat().st_mtime_ns)[1]:
        if level:
            above = package[: len(package) - (level - 1)]
            names.append(".".join([*above, name] if name else above))
        else:
            names.append(name)
    return [name for name in names if name.startswith(_FOLLOWED)]


@cache
def _read(path: Path, _modified_ns: int) -> tuple[str, tuple[tuple[int, str], ...]]:
    """Hash of a file, and what it imports as (level of relative import, name)."""
    data = path.read_bytes()
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(data)):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found.append((node.level, module))
            found += [(node.level, f"{module}.{alias.name}".lstrip(".")) for alias in node.names]
    return hashlib.sha256(data).hexdigest(), tuple(found)
