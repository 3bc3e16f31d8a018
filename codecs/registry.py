"""Registry: every codec by its name, found without importing what it needs.

A codec comes from one of three places: the table of built-in ones below, the entry points of installed packages
(group `pccbench.codecs`), or a file that the user names (`--codec-module`).  The class is imported when it is first
asked for; a codec module must therefore import quickly, and import torch, numba and the like where it uses them.
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from .base import Codec
from .errors import BitstreamError, CodecModuleError, CodecUnavailableError, UnknownCodecError
from .sources import sources_sha256

ENTRY_POINT_GROUP = "pccbench.codecs"

#: Codecs that ship with pccbench, in the order of lists and runs: name -> "module:Class" below this package.
BUILT_IN: Mapping[str, str] = {
    "raw": "raw:RawCodec",
    "octree": "octree:OctreeCodec",
    "draco": "draco:DracoCodec",
    "gpcc-octree": "gpcc:GpccOctreeCodec",
    "gpcc-trisoup": "gpcc:GpccTrisoupCodec",
    "deepcompress": "deepcompress.codec:DeepCompressCodec",
    "sparse": "sparse.codec:SparseCodec",
    "deepcompress-gaussian": "deepcompress.codec:GaussianCodec",
    "deepcompress-hyperprior": "deepcompress.codec:HyperpriorCodec",
    "deepcompress-channel": "deepcompress.codec:ChannelCodec",
    "deepcompress-context": "deepcompress.codec:ContextCodec",
    "deepcompress-attention": "deepcompress.codec:AttentionCodec",
    "deepcompress-hybrid": "deepcompress.codec:HybridCodec",
    "dpcc": "dpcc.codec:DpccCodec",
}

#: Codecs that differ from another one in a part that is under study: they run when named, not with `all`.
VARIANTS = frozenset(name for name in BUILT_IN if name.startswith("deepcompress-"))

C = TypeVar("C", bound=type[Codec])

#: Classes that were registered in this process, by `register_codec` or from a file.
_registered: dict[str, type[Codec]] = {}
#: Modules made of files that users named, by resolved path.
_modules: dict[Path, ModuleType] = {}


@dataclass(frozen=True)
class CodecSpec:
    """All that a fresh process needs to create a codec; plain values, so that it can be sent there.

    Attributes:
        name: of the codec.
        module_file: file that defines it, None for a built-in or installed one.
        tmc3: path of G-PCC's executable that the user named, else None.
        weights: folder of weights of a learned codec in place of its own, None for its own.
    """

    name: str
    module_file: str | None = None
    tmc3: str | None = None
    weights: str | None = None

    def load(self) -> type[Codec]:
        """The codec's class.

        Raises:
            UnknownCodecError: nothing has that name.
            CodecModuleError: the file, or the installed package, is broken.
            CodecUnavailableError: its module needs a package that is not installed.
        """
        if self.module_file is not None and _file_of(_registered.get(self.name)) != self.module_file:
            load_codec_module(self.module_file)
        return codec_class(self.name)

    def create(self) -> Codec:
        """A new instance.

        Raises:
            UnknownCodecError, CodecModuleError: as `load`.
            CodecUnavailableError: a tool or dependency is missing.
        """
        cls = self.load()
        if cls.tool == "tmc3":
            return cls(executable=self.tmc3)  # type: ignore[call-arg]  # what `tool` promises
        if cls.takes_weights and self.weights is not None:
            return cls(weights=Path(self.weights))  # type: ignore[call-arg]  # what `takes_weights` promises
        return cls()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> CodecSpec:
        """The spec of a record made by `to_dict`."""
        return cls(**record)


def register_codec(cls: C) -> C:
    """Make a codec known under its name for the life of this process; usable as a decorator.

    Registering a class again under the same name is allowed for the same source (a notebook's cell, a reloaded
    module), and nothing takes the name of a built-in codec.

    Raises:
        CodecModuleError: not a concrete `Codec` with a name, or the name is taken.
    """
    _check_class(cls)
    taken = _registered.get(cls.name)
    if cls.name in BUILT_IN or (taken is not None and not _same_source(taken, cls)):
        raise CodecModuleError(f"{cls.__qualname__}: the name {cls.name!r} is taken by another codec")
    _registered[cls.name] = cls
    return cls


def codec_names() -> list[str]:
    """Names of all codecs: built-in, installed, registered."""
    return list(dict.fromkeys([*BUILT_IN, *_installed(), *_registered]))


def codec_class(name: str) -> type[Codec]:
    """The class of a codec, imported now if it was not.

    Raises:
        UnknownCodecError: nothing has that name; the text shows near matches.
        CodecModuleError: an installed package offers something that is no codec, or fails to import.
        CodecUnavailableError: its module needs a package that is not installed.
    """
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        try:
            cls: type[Codec] = getattr(importlib.import_module(f".{module}", __package__), attribute)
        except ModuleNotFoundError as error:
            raise CodecUnavailableError(f"it needs {error.name}: pip install {error.name}") from error
        return cls
    if name in _registered:
        return _registered[name]
    if name in _installed():
        return _load_entry_point(name, _installed()[name])
    known = codec_names()
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}"
    raise UnknownCodecError(f"unknown codec {name!r}; {hint}")


def load_codec_module(path: str | Path) -> list[str]:
    """Import a file of codecs and register every concrete `Codec` that it defines.

    Args:
        path: a `.py` file, or the folder of a package.

    Returns:
        Names of its codecs, in the order of definition.  A file is imported once in a process.

    Raises:
        CodecModuleError: no such file, it fails to import, or defines no codec; the text is one line with the
            place in the file.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "__init__.py"
    if not file.is_file():
        raise CodecModuleError(f"{path}: expected a Python file that defines a codec, found nothing there")
    file = file.resolve()
    module = _modules.get(file)
    if module is None:
        module = _import_file(file)
    own = [cls for cls in vars(module).values() if inspect.isclass(cls) and issubclass(cls, Codec)]
    own = [cls for cls in own if f"{cls.__module__}.".startswith(f"{module.__name__}.")]
    # A class without all methods is somebody's base class, unless there is nothing else.
    defined = [cls for cls in own if not inspect.isabstract(cls)] or own
    if not defined:
        raise CodecModuleError(f"{path}: expected a subclass of pccbench.Codec, it defines none")
    try:
        for cls in defined:
            register_codec(cls)
    except CodecModuleError as error:
        raise CodecModuleError(f"{path}: {error}") from None
    _modules[file] = module
    return list(dict.fromkeys(cls.name for cls in defined))


def find(
    names: Iterable[str], *, modules: Iterable[str | Path] = (), tmc3: str | Path | None = None
) -> list[CodecSpec]:
    """Specs of the codecs that a user named, in that order, each once.

    Args:
        names: names, shell patterns of names, or `all` for every codec that is no variant of another, those of
            `modules` included.
        modules: files to load first.
        tmc3: path of G-PCC's executable, None to look for it.

    Raises:
        UnknownCodecError: a name that nothing has; the text shows near matches.
        CodecModuleError: a file is broken.
    """
    for path in modules:
        load_codec_module(path)
    wanted: dict[str, None] = {}
    for name in names:
        wanted.update(dict.fromkeys(_matching(name)))
    tool = None if tmc3 is None else str(Path(tmc3).resolve())
    known = set(codec_names())
    for name in wanted:
        if name not in known:
            codec_class(name)  # raises, with near matches
    return [CodecSpec(name, _file_of(_registered.get(name)), tool) for name in wanted]


def _matching(name: str) -> list[str]:
    """The names that `all` or a pattern stands for; any other word is itself."""
    known = codec_names()
    if name == "all":
        return [one for one in known if one not in VARIANTS]
    return fnmatch.filter(known, name) or [name]


def unavailable_reason(spec: CodecSpec) -> str | None:
    """Why a codec cannot run here and what to do about it; None when it can."""
    try:
        spec.create()
    except (CodecUnavailableError, CodecModuleError) as error:
        return str(error)
    except Exception as error:
        # The class may be a third party's: its fault is told in the list, and must not end the list.
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def title(spec: CodecSpec) -> str:
    """Name of a codec for lists; its short name where it gives none."""
    cls = spec.load()
    return cls.title or spec.create().card().title or spec.name


def fingerprint(spec: CodecSpec, codec: Codec | None = None) -> dict[str, Any]:
    """What determines the bytes of a codec, each with its own value, for job keys.

    Args:
        spec: the codec.
        codec: an instance of it, if there is one already.

    Returns:
        name, version and, where the codec has them, hashes: of its source files with all modules of pccbench that
        they import (see `sources`), of its weights, of its external tool.  No path of this machine is in it.
    """
    made = spec.create() if codec is None else codec
    card = made.card()
    ingredients = {
        "name": spec.name,
        "version": card.version,
        "sources_sha256": sources_sha256(type(made)),
        "weights_sha256": card.weights_sha256,
        "tool_sha256": card.tool_sha256,
    }
    return {key: value for key, value in ingredients.items() if value is not None}


def identify(data: bytes) -> str | None:
    """Name of the codec that can decode a stream, from its first bytes; None when they do not say."""
    from . import container, tlv

    try:
        return container.codec_of(data)
    except BitstreamError:
        # Both G-PCC adapters decode any stream of tmc3.
        return "gpcc-octree" if tlv.starts_like_tmc3(data) else None


def _check_class(cls: type[Codec]) -> None:
    if not (inspect.isclass(cls) and issubclass(cls, Codec)):
        raise CodecModuleError(f"expected a subclass of Codec, got {cls!r}")
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name or name == "all" or set(name) & set(", \t\n/*?["):
        raise CodecModuleError(
            f"{cls.__qualname__}: expected a class attribute `name` with a word of its own, got {name!r}"
        )
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise CodecModuleError(f"{cls.__qualname__}: it lacks the methods {missing}")


def _same_source(one: type[Codec], other: type[Codec]) -> bool:
    """Whether both are one class, imported twice perhaps."""
    places = [(_file_of(cls) or cls.__module__, cls.__qualname__) for cls in (one, other)]
    return places[0] == places[1]


def _file_of(cls: type[Codec] | None) -> str | None:
    """File that another process has to load to get a registered class; None where there is none."""
    if cls is None:
        return None
    for file, module in _modules.items():  # a package's class may live in a submodule
        if f"{cls.__module__}.".startswith(f"{module.__name__}."):
            return str(file)
    path = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return None if path is None else str(Path(path).resolve())


@cache
def _installed() -> dict[str, EntryPoint]:
    """Entry points of other packages; a name that is taken is left out, with a warning."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name in BUILT_IN or point.name in found:
            warnings.warn(f"codec {point.name!r} of {point.value} left out: the name is taken", stacklevel=2)
        else:
            found[point.name] = point
    return found


def _load_entry_point(name: str, point: EntryPoint) -> type[Codec]:
    try:
        cls = point.load()
        _check_class(cls)
    except CodecModuleError as error:
        raise CodecModuleError(f"codec {name!r} of {point.value}: {error}") from None
    except Exception as error:  # a third party's package can fail in any way; said in one line
        raise CodecModuleError(f"codec {name!r} of {point.value}: {type(error).__name__}: {error}") from error
    return cls


def _import_file(file: Path) -> ModuleType:
    """A module of the file, under a name that no other file has and that is the same in every process."""
    digest = hashlib.sha256(str(file).encode()).hexdigest()[:12]
    stem = file.parent.name if file.name == "__init__.py" else file.stem
    name = f"pccbench_module_{''.join(c if c.isalnum() else '_' for c in stem)}_{digest}"
    folders = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folders)
    if spec is None or spec.loader is None:
        raise CodecModuleError(f"{file}: expected a Python file, its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    before = dict(_registered)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the file is a third party's: anything can happen, said in one line
        sys.modules.pop(name, None)
        _registered.clear()
        _registered.update(before)
        raise CodecModuleError(f"{file}{_place(error, file)}: {_one_line(error)}") from error
    return module


def _place(error: BaseException, file: Path) -> str:
    """Where in the file it went wrong, as `:line`, if it is known."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f":{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f":{lines[-1]}" if lines else ""


def _one_line(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(f"{type(error).__name__}: {text}".split())
