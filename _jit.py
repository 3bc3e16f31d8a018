"""Machine code: whatever numba compiles here goes through `njit` of this module, which keeps it for the next process.

numba's own cache looks at the file of the compiled function alone, so that a function keeps the old machine code of
a helper that it imports from another file.  Here the machine code of every function depends on all sources that
compiled functions can come from: when one of them changes, all is compiled anew.

The cache lies in `NUMBA_CACHE_DIR`, else in `pccbench` in the user's cache folder (`XDG_CACHE_HOME`, else
`~/.cache`).  Where that folder cannot be written, functions are compiled in each process; a cache that cannot be read
is made anew.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator

from ._cache import pccbench_cache

#: Folders below this one whose functions are compiled.
COMPILED_FOLDERS = ("bench/datasets", "bench/prepare", "codecs", "metrics")

#: What reading a torn pickle raises.
_TORN = (EOFError, pickle.UnpicklingError, ValueError, IndexError, AttributeError, ImportError)

_ROOT = Path(__file__).resolve().parent


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: compile a function with `numba.njit(**options)`; its machine code is kept between processes."""

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**options)(function)
        dispatcher._cache = _MachineCodeCache(function)
        return dispatcher

    return compiled


def cache_folder() -> Path:
    """Folder in which machine code is kept between processes; it need not exist."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen).absolute()
    return pccbench_cache() / "machine-code"


@cache
def sources_sha256() -> str:
    """Hash of all sources that compiled functions can come from."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for folder in COMPILED_FOLDERS:
        for path in sorted((_ROOT / folder).rglob("*.py")):
            digest.update(f"{path.relative_to(_ROOT).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


class _Locator(_CacheLocator):
    """Where numba keeps a function's machine code, and the stamp that says whether it is still right."""

    def __init__(self, function: Callable[..., Any], file: str) -> None:
        self._py_file = file  # numba's warnings name it
        self._line = function.__code__.co_firstlineno
        self._folder = cache_folder() / self.get_suitable_cache_subpath(file)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return sources_sha256()

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _Locator:
        return cls(py_func, py_file)


class _Implementation(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012  # numba's own form


class _MachineCodeCache(FunctionCache):
    """A function's cache; reading and writing it may fail, for it only saves time."""

    _impl_class = _Implementation

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except (OSError, *_TORN):  # not ours to read, or torn by a crash
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            Path(self.cache_path).mkdir(parents=True, exist_ok=True)
            try:
                super().save_overload(sig, data)
            except _TORN:
                self.flush()
                super().save_overload(sig, data)
