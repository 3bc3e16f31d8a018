"""Registry: every codec by its name, found without importing what it needs.

A codec comes from one of three places: the table of built-in ones below, the entry points of installed packages
(group `pccbench.codecs`), or a file that the user names (`--codec-module`).  The class is imported when it is first
asked for; a codec module must therefore import quickly, and import torch, numba and the like where it uses them.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from .base import Codec
from .errors import BitstreamError, CodecModuleError, CodecUnavailableError, UnknownCodecError, where
from .packages import package_versions
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
#: Modules made of files that users named, by resolved path, and the codecs that each gave.
_modules: dict[Path, ModuleType] = {}
_given: dict[Path, tuple[str, ...]] = {}
#: Folders of such files.
_user_folders: set[str] = set()
_LONGEST_TITLE, _LONGEST_MESSAGE = 80, 500
#: A word that can be typed after `--codecs` and stand in a table.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}")


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
        if self.module_file is not None and _file_of(self.name) != self.module_file:
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

    The file is imported as `python file.py` would run it: it finds its neighbours by `import helper` and, if they
    do not lie in a package, by `from . import helper` too.  Classes without a name of their own, and abstract ones,
    are the file's helpers; those that it registers itself count, wherever they come from.

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
    if file in _given:
        return list(_given[file])
    before = dict(_registered)
    try:
        module = _import_file(file)
        by_itself = [cls for name, cls in _registered.items() if before.get(name) is not cls]
        own = [cls for cls in vars(module).values() if inspect.isclass(cls) and issubclass(cls, Codec)]
        own = [cls for cls in own if f"{cls.__module__}.".startswith(f"{module.__name__}.")]
        defined = [cls for cls in own if not _is_helper(cls, module.__name__)]
        # What is nobody's codec may be meant as one, if there is nothing else: then it is said what it lacks.
        defined = list(dict.fromkeys([*by_itself, *defined])) or own
        if not defined:
            raise CodecModuleError("expected a subclass of pccbench.Codec, it defines none")
        for cls in defined:
            register_codec(cls)
    except CodecModuleError as error:
        _registered.clear()
        _registered.update(before)
        text = str(error)
        raise CodecModuleError(text if text.startswith(str(file)) else f"{path}: {text}") from error.__cause__
    _modules[file] = module
    _given[file] = tuple(dict.fromkeys(cls.name for cls in defined))
    return list(_given[file])


def _is_helper(cls: type[Codec], module_name: str) -> bool:
    """Whether a class of a file is a base of others: without all methods, or without a name of its own."""
    named = [base for base in cls.__mro__ if "name" in vars(base)]
    has_own = bool(named) and f"{named[0].__module__}.".startswith(f"{module_name}.")
    return inspect.isabstract(cls) or not has_own or vars(named[0])["name"] is None


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
    return [CodecSpec(name, _file_of(name), tool) for name in wanted]


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
    except (Exception, SystemExit) as error:
        # The class may be a third party's: its fault is told in the list, and must not end the list.
        return f"{_one_line(error)}{_at(error, spec.module_file)}"
    return None


def title(spec: CodecSpec) -> str:
    """Name of a codec for lists; its short name where it gives none that is a line of text."""
    try:
        found: object = spec.load().title or spec.create().card().title
    except (Exception, SystemExit):  # a third party's fault must not end the list; a run says what it is
        found = None
    is_line = isinstance(found, str) and found.isprintable() and len(found) <= _LONGEST_TITLE
    return str(found) if is_line and found else spec.name


def fingerprint(spec: CodecSpec, codec: Codec | None = None) -> dict[str, Any]:
    """What determines the bytes of a codec, each with its own value, for job keys.

    Args:
        spec: the codec.
        codec: an instance of it, if there is one already.

    Returns:
        name, version and, where the codec has them, hashes: of its source files with all modules of pccbench that
        they import (see `sources`), of its weights, of its external tool; and the
        versions of the packages that they import (see `packages`).  No path of this machine is in it.
    """
    made = spec.create() if codec is None else codec
    card = made.card()
    ingredients = {
        "name": spec.name,
        "version": card.version,
        "sources_sha256": sources_sha256(type(made)),
        "weights_sha256": card.weights_sha256,
        "tool_sha256": card.tool_sha256,
        "packages": package_versions(type(made)),
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
    if not isinstance(name, str) or not _is_name(name):
        raise CodecModuleError(
            f"{cls.__qualname__}: expected a class attribute `name` with a word of its own, got {_shown(name)}"
        )
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise CodecModuleError(f"{cls.__qualname__}: it lacks the methods {missing}")


def _same_source(one: type[Codec], other: type[Codec]) -> bool:
    """Whether both are one class, imported twice perhaps."""
    places = [(_module_file(cls) or cls.__module__, cls.__qualname__) for cls in (one, other)]
    return places[0] == places[1]


def _is_name(name: str) -> bool:
    return name != "all" and _NAME.fullmatch(name) is not None


def _shown(value: object) -> str:
    """A value in a message: on one line, not too long."""
    return " ".join(repr(value).split())[:60]


def _file_of(name: str) -> str | None:
    """File that another process has to load to get a registered codec; None where there is none."""
    for file, names in _given.items():
        if name in names:
            return str(file)
    return _module_file(_registered[name]) if name in _registered else None


def _module_file(cls: type[Codec]) -> str | None:
    path = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return None if path is None else str(Path(path).resolve())


@cache
def _installed() -> dict[str, EntryPoint]:
    """Entry points of other packages; a name that is taken is left out, with a warning."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name in BUILT_IN or point.name in found:
            warnings.warn(f"codec {point.name!r} of {point.value} left out: the name is taken", stacklevel=2)
        elif not _is_name(point.name):
            text = f"codec {_shown(point.name)} of {_shown(point.value)} left out: the name is no word"
            warnings.warn(text, stacklevel=2)
        else:
            found[point.name] = point
    return found


def _load_entry_point(name: str, point: EntryPoint) -> type[Codec]:
    try:
        cls = point.load()
        _check_class(cls)
    except CodecModuleError as error:
        raise CodecModuleError(f"codec {name!r} of {point.value}: {error}") from None
    except (Exception, SystemExit) as error:  # a third party's package can fail in any way; said in one line
        text = f"codec {name!r} of {point.value}: {_one_line(error)}{_at(error)}"
        raise CodecModuleError(text) from error
    return cls


def _import_file(file: Path) -> ModuleType:
    """A module of the file, under a name that no other file has and that is the same in every process."""
    is_package = file.name == "__init__.py"
    digest = hashlib.sha256(str(file.parent).encode()).hexdigest()[:12]
    package = f"pccbench_module_{_word(file.parent.name)}_{digest}"
    name = package if is_package else f"{package}.{_word(file.stem)}"
    folders = [str(file.parent)] if is_package else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folders)
    if spec is None or spec.loader is None:
        raise CodecModuleError(f"{file}: expected a Python file, its name must end in .py")
    modules_before = dict(sys.modules)
    if not is_package and package not in sys.modules:
        # What `from . import helper` is relative to.
        sys.modules[package] = ModuleType(package)
        sys.modules[package].__path__ = [str(file.parent)]
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    before = dict(_registered)
    try:
        with _neighbours_first(file.parent.parent if is_package else file.parent):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the file is a third party's: anything can happen, said in one line
        for each in [each for each in sys.modules if each == name or each.startswith(f"{package}.")]:
            if each not in modules_before:
                del sys.modules[each]
        if package not in modules_before:
            sys.modules.pop(package, None)
        _registered.clear()
        _registered.update(before)
        raise CodecModuleError(f"{file}{_place(error, file)}: {_one_line(error)}{_elsewhere(error, file)}") from error
    return module


@contextlib.contextmanager
def _neighbours_first(folder: Path) -> Iterator[None]:
    """Have `import helper` find the files of a folder first, as `python folder/file.py` does; afterwards, last.

    Afterwards, since a neighbour must not take the place of a module that somebody imports later.  A neighbour of
    the same name that another folder's codec imported is set aside: each finds its own.
    """
    path = str(folder)
    others = {
        name: module
        for name, module in sys.modules.items()
        if (file := getattr(module, "__file__", None)) is not None
        and _user_folders & {str(parent) for parent in Path(file).parents}
        and not name.startswith("pccbench_module_")
        and (folder / f"{name.partition('.')[0]}.py").is_file() | (folder / name.partition(".")[0]).is_dir()
        and not Path(file).is_relative_to(folder)
    }
    for name in others:
        del sys.modules[name]
    importlib.invalidate_caches()
    sys.path.insert(0, path)
    try:
        yield
    finally:
        sys.path.remove(path)
        _user_folders.add(path)
        if path not in sys.path:
            sys.path.append(path)


def _word(text: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in text)


def _place(error: BaseException, file: Path) -> str:
    """Where in the file it went wrong, as `:line`, if it is known."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f":{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    return f":{lines[-1]}" if lines else ""


def _elsewhere(error: BaseException, file: Path) -> str:
    """The place in a neighbour, where the fault is there."""
    place = where(error, str(file))
    return "" if place is None or place.startswith(f"{file.name}:") else f" ({place})"


def _at(error: BaseException, file: str | None = None) -> str:
    place = where(error, file)
    return "" if place is None else f" ({place})"


def _one_line(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(f"{type(error).__name__}: {text}".split())[:_LONGEST_MESSAGE]
