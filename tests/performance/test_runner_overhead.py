"""What the harness costs beside the work: a run of `raw` over two vox10 frames against the same work alone.

    python -m pytest tests/performance/test_runner_overhead.py -s

Both sides are whole Python processes, interpreter start included, timed in turn; the ratio of the medians is printed
and kept in the benchmark's `extra_info`.  The aim is at most 1.15.
"""

import statistics
import subprocess
import sys
import time

import pytest

ALONE = """
import sys
from pathlib import Path
from pccbench.bench.datasets import open_dataset
from pccbench.codecs.registry import CodecSpec
from pccbench.metrics.distortion import Reference
from pccbench.metrics.normals import estimate_normals

codec = CodecSpec("raw").create()
for ref in open_dataset(sys.argv[1], Path(sys.argv[2]) if sys.argv[2] else None).select(None).found[:2]:
    cloud = ref.load()
    reference = Reference(cloud.points, estimate_normals(cloud.points)[0], peak=cloud.peak)
    for rate in codec.rates():
        reference.measure(codec.decode(codec.encode(cloud, rate)).points)
"""

RUN = """
import sys
from pathlib import Path
from pccbench.bench.plan import Plan, make_plan
from pccbench.bench.runner import execute
from pccbench.bench.spec import RunSpec
from pccbench.bench.store import Store

spec = RunSpec.make(codecs=["raw"], datasets=[sys.argv[1]], data_root=sys.argv[2] or None)
plan = make_plan(spec, lambda text: None)
clouds = list(dict.fromkeys(job.cloud.name for job in plan.jobs))[:2]
plan = Plan(tuple(job for job in plan.jobs if job.cloud.name in clouds))
outcome = execute(plan, spec, Store(Path(sys.argv[3])), {})
assert not outcome.failed, outcome.failed
"""


def seconds(code, *arguments):
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)
    return time.perf_counter() - start


@pytest.fixture
def data(request):
    """The real frames where they are, else the embedded ones."""
    try:
        root = request.getfixturevalue("shared") / "data"
    except pytest.skip.Exception:
        return "synthetic", ""
    return "8ivfb", str(root)


def test_a_run_of_raw_costs_little_more_than_its_work(benchmark, data, tmp_path):
    alone, whole = [], []

    def both():
        number = len(whole)
        alone.append(seconds(ALONE, *data))
        whole.append(seconds(RUN, *data, tmp_path / f"run{number}"))

    benchmark.group = "runner"
    benchmark.pedantic(both, rounds=3, warmup_rounds=1)
    alone_s, run_s = statistics.median(alone[1:]), statistics.median(whole[1:])
    benchmark.extra_info.update(alone_s=alone, run_s=whole, ratio=run_s / alone_s)
    print(f"\n{data[0]}: alone {alone_s:.2f} s, as a run {run_s:.2f} s, ratio {run_s / alone_s:.3f}")
