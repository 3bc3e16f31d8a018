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
    assert registry.unavailable_reason(spec) == "OSError: no licence"


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
    from pccbench.metrics.normals import estimate_normals

    assert "pccbench.metrics.normals" not in source_files(Reference)
    assert set(source_files(Reference)) < set(source_files(Reference, estimate_normals))
    assert "pccbench.metrics.normals" in source_files(Reference, estimate_normals)
    assert sources_sha256(Reference) != sources_sha256(Reference, estimate_normals)
