"""Packages: the versions of what a codec's, or a metric's, code imports and that can change its figures.

Like the sources, they are not declared but found by reading imports, at the top or inside a function: a codec that
never imports torch is not made stale by a new torch.
"""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from .sources import source_files

#: Read settings and files, show progress, draw; llvmlite goes with numba.
_INNOCENT = frozenset(
    {"click", "jinja2", "llvmlite", "matplotlib", "pandas", "pydantic", "safetensors", "tqdm", "yaml"}
)
#: Packages whose third number only mends: figures may change with the first two.  Of others the whole version counts.
_MENDS_ONLY = frozenset({"numba", "numpy", "open3d", "scipy", "torch"})


def package_versions(cls: type, *functions: Callable[..., Any]) -> dict[str, str | None]:
    """Version of each package that can change what a class and functions compute, by its import name.

    Args:
        cls: a codec's class, or one of pccbench's.
        functions: functions of pccbench that count too.

    Returns:
        `{"numpy": "2.4", "DracoPy": "2.2.0"}`, sorted; None for a package that is not installed.
    """
    names: set[str] = set()
    for path in source_files(cls, *functions).values():
        names |= _imported(path, path.stat().st_mtime_ns)
    return {name: _version(name) for name in sorted(names)}


@cache
def _imported(path: Path, _modified_ns: int) -> frozenset[str]:
    """Top-level names of foreign packages that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    own = __name__.partition(".")[0]
    neighbours = {name for name in found if _is_neighbour(path, name)}
    return frozenset(found - neighbours - _INNOCENT - sys.stdlib_module_names - {own})


def _is_neighbour(path: Path, name: str) -> bool:
    """Whether a name is a module beside the file, whose source counts and not its version."""
    return (path.parent / f"{name}.py").is_file() or (path.parent / name / "__init__.py").is_file()


@cache
def _version(name: str) -> str | None:
    """Version of the distribution that an import name belongs to, as far as it can change figures."""
    distribution = _distribution(name)
    if distribution is None:
        return None
    version = importlib.metadata.version(distribution).partition("+")[0]
    return ".".join(version.split(".")[:2]) if name in _MENDS_ONLY else version


def _distribution(name: str) -> str | None:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = importlib.metadata.packages_distributions().get(name)
        return found[0] if found else None
    return name
