"""The pinned set-up, as far as it can be looked at without a network."""

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

packaging = pytest.importorskip("packaging")
from packaging.markers import default_environment  # noqa: E402
from packaging.requirements import Requirement  # noqa: E402
from packaging.utils import canonicalize_name  # noqa: E402

tomllib = pytest.importorskip("tomllib")  # of Python 3.11

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
SYSTEMS = [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
PINS = [Requirement(line) for line in LINES]
#: Chosen by the user, in a version that fits the rest.
FREE = {"distributed"}


def environment(python, system):
    return {
        **default_environment(),
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system[0],
        "platform_machine": system[1],
        "platform_system": {"linux": "Linux", "darwin": "Darwin"}[system[0]],
        "extra": "",
    }


def wanted():
    texts = [*PROJECT["dependencies"], *(text for some in PROJECT["optional-dependencies"].values() for text in some)]
    return [one for one in map(Requirement, texts) if canonicalize_name(one.name) not in FREE]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("system", SYSTEMS, ids="-".join)
def test_every_requirement_has_one_pin_that_it_admits(python, system):
    here = environment(python, system)
    active = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate(here)]
    for requirement in wanted():
        name = canonicalize_name(requirement.name)
        pins = [pin for pin in active if canonicalize_name(pin.name) == name]
        assert len(pins) == 1, f"{name} on Python {python}: {[str(pin) for pin in pins]}"
        for version in re.findall(r"[=]=?([0-9][^,;\s]*)", str(pins[0].specifier)):
            assert requirement.specifier.contains(version), f"{requirement} does not admit {pins[0]}"


def test_no_pin_is_a_stranger():
    known = {canonicalize_name(one.name) for one in wanted()} | {"llvmlite"}  # numba's, which has to fit
    assert {canonicalize_name(pin.name) for pin in PINS} <= known


def test_nothing_of_cuda_is_pinned():
    assert not [line for line in LINES if re.match(r"nvidia|cuda|triton", line, re.IGNORECASE)]
    (torch,) = [pin for pin in PINS if pin.name == "torch"]
    assert torch.specifier.contains("2.13.0+cpu"), "pip prefers the wheel of the CPU where an index has it"


def test_classifiers_are_the_versions_that_are_pinned_for():
    prefix = "Programming Language :: Python :: 3."
    assert [text[len(prefix) - 2 :] for text in PROJECT["classifiers"] if text.startswith(prefix)] == PYTHONS
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"


def test_the_set_up_takes_torch_without_cuda_first():
    made = subprocess.run(["make", "-n", "-B", "setup"], cwd=ROOT, capture_output=True, text=True)
    if made.returncode:
        pytest.skip("no make")
    torch, cuda, rest = (made.stdout.index(words) for words in ("whl/cpu torch", "without_cuda", "-e '.[dev]'"))
    assert torch < cuda < rest


def test_torch_that_asks_for_cuda_is_found():
    spec = importlib.util.spec_from_file_location("without_cuda", ROOT / "tests" / "without_cuda.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.asks_for_cuda(["filelock", "nvidia-cudnn-cu13==9.1; platform_system == 'Linux'"])
    assert module.asks_for_cuda(["cuda-toolkit[cublas]==13.0.2"])
    assert not module.asks_for_cuda(["filelock", "jinja2", "sympy>=1.13.3"])
    assert not module.asks_for_cuda(None)


def test_open3d_is_not_needed_to_install():
    assert not [one for one in PROJECT["dependencies"] if one.startswith("open3d")]
