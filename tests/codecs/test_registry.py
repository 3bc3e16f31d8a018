"""The registry: names, files, entry points, specs for other processes, fingerprints."""

import json
import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint

import pytest

from pccbench.codecs import registry
from pccbench.codecs.base import Codec, CodecCard, Rate
from pccbench.codecs.errors import CodecModuleError, CodecUnavailableError, PccbenchError, UnknownCodecError
from pccbench.codecs.raw import RawCodec
from pccbench.codecs.registry import CodecSpec, find, load_codec_module
from pccbench.codecs.sources import source_files, sources_sha256

MINE = """
    from pccbench.codecs.base import Codec, CodecCard, Rate
    from pccbench.codecs.cloud import PointCloud
    import numpy as np

    class Mine(Codec):
        name = "mine"
        title = "My codec"
        def rates(self): return [Rate("only")]
        def encode(self, cloud, rate): return cloud.points.tobytes()
        def decode(self, data): return PointCloud(np.frombuffer(data, np.int32).reshape(-1, 3), 10)
        def card(self): return CodecCard(version="1")
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_modules", {})
    monkeypatch.setattr(registry, "_given", {})


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="mine.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write_file


def make(codec_name):
    class Made(RawCodec):
        name = codec_name

    return Made


def test_the_built_in_codecs_are_there_in_order():
    names = [spec.name for spec in find(("all",))]
    assert names[:5] == ["raw", "octree", "draco", "gpcc-octree", "gpcc-trisoup"]
    for name in names[:5]:
        assert issubclass(registry.codec_class(name), Codec)
        assert registry.codec_class(name).name == name


def test_listing_imports_nothing_heavy():
    program = textwrap.dedent("""
        import sys
        from pccbench.codecs import registry
        for spec in registry.find(("all",)):
            registry.unavailable_reason(spec) or registry.title(spec)
        heavy = {"torch", "open3d", "DracoPy", "numba", "matplotlib", "pandas", "scipy"}
        print(sorted(heavy & set(sys.modules)))
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_shows_near_matches():
    with pytest.raises(UnknownCodecError, match=r"unknown codec 'octre'; did you mean octree"):
        find(("octre",))
    with pytest.raises(UnknownCodecError, match=r"known are raw, octree"):
        find(("zzzzzz",))
    assert issubclass(UnknownCodecError, PccbenchError)


def test_names_come_once_and_in_the_order_asked():
    assert [spec.name for spec in find(["raw", "draco", "raw"])] == ["raw", "draco"]


def test_a_class_registers_itself_once():
    cls = make("homemade")
    assert registry.register_codec(cls) is cls
    assert registry.codec_class("homemade") is cls
    assert "homemade" in registry.codec_names()
    with pytest.raises(CodecModuleError, match="the name 'raw' is taken"):
        registry.register_codec(make("raw"))


@pytest.mark.parametrize("name", ["", "all", "two words", "a/b", None])
def test_a_class_needs_a_name_of_its_own(name):
    with pytest.raises(CodecModuleError, match="class attribute `name`"):
        registry.register_codec(make(name))


def test_what_is_no_codec_is_refused():
    with pytest.raises(CodecModuleError, match="expected a subclass of Codec"):
        registry.register_codec(int)


def test_a_file_gives_its_codecs(write):
    path = write(MINE)
    assert load_codec_module(path) == ["mine"]
    specs = find(("mine",), modules=[path])
    assert specs == [CodecSpec("mine", str(path.resolve()))]
    assert registry.title(specs[0]) == "My codec"
    assert "mine" in [spec.name for spec in find(("all",), modules=[path])]
    assert load_codec_module(path) == ["mine"], "a second time changes nothing"


def test_a_decorated_codec_in_a_file_is_the_same(write):
    decorated = "import pccbench\n" + textwrap.dedent(MINE).replace(
        "class Mine", "@pccbench.register_codec\nclass Mine"
    )
    path = write(decorated)
    assert load_codec_module(path) == ["mine"]


def test_a_folder_with_relative_imports(write):
    write(MINE, "package/codec.py")
    path = write("from .codec import Mine", "package/__init__.py")
    (spec,) = find(("mine",), modules=[path.parent])
    assert spec.create().name == "mine"
    assert set(source_files(spec.load())) == {"__init__.py", "codec.py"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\ndef broken(:\n", r"mine\.py:2: SyntaxError"),
        ("import nosuchmodule_x", r"mine\.py:1: ModuleNotFoundError: No module named 'nosuchmodule_x'"),
        ("\n\nraise RuntimeError('two\\nlines')", r"mine\.py:3: RuntimeError: two lines$"),
        ("import sys\nsys.exit(3)", r"mine\.py:2: SystemExit: 3"),
        ("x = 1", "expected a subclass of pccbench.Codec, it defines none"),
        ("from pccbench.codecs.raw import RawCodec", "it defines none"),
        (
            "from pccbench.codecs.base import Codec\nclass Half(Codec):\n    name = 'half'\n",
            "lacks the methods card, dec",
        ),
        ("from pccbench.codecs.raw import RawCodec\nclass Again(RawCodec):\n    pass\n", "the name 'raw' is taken"),
    ],
)
def test_a_broken_file_gives_one_line_and_leaves_nothing(write, text, says):
    path = write(text)
    before = set(sys.modules)
    with pytest.raises(CodecModuleError, match=says) as caught:
        load_codec_module(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert registry._registered == {}
    if "SyntaxError" in says or "Error" in says:
        assert not {name for name in set(sys.modules) - before if name.startswith("pccbench_module")}


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(CodecModuleError, match="found nothing there"):
        load_codec_module(tmp_path / "nowhere.py")


def test_a_spec_creates_the_codec_in_another_process(write):
    (spec,) = find(("mine",), modules=[write(MINE)])
    program = (
        "import json, sys; from pccbench.codecs.registry import CodecSpec;"
        "print(CodecSpec.from_dict(json.loads(sys.argv[1])).create().title)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(spec.to_dict())], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "My codec"


def test_an_entry_point_is_a_codec(monkeypatch):
    points = [
        EntryPoint("elsewhere", "pccbench.codecs.raw:RawCodec", registry.ENTRY_POINT_GROUP),
        EntryPoint("broken", "nosuchpackage_x.codec:Codec", registry.ENTRY_POINT_GROUP),
        EntryPoint("number", "math:pi", registry.ENTRY_POINT_GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    monkeypatch.setattr(registry, "_installed", registry.cache(registry._installed.__wrapped__))
    assert {"elsewhere", "broken", "number"} <= set(registry.codec_names())
    assert registry.codec_class("elsewhere") is RawCodec
    assert "nosuchpackage_x" in registry.unavailable_reason(CodecSpec("broken"))
    assert "expected a subclass of Codec" in registry.unavailable_reason(CodecSpec("number"))


def test_an_entry_point_cannot_take_a_name(monkeypatch):
    points = [EntryPoint("raw", "math:pi", registry.ENTRY_POINT_GROUP)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    with pytest.warns(UserWarning, match="the name is taken"):
        assert registry._installed.__wrapped__() == {}


def test_a_missing_dependency_is_a_reason_with_a_remedy(monkeypatch, write):
    monkeypatch.setitem(sys.modules, "pccbench.codecs.draco", None)
    with pytest.raises(CodecUnavailableError, match="it needs pccbench"):
        registry.codec_class("draco")
    monkeypatch.undo()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert registry.unavailable_reason(CodecSpec("draco")) == "it needs DracoPy: pip install DracoPy"


def test_a_third_partys_fault_is_a_reason(write):
    text = MINE + "        def __init__(self): raise OSError('no\\nlicence')\n"
    (spec,) = find(("mine",), modules=[write(text)])
    assert registry.unavailable_reason(spec) == "OSError: no licence (mine.py:13)"


def test_the_fingerprint_says_what_changed(write):
    path = write(MINE)
    (spec,) = find(("mine",), modules=[path])
    before = registry.fingerprint(spec)
    assert before == registry.fingerprint(spec, spec.create())
    assert before["name"] == "mine"
    assert before["version"] == "1"
    assert str(path.parent) not in json.dumps(before)
    path.write_text(path.read_text() + "\n# changed\n")
    after = registry.fingerprint(spec)
    assert {key for key in before if before[key] != after[key]} == {"sources_sha256"}


def test_sources_follow_imports_but_leave_the_interface_out():
    names = {name.removeprefix("pccbench.codecs.") for name in source_files(RawCodec)}
    assert {"raw", "container"} <= names
    assert not {"base", "cloud", "errors", "registry"} & names
    octree = {name.removeprefix("pccbench.codecs.") for name in source_files(registry.codec_class("octree"))}
    # Imported inside functions, and through other modules.
    assert {"octree.codec", "octree.occupancy", "octree.kernel", "ctc", "container"} <= octree


def test_a_codec_on_top_of_another_has_its_sources_too(write):
    text = "from pccbench.codecs.raw import RawCodec\nclass Mine(RawCodec):\n    name = 'mine'\n"
    (spec,) = find(("mine",), modules=[write(text)])
    assert {"mine.py", "pccbench.codecs.raw", "pccbench.codecs.container"} <= set(source_files(spec.load()))


def test_a_class_without_a_file_has_no_sources():
    program = (
        "from pccbench.codecs.base import Codec\nfrom pccbench.codecs.sources import sources_sha256\n"
        "class Typed(Codec): name = 'typed'\nprint(sources_sha256(Typed))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"
    assert sources_sha256(RawCodec) is not None


def test_streams_name_their_codec():
    from pccbench.codecs.conformance import surface_cloud

    codec = RawCodec()
    assert registry.identify(codec.encode(surface_cloud(), codec.rates()[0])) == "raw"
    assert registry.identify(b"\0\0\0\0\x04abcdefgh") == "gpcc-octree"
    assert registry.identify(b"\0\0\0\xff\x04abc") is None
    assert registry.identify(b"DRACO") is None
    assert registry.identify(b"") is None


def test_the_front_door_has_it():
    import pccbench

    assert pccbench.register_codec is registry.register_codec
    assert pccbench.Codec is Codec
    assert Rate("x").lossless is False
    assert CodecCard(version="1").trained


def test_functions_count_where_they_are_named():
    from pccbench.metrics.distortion import Reference
    from pccbench.metrics.local_density import density_difference

    name = "pccbench.metrics.local_density"
    assert name not in source_files(Reference)
    assert set(source_files(Reference)) < set(source_files(Reference, density_difference))
    assert name in source_files(Reference, density_difference)
    assert sources_sha256(Reference) != sources_sha256(Reference, density_difference)


def run_elsewhere(spec, expression, cwd):
    """What an expression on `codec` gives in another process that starts in another folder."""
    program = (
        "import json, sys; from pccbench.codecs.registry import CodecSpec;"
        f"codec = CodecSpec.from_dict(json.loads(sys.argv[1])).create(); print({expression})"
    )
    arguments = [sys.executable, "-c", program, json.dumps(spec.to_dict())]
    return subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=cwd).stdout.strip()


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        ("import helper", "helper.VALUE"),
        ("from helper import VALUE", "VALUE"),
        ("from . import helper", "helper.VALUE"),
        ("from .helper import VALUE", "VALUE"),
        ("import deep.inner", "deep.inner.VALUE"),
        ("from .deep import inner", "inner.VALUE"),
        ("pass", "__import__('helper').VALUE"),
    ],
)
def test_a_file_finds_its_neighbours(write, tmp_path, lines, value):
    write("VALUE = 41 + 1\n", "helper.py")
    write("", "deep/__init__.py")
    write("VALUE = 42\n", "deep/inner.py")
    text = f"{lines}\n" + textwrap.dedent(MINE) + f"    def value(self): return {value}\n"
    (spec,) = find(("mine",), modules=[write(text)])
    if "pass" not in lines:  # imported late, it is the neighbour of this process's first codec file
        assert spec.create().value() == 42
    away = tmp_path / "away"
    away.mkdir()
    assert run_elsewhere(spec, "codec.value()", away) == "42"
    if "pass" not in lines:
        before = registry.fingerprint(spec)
        inner = tmp_path / ("deep/inner.py" if "deep" in lines else "helper.py")
        inner.write_text("VALUE = 43\n")
        assert registry.fingerprint(spec) != before, "a neighbour is part of the codec"


def test_neighbours_of_the_same_name_do_not_collide(write, tmp_path):
    for number in (1, 2):
        text = textwrap.dedent(MINE).replace('"mine"', f'"mine{number}"').replace("class Mine", "class Other")
        write(f"VALUE = {number}\n", f"folder{number}/helper.py")
        write(f"import helper\n{text}    def value(self): return helper.VALUE\n", f"folder{number}/mine.py")
    specs = find(("mine1", "mine2"), modules=[tmp_path / "folder1/mine.py", tmp_path / "folder2/mine.py"])
    assert [spec.create().value() for spec in specs] == [1, 2]
    assert [run_elsewhere(spec, "codec.value()", tmp_path) for spec in specs] == ["1", "2"]


def test_a_neighbour_does_not_take_the_place_of_a_library(write):
    write("raise RuntimeError('this is not the library')\n", "colorsys.py")
    sys.modules.pop("colorsys", None)
    load_codec_module(write(MINE))
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 0) == (0, 0, 0)


@pytest.mark.parametrize(
    "helper",
    [
        "class Base(Codec):\n    def rates(self): return [Rate('only')]\n",
        "class Base(RawCodec):\n    def extra(self): return 1\n",
        "class Base(RawCodec):\n    name = None\n",
    ],
    ids=["abstract", "inherits a name", "no name"],
)
def test_a_helper_base_class_is_left_out(write, helper):
    text = f"from pccbench.codecs.raw import RawCodec\nfrom pccbench.codecs.base import Codec, Rate\n{helper}"
    base = "Base" if "RawCodec)" in helper else "Base, RawCodec"
    path = write(f"{text}class Mine({base}):\n    name = 'mine'\n")
    assert load_codec_module(path) == ["mine"]
    assert "raw" not in registry._registered


def test_what_a_file_registers_itself_is_its_codec(write, tmp_path):
    text = """
        import pccbench
        from pccbench.codecs.raw import RawCodec
        for number in range(3):
            pccbench.register_codec(type(f"Raw{number}", (RawCodec,), {"name": f"raw-{number}"}))
    """
    path = write(text)
    assert load_codec_module(path) == ["raw-0", "raw-1", "raw-2"]
    assert load_codec_module(path) == ["raw-0", "raw-1", "raw-2"], "a second time changes nothing"
    (spec,) = find(("raw-1",), modules=[path])
    assert run_elsewhere(spec, "codec.name", tmp_path) == "raw-1"


def test_a_fault_in_a_neighbour_is_placed(write):
    write("x = 1\ny = 1 / 0\n", "helper.py")
    path = write("import helper\n" + textwrap.dedent(MINE))
    with pytest.raises(CodecModuleError, match=r"mine\.py:1: ZeroDivisionError: division by zero \(helper\.py:2\)$"):
        load_codec_module(path)
    (path.parent / "helper.py").write_text("def broken(:\n")
    with pytest.raises(CodecModuleError, match=r"mine\.py:1: SyntaxError: .* \(helper\.py:1\)$"):
        load_codec_module(path)


def test_a_place_is_that_in_the_codecs_own_code(write):
    from pccbench.codecs.errors import where

    text = textwrap.dedent(MINE).replace("return cloud.points.tobytes()", "return np.reshape(np.zeros(3), (2, 2))")
    (spec,) = find(("mine",), modules=[write(text)])
    for file in (spec.module_file, None):
        with pytest.raises(ValueError, match="reshape") as caught:
            spec.create().encode(None, None)
        assert where(caught.value, file) == "mine.py:10"
    assert where(ValueError("never raised")) is None
    with pytest.raises(PccbenchError) as caught:
        RawCodec().decode(b"")
    assert where(caught.value, registry.__file__).startswith("container.py:")


@pytest.mark.parametrize(
    "name", ["two words", "a,b", "", "all", "a/b", "x\x1b[31m", "line\nbreak", "-x", "ü" * 3, "a" * 65]
)
def test_an_entry_point_needs_a_word_for_a_name(monkeypatch, name):
    points = [
        EntryPoint(name, "math:pi", registry.ENTRY_POINT_GROUP),
        EntryPoint("sound", "math:pi", registry.ENTRY_POINT_GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    with pytest.warns(UserWarning, match="left out: the name is no word") as caught:
        assert list(registry._installed.__wrapped__()) == ["sound"]
    assert str(caught[0].message).isprintable()


def test_an_entry_point_may_end_python_and_costs_nobody_else(monkeypatch, write):
    write("import sys\nsys.exit(0)\n", "leaves_x.py")
    monkeypatch.syspath_prepend(str(write("", "empty.py").parent))
    points = [EntryPoint("leaves", "leaves_x:Codec", registry.ENTRY_POINT_GROUP)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    monkeypatch.setattr(registry, "_installed", registry.cache(registry._installed.__wrapped__))
    assert "SystemExit" in registry.unavailable_reason(CodecSpec("leaves"))
    assert registry.unavailable_reason(CodecSpec("raw")) is None


@pytest.mark.parametrize("title", ["7", "['a']", "'x' * 100", "'two\\nlines'", "1 / 0"])
def test_a_title_is_a_line_of_text(write, title):
    text = textwrap.dedent(MINE).replace('title = "My codec"', "title = ''")
    text = text.replace('CodecCard(version="1")', f'CodecCard(version="1", title={title})')
    (spec,) = find(("mine",), modules=[write(text)])
    assert registry.title(spec) == "mine"
