"""Compare the times of two runs of the performance tests; what `make bench` ends with.

    python tests/performance/regression.py .benchmarks/baseline.json .benchmarks/latest.json --limit 25 --again 2

Of each benchmark the best round counts: other programs on the machine only ever make it longer.  What seems slower is
measured again, for bursts of load pass and regressions stay.  Exit 1 if one took more than the limit longer than in
the baseline each time, or if one of the baseline was not measured at all: what has gone guards nothing.
`--forget-gone` takes those out of the baseline.  Benchmarks that are new join it, so that the next run compares them.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def best_s(path):
    """Best round of each benchmark in a file of `pytest --benchmark-json`, by name."""
    return {entry["fullname"]: entry["stats"]["min"] for entry in json.loads(Path(path).read_text())["benchmarks"]}


def slower(before, now, limit_pct):
    """Names of the benchmarks beyond the limit."""
    return [name for name in sorted(before.keys() & now.keys()) if now[name] > before[name] * (1 + limit_pct / 100)]


def keep(baseline, latest, *, forget):
    """Write the baseline with the new benchmarks of the latest run, and without those to forget."""
    record = json.loads(Path(baseline).read_text())
    known = {entry["fullname"] for entry in record["benchmarks"]}
    new = [entry for entry in json.loads(Path(latest).read_text())["benchmarks"] if entry["fullname"] not in known]
    kept = [entry for entry in record["benchmarks"] if entry["fullname"] not in forget]
    if not new and len(kept) == len(record["benchmarks"]):
        return
    record["benchmarks"] = kept + new
    scratch = Path(baseline).with_suffix(".new")
    scratch.write_text(json.dumps(record, indent=1))
    scratch.replace(baseline)


def measure_again(names):
    """Best round of each of these benchmarks in a run of their own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "again.json"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--benchmark-json={path}", *names]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return best_s(path)


def compare(before, now, limit_pct, forget_gone=False):
    """Lines to print, and whether any benchmark is beyond the limit or gone."""
    both = {name: now[name] / before[name] for name in sorted(before.keys() & now.keys())}
    worse = slower(before, now, limit_pct)
    better = [name for name, ratio in both.items() if ratio < 1 / (1 + limit_pct / 100)]
    lines = [
        f"{word}: {name}: {before[name]:.4g} s, now {now[name]:.4g} s ({100 * (both[name] - 1):+.0f} %)"
        for word, some in (("faster", better), ("SLOWER", worse))
        for name in some
    ]
    gone = sorted(before.keys() - now.keys())
    lines += [f"{'forgotten' if forget_gone else 'GONE'}: {name}: in the baseline, not measured now" for name in gone]
    lines += [f"new in the baseline: {name}" for name in sorted(now.keys() - before.keys())]
    if gone and not forget_gone:
        lines.append(
            f"{len(gone)} of {len(before)} benchmarks of the baseline are gone; if that is meant, "
            "`make bench FORGET=1` takes them out of it"
        )
    middle = f", {100 * (statistics.median(both.values()) - 1):+.0f} % in the middle" if both else ""
    lines.append(f"{len(worse)} of {len(both)} benchmarks are more than {limit_pct:g} % slower{middle}")
    return lines, bool(worse or (gone and not forget_gone))


def main(arguments=None):
    """Print the comparison; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("baseline", type=Path)
    parser.add_argument("latest", type=Path)
    parser.add_argument("--limit", type=float, default=25, help="percent, default 25")
    parser.add_argument("--again", type=int, default=0, help="how often what seems slower is measured again")
    parser.add_argument("--forget-gone", action="store_true", help="what was not measured leaves the baseline")
    options = parser.parse_args(arguments)
    before, now = best_s(options.baseline), best_s(options.latest)
    for _ in range(options.again):
        if suspects := slower(before, now, options.limit):
            print(f"measuring {len(suspects)} again", flush=True)
            for name, seconds in measure_again(suspects).items():
                now[name] = min(now[name], seconds)
    lines, is_worse = compare(before, now, options.limit, options.forget_gone)
    keep(options.baseline, options.latest, forget=before.keys() - now.keys() if options.forget_gone else ())
    print("\n".join(lines))
    return int(is_worse)


if __name__ == "__main__":
    sys.exit(main())
