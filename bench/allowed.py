"""Allowed: what a sealed codec may read, and the environment that it starts with.

Readable are the system's programs and libraries, Python with its packages, pccbench, the codec's own module and tool.
Where the data set, the run folder or temporary files lie inside one of these, they are left out of it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import site
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from .._cache import user_cache
from ..codecs.registry import CodecSpec
from .datasets.root import data_root
from .errors import UsageError
from .spec import RunSpec

#: Names, separated by commas, of further variables that codecs get; files and folders that they name become readable.
VARIABLE = "PCCBENCH_PASS"

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/sys", "/nix/store", "/gnu/store")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_GPUS = ("nvidia*", "dri", "kfd")
#: Variables that a codec gets: whole names, and beginnings of names.
_PASSED = frozenset(
    "PATH LANG LANGUAGE TZ LD_LIBRARY_PATH LD_PRELOAD VIRTUAL_ENV CONDA_PREFIX PCCBENCH_TMC3 TORCH_HOME HF_HOME "
    "PYTHONPATH PYTHONHOME PYTHONHASHSEED PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX PYTHONNOUSERSITE "
    "PYTHONUSERBASE PYTHONOPTIMIZE PYTHONUTF8 PYTHONWARNINGS PYTHONFAULTHANDLER PYTHONMALLOC GLIBC_TUNABLES".split()
)
_PASSED_BEGINNINGS = (
    *("LC_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "NUMBA_", "NUMEXPR_", "TORCH_", "PYTORCH_"),
    *("ATEN_", "DNNL_", "ONEDNN_", "NPY_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "MALLOC_"),
)
#: Folders that hold anything: where a codec's file or an entry of a search path is one of these, not what is below.
_BROAD = ("/", "/home", "/root", "/tmp", "/var/tmp", "/dev/shm", "/data", "/mnt", "/media", "/srv", "/opt")  # noqa: S108
#: What beside a codec's file is readable.
_OWN_SUFFIXES = frozenset(".py .pyc .so .pyd .pt .pth .ckpt .safetensors .onnx .json .yaml .yml .toml .cfg".split())
#: Parts of the package that workers import.
_PACKAGE_PARTS = (
    "__init__.py",
    "_cache.py",
    "_jit.py",
    "_version.py",
    "py.typed",
    "bench",
    "codecs",
    "metrics",
    "reports",
)
#: So deep, folders with something hidden in them are looked through; deeper, they are left out.
_DEEPEST = 12
#: So many files and folders around a codec's file are looked at.
_MOST_LOOKED_AT = 20_000


def gpus() -> tuple[str, ...]:
    """Devices of GPUs that are here."""
    return tuple(str(path) for pattern in _GPUS for path in sorted(Path("/dev").glob(pattern)))


def devices() -> tuple[str, ...]:
    """Devices that a codec may use."""
    return (*_DEVICES, *gpus())


def data_folders(spec: RunSpec) -> tuple[Path, ...]:
    """Folders of the data sets of a run, which its codecs must not read."""
    found = [Path(name.partition(":")[2]).expanduser() for name in spec.datasets if name.startswith("folder:")]
    with contextlib.suppress(UsageError):  # said where the data set is opened
        root = data_root(spec.data_root)
        found += [] if root is None else [root]
    return tuple(path.absolute() for path in found)


def environment(folder: Path, threads: int, hidden: Iterable[Path]) -> dict[str, str]:
    """The environment of a worker.

    Args:
        folder: its own, with `tmp` and `home` in it.
        threads: that its libraries may use.
        hidden: files and folders whose paths it must not learn.
    """
    secrets = [str(path) for path in hidden if len(path.parts) > 1]
    wanted = {*_PASSED, *_further()}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in wanted or (name.startswith(_PASSED_BEGINNINGS) and not any(path in value for path in secrets))
    }
    for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH"):
        if name in kept:
            kept[name] = os.pathsep.join(str(Path(entry).absolute()) for entry in _entries(name))
    for name, default in (("TORCH_HOME", "torch"), ("HF_HOME", "huggingface")):
        if name not in kept and (user_cache() / default).is_dir():
            kept[name] = str(user_cache() / default)
    return {
        **kept,
        **{f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS", "NUMBA", "NUMEXPR")},
        "TMPDIR": str(folder / "tmp"),
        "HOME": str(folder / "home"),
        "NUMBA_CACHE_DIR": str(folder / "home" / "numba"),
        "PYTHONUNBUFFERED": "1",
    }


def readable(spec: CodecSpec, hidden: Iterable[Path]) -> tuple[list[str], list[str]]:
    """Files and folders that the codec may read with all below, and folders whose names alone it may list.

    Args:
        spec: the codec.
        hidden: files and folders to leave out.
    """
    secrets = [resolved for path in hidden if (resolved := _resolved(path)) is not None]
    found: list[str] = []
    listed: list[str] = []
    holds_more = [*secrets, *_broad()]
    for root in dict.fromkeys([*_SYSTEM, *_python(), *_tools(spec)]):
        is_code_only = _resolved(Path(root)) in holds_more
        found += _code_in(Path(root), secrets, listed) if is_code_only else _carved(Path(root), secrets, listed)
    package = Path(__file__).resolve().parent.parent
    listed.append(str(package))
    for part in _PACKAGE_PARTS:
        found += _carved(package / part, secrets, listed)
    for source in _sources(spec):
        found += _beside(source, secrets, listed)
    if spec.weights is not None:
        found += _own(Path(spec.weights).resolve(), secrets, listed)
    return list(dict.fromkeys(found)), list(dict.fromkeys(listed))


def _further() -> list[str]:
    return [name for name in os.environ.get(VARIABLE, "").split(",") if name in os.environ]


def _entries(name: str) -> list[str]:
    return [entry for entry in os.environ.get(name, "").split(os.pathsep) if entry]


def _python() -> Iterator[str]:
    """Python and all folders that it imports from, but that of the script and the one where the user stands."""
    yield from (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)
    yield str(Path(sys.executable).resolve().parent.parent)
    yield from _entries("PYTHONPATH")
    with contextlib.suppress(AttributeError):  # some environments have a `site` of their own
        yield from site.getsitepackages()
        yield site.getusersitepackages()
    started = [Path.cwd(), Path(sys.argv[0]).absolute().parent if sys.argv and sys.argv[0] else Path.cwd()]
    for entry in sys.path:
        if entry and Path(entry).absolute() not in started:
            yield entry
    yield from _entries("PYTHONPYCACHEPREFIX")


def _tools(spec: CodecSpec) -> Iterator[str]:
    """Programs that a codec may start, with their libraries, and what the user passes on."""
    for tool in (spec.tmc3, os.environ.get("PCCBENCH_TMC3")):
        if tool:
            yield tool
            yield from (str(path) for path in Path(tool).resolve().parent.glob("*.so*"))
    for entry in (*_entries("PATH"), *_entries("LD_LIBRARY_PATH")):
        yield entry
    for entry in _entries("PATH"):
        for library in ("lib", "lib64") if Path(entry).name in ("bin", "sbin") else ():
            yield str(Path(entry).parent / library)
    yield os.environ.get("TORCH_HOME") or str(user_cache() / "torch")
    yield os.environ.get("HF_HOME") or str(user_cache() / "huggingface")
    for name in _further():
        yield from (entry for entry in os.environ[name].split(os.pathsep) if Path(entry).is_absolute())


def _sources(spec: CodecSpec) -> Iterator[Path]:
    """Files that define the codec outside of pccbench."""
    if spec.module_file is not None:
        yield Path(spec.module_file)
        return
    try:
        home = spec.load().__module__.partition(".")[0]
    except Exception:  # a third party's: the worker will say what is wrong with it
        return
    package = sys.modules.get(home)
    path = getattr(package, "__file__", None)
    if path is not None and home != __name__.partition(".")[0]:
        yield Path(path)


def _resolved(path: Path) -> Path | None:
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return None


def _beside(source: Path, secrets: list[Path], listed: list[str]) -> Iterator[str]:
    """A codec's file, and the code and weights beside it; the whole of a package."""
    folder = source.resolve().parent
    yield str(source.resolve())
    if source.name == "__init__.py":
        yield from _own(folder, secrets, listed)
    else:
        yield from _code_in(folder, secrets, listed)


def _own(folder: Path, secrets: list[Path], listed: list[str]) -> Iterator[str]:
    """A folder that is the codec's wherever it lies; what is hidden inside it stays hidden."""
    yield from _carved(folder, [secret for secret in secrets if folder in secret.parents], listed)


def _code_in(folder: Path, secrets: list[Path], listed: list[str]) -> Iterator[str]:
    """Code and weights in a folder that may hold anything, and in folders below it unless that can hold too much."""
    listed.append(str(folder))
    patterns = ("*",) if _resolved(folder) in _broad() else ("*", "*/*", "*/*/*")
    inside = [secret for secret in secrets if folder in secret.parents]
    for path in itertools.islice(itertools.chain.from_iterable(map(folder.glob, patterns)), _MOST_LOOKED_AT):
        is_hidden = any(path == secret or secret in path.parents for secret in inside)
        if path.suffix in _OWN_SUFFIXES and not is_hidden and path.is_file():
            yield str(path)


def _broad() -> set[Path]:
    """Folders that hold anything."""
    found = (_resolved(Path(path)) for path in (*_BROAD, Path.home(), tempfile.gettempdir()))
    return {path for path in found if path is not None}


def _carved(root: Path, secrets: list[Path], listed: list[str], depth: int = 0) -> Iterator[str]:
    """The folder, or the parts of it that hold nothing secret."""
    path = _resolved(root)
    if path is None or not path.exists() or path == Path("/"):
        return
    if path in secrets and depth:
        return
    if not any(path in secret.parents for secret in secrets):
        yield str(path)
        return
    if depth >= _DEEPEST:
        return
    listed.append(str(path))
    with contextlib.suppress(OSError):
        for child in path.iterdir():
            if not child.is_symlink():
                yield from _carved(child, secrets, listed, depth + 1)
