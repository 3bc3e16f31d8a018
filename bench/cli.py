"""The command line: `bench`.  Renders; every decision is made elsewhere."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._version import __version__
from ..codecs.errors import BitstreamError, PccbenchError
from ..metrics.errors import MetricError
from ..reports.errors import ReportError
from .errors import StoreWriteError, UsageError
from .prepare.command import prepare
from .train import train

if TYPE_CHECKING:
    from ..codecs.base import Codec
    from ..codecs.registry import CodecSpec
    from .spec import RunSpec

EXIT_JOB_FAILED, EXIT_USAGE, EXIT_INTERNAL, EXIT_INTERRUPTED = 1, 2, 70, 130

FILE = click.Path(path_type=Path)


def main() -> None:
    """Run the command line; a user gets one clear line and an exit code, never a traceback."""
    try:
        code = command.main(prog_name="bench", standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.Abort:
        code = _fail("interrupted", EXIT_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except StoreWriteError as error:
        code = _fail(str(error), EXIT_JOB_FAILED)
    except (PccbenchError, MetricError, ReportError) as error:
        code = _fail(str(error), _exit_code(error.__cause__))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_JOB_FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = _fail(f"{where}{error.strerror or error}", _exit_code(error))
    except Exception as error:
        if os.environ.get("PCCBENCH_DEBUG"):
            raise
        text = f"internal error: {type(error).__name__}: {' '.join(str(error).split())}"
        code = _fail(f"{text} (PCCBENCH_DEBUG=1 shows where)", EXIT_INTERNAL)
    sys.exit(code if isinstance(code, int) else 0)


def _exit_code(error: BaseException | None) -> int:
    """A full or failing disk is nobody's wrong use."""
    is_disk = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
    return EXIT_JOB_FAILED if is_disk else EXIT_USAGE


def _fail(text: str, code: int) -> int:
    click.echo(f"bench: {text}", err=True)
    return code


def _warn(text: str) -> None:
    click.echo(f"bench: {text}", err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pccbench")
def command() -> None:
    """Benchmark point cloud geometry codecs: real bitstreams, sealed decoders, MPEG-exact metrics."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill leaves a run as Ctrl-C does


def _names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """`A,B` as names."""
    if value is None:
        return None
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    if not names:
        raise click.BadParameter("names nothing", context, parameter)
    return names


def _folders(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, Path] | None:
    """`CODEC=FOLDER`, several times, as folders by codec, absolute."""
    found: dict[str, Path] = {}
    for text in value:
        name, _, folder = text.partition("=")
        if not name or not folder:
            raise click.BadParameter(f"expected CODEC=FOLDER, got {text!r}", context, parameter)
        if name in found:
            raise click.BadParameter(f"{name} is named twice", context, parameter)
        found[name] = Path(folder).expanduser().absolute()
    return found or None


_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _finding_codecs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say where codecs are found."""
    function = click.option("--tmc3", type=FILE, help="G-PCC executable [else PCCBENCH_TMC3, else PATH].")(function)
    return click.option(
        "--codec-module", "codec_modules", type=FILE, multiple=True, help="Python file with further codecs."
    )(function)


@command.command()
@click.option("--config", type=FILE, help="YAML file that describes the run; options override it.")
@click.option("--codecs", callback=_names, help="Codecs, names or patterns separated by commas, or `all` [all].")
@click.option("--dataset", "datasets", callback=_names, help="Data sets, separated by commas [synthetic].")
@click.option("--clouds", callback=_names, help="Clouds of the data set: names, sequences or patterns.")
@click.option("--rates", callback=_names, help="Rates, by name [all of each codec].")
@click.option("--data-root", type=FILE, help="Folder of the data sets [else PCCBENCH_DATA, else the config file].")
@click.option("--out", type=FILE, help="Run folder; an existing run is continued [runs/DATASET].")
@click.option("--jobs", type=click.IntRange(1), help="Jobs at the same time, each on its own cores [1].")
@click.option("--threads", type=click.IntRange(1), help="Threads of each job [cores / jobs].")
@click.option("--share-cores", is_flag=True, default=None, help="Allow more threads than cores; rows say so.")
@click.option("--timeout", "timeout_s", type=float, help="Limit of one encode or decode, seconds [3600].")
@click.option("--memory-limit", "memory_limit_gb", type=float, help="Limit of one worker, GiB [none].")
@click.option("--repeats", type=click.IntRange(1), help="How often each call is timed [1].")
@click.option("--peak", type=float, help="Peak of the PSNR [the data set's].")
@click.option("--secondary", is_flag=True, default=None, help="Measure local density and normals, too (slower).")
@click.option("--anchor", help="Codec that BD figures compare with [gpcc-octree, else octree].")
@click.option(
    "--weights",
    callback=_folders,
    multiple=True,
    help="CODEC=FOLDER with weights of `bench train`; repeatable.",
)
@click.option("--allow-untrained", is_flag=True, default=None, help="Run learned codecs with random weights.")
@click.option("--keep-streams", is_flag=True, default=None, help="Keep the bitstreams in the run folder.")
@click.option("--no-report", is_flag=True, help="Leave the report for `bench report`.")
@_finding_codecs
def run(config: Path | None, out: Path | None, anchor: str | None, no_report: bool, **options: Any) -> int:
    """Run codecs over a data set, and report.  Continues a run that was interrupted.

    Exit code 0 when every available job is ok, 1 when a job failed, 2 for wrong use.
    """
    from .api import session_record
    from .plan import make_plan
    from .runner import execute
    from .spec import RunSpec
    from .store import Store

    settings = RunSpec.read(config) if config else {}
    settings.update({key: value for key, value in options.items() if value not in (None, ())})
    spec = RunSpec.make(**settings)
    plan = make_plan(spec, _warn)
    if not plan.jobs:
        raise UsageError(
            "no codec of this run can run here: " + "; ".join(plan.unavailable) + " (see `bench codecs`)"
        )
    folder = out or Path("runs") / "+".join(name.replace("/", "_") for name in spec.datasets)
    store = Store(folder)
    session = session_record(spec, plan.unavailable, plan.missing_clouds)
    with _progress(spec) as observer:
        try:
            outcome = execute(plan, spec, store, session, observer)
        except KeyboardInterrupt:
            return _fail(f"interrupted; finished rows are in {folder}, the same command continues", EXIT_INTERRUPTED)
    failed = outcome.failed
    for row in failed:
        _warn(f"{row.status}: {row.codec} {row.rate} on {row.cloud}: {row.reason}")
    count = len(plan.jobs)
    again = f", {outcome.repeated} of them from before" if outcome.repeated else ""
    click.echo(f"{count - len(failed)} of {count} jobs ok{again}; rows in {store.folder / 'rows.jsonl'}")
    if not no_report:
        _report(store, folder / "report", anchor)
    return EXIT_JOB_FAILED if failed else 0


@contextlib.contextmanager
def _progress(spec: RunSpec) -> Iterator[Any]:
    """A progress bar on a terminal, else a line for each job."""
    from tqdm import tqdm

    from .plan import Job
    from .row import Row
    from .runner import Observer

    bar = tqdm(total=0, unit="job", dynamic_ncols=True, disable=not sys.stderr.isatty())

    def begin(todo: int, done: int) -> None:
        bar.reset(total=todo + done)
        bar.initial = bar.n = done
        bar.refresh()

    def starts(job: Job) -> None:
        bar.set_description(f"{job.codec.spec.name} {job.rate.name} {job.cloud.name}", refresh=True)

    def done(row: Row) -> None:
        bar.update()
        if bar.disable:
            click.echo(_one_row(row), err=True)
        elif spec.jobs > 1:
            bar.set_description(f"{row.codec} {row.rate} {row.cloud} done")

    with contextlib.closing(bar):
        yield Observer(begin, starts, done)


def _one_row(row: Any) -> str:
    head = f"{row.codec} {row.rate} {row.cloud}: {row.status}"
    if row.rate_bpp is None:
        return f"{head} {row.reason}"
    quality = "" if row.d1_psnr_db is None else f" {row.d1_psnr_db:.2f} dB"
    decode = "" if row.decode_s is None else f", decoded in {row.decode_s:.2f} s"
    return f"{head} {row.size_bytes} B {row.rate_bpp:.4f} bpp{quality}, encoded in {row.encode_s:.2f} s{decode}"


def _report(store: Any, out: Path, anchor: str | None) -> None:
    from ..metrics.bjontegaard import certified_bd
    from ..reports import write_report

    try:
        page = write_report(store.frame(), store.provenance(), out, certify=certified_bd, anchor=anchor)
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(out)) from None
    click.echo(f"report: {page}")


@command.command()
@click.argument("run", type=FILE)
@click.option("--out", type=FILE, help="Folder of the report [RUN/report].")
@click.option("--anchor", help="Codec that BD figures compare with [gpcc-octree, else octree].")
def report(run: Path, out: Path | None, anchor: str | None) -> None:
    """Make the report of a run again, from its stored rows alone."""
    from .store import Store

    _report(Store.open(run), out or run / "report", anchor)


@command.command()
@click.argument("run", type=FILE)
def status(run: Path) -> int:
    """Say what a run holds: done, failed, to do, and which rows are stale and why."""
    from collections import Counter

    from .plan import make_plan, stale_reasons
    from .spec import RunSpec
    from .store import IDENTITY, Store

    store = Store.open(run)
    rows = store.rows()
    counts = Counter(row.status for row in rows)
    click.echo(
        f"{run}: {len(rows)} rows: " + (", ".join(f"{n} {name}" for name, n in counts.most_common()) or "none")
    )
    for row in rows:
        if row.status != "ok":
            click.echo(f"  {row.status}: {row.codec} {row.rate} {row.cloud}: {row.reason}")
    spec = RunSpec.make(**RunSpec.read(run / "run.yaml"))
    stored = {tuple(getattr(row, name) for name in IDENTITY): row for row in rows}
    missing = stale = 0
    for job in make_plan(spec, _warn).jobs:
        found = stored.get(job.identity)
        if found is None:
            missing += 1
        elif reasons := stale_reasons(job, found, spec):
            stale += 1
            click.echo(f"  stale: {found.codec} {found.rate} {found.cloud}: {'; '.join(reasons)}")
    click.echo(f"{missing} jobs to do, {stale} stale" if missing or stale else "complete")
    return 0


@command.command()
@click.argument("old", type=FILE)
@click.argument("new", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare(old: Path, new: Path, as_json: bool) -> int:
    """Tell what changed from one run to another; exit code 1 on a regression."""
    from ..metrics.bjontegaard import certified_bd
    from ..reports import compare as compare_runs
    from .store import Store

    before, after = Store.open(old), Store.open(new)
    provenances = before.provenance(), after.provenance()
    comparison = compare_runs(before.frame(), after.frame(), *provenances, certify=certified_bd)
    click.echo(json.dumps(comparison.to_dict(), indent=1) if as_json else comparison.to_text())
    return EXIT_JOB_FAILED if comparison.has_regression else 0


@command.command()
@click.argument("reference", type=FILE)
@click.argument("decoded", type=FILE)
@click.option("--normals", type=FILE, help="File with the normals of the reference, when it has none.")
@click.option("--peak", type=float, help="Peak of the PSNR [largest nearest-neighbour distance, as pc_error].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of pc_error's lines.")
def metrics(reference: Path, decoded: Path, normals: Path | None, peak: float | None, as_json: bool) -> None:
    """Compare two clouds as MPEG's pc_error does (-a REFERENCE -b DECODED)."""
    from ..codecs.errors import CloudError
    from ..codecs.formats import read_cloud
    from ..metrics.distortion import distortion
    from ..metrics.transcript import transcribe

    cloud, other = read_cloud(reference), read_cloud(decoded)
    vectors = cloud.normals
    if normals is not None:
        source = read_cloud(normals)
        if source.normals is None:
            raise CloudError(f"{normals}: has no normals (nx, ny, nz)")
        if len(source) != len(cloud):
            raise CloudError(f"{normals}: has {len(source)} normals, but {reference} has {len(cloud)} points")
        vectors = source.normals
    result = distortion(cloud.points, other.points, normals=vectors, peak=peak)
    if as_json:
        click.echo(json.dumps({**result.columns(), "missing": result.missing, "passport": result.passport}, indent=1))
    else:
        click.echo(transcribe(result), nl=False)


@command.command()
@click.argument("codec")
@click.argument("rate")
@click.argument("source", type=FILE)
@click.argument("target", type=FILE)
@_finding_codecs
def encode(
    codec: str, rate: str, source: Path, target: Path, codec_modules: tuple[Path, ...], tmc3: Path | None
) -> None:
    """Encode a cloud: CODEC at RATE from SOURCE to the bitstream TARGET."""
    from difflib import get_close_matches

    from ..codecs.formats import read_cloud

    made = _codec(codec, codec_modules, tmc3)
    rates = {one.name: one for one in made.rates()}
    if rate not in rates:
        near = get_close_matches(rate, rates, n=3) or list(rates)
        raise UsageError(f"{codec} has no rate {rate!r}; did you mean {', '.join(near)}?")
    cloud = read_cloud(source)
    data = bytes(made.encode(cloud, rates[rate]))
    _write_whole(target, data)
    click.echo(f"{target}: {len(data)} bytes, {8 * len(data) / len(cloud):.4f} bpp of {len(cloud)} points")


@command.command()
@click.argument("source", type=FILE)
@click.argument("target", type=FILE)
@click.option("--codec", help="Codec of the stream [as the stream says].")
@_finding_codecs
def decode(source: Path, target: Path, codec: str | None, codec_modules: tuple[Path, ...], tmc3: Path | None) -> None:
    """Decode the bitstream SOURCE to the cloud TARGET."""
    from ..codecs import registry
    from ..codecs.formats import write_cloud

    data = source.read_bytes()
    name = codec or registry.identify(data)
    if name is None:
        raise UsageError(f"{source}: the stream does not name its codec; give --codec")
    made = _codec(name, codec_modules, tmc3)
    try:
        cloud = made.decode(data)
    except BitstreamError as error:
        raise BitstreamError(f"{source}: {error}") from None
    write_cloud(cloud, target)
    click.echo(f"{target}: {len(cloud)} points")


def _write_whole(path: Path, data: bytes) -> None:
    """Write a whole file or nothing."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_bytes(data)
        scratch.replace(path)
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(path)) from None
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)


def _codec(name: str, modules: tuple[Path, ...], tmc3: Path | None) -> Codec:
    from ..codecs import registry

    specs = registry.find((name,), modules=modules, tmc3=tmc3)
    if len(specs) != 1:
        raise UsageError(f"{name!r} names {len(specs)} codecs, expected one of {', '.join(s.name for s in specs)}")
    return specs[0].create()


@command.command()
@click.argument("name", required=False)
@_finding_codecs
def codecs(name: str | None, codec_modules: tuple[Path, ...], tmc3: Path | None) -> None:
    """List the codecs, or describe one: its card and its rates."""
    from ..codecs import registry

    if name is None:
        specs = registry.find(("*",), modules=codec_modules, tmc3=tmc3)
        _table(
            ["codec", "available", "what"],
            [
                [spec.name, "no" if (why := registry.unavailable_reason(spec)) else "yes", why or _title(spec)]
                for spec in specs
            ],
        )
        return
    codec = _codec(name, codec_modules, tmc3)
    card = codec.card()
    _table(["card", name], [[key, str(value)] for key, value in vars(card).items() if value not in (None, "", ())])
    click.echo()
    _table(
        ["rate", "parameters"],
        [
            [rate.name, ", ".join(f"{key}={value}" for key, value in rate.parameters.items())]
            for rate in codec.rates()
        ],
    )


def _title(spec: CodecSpec) -> str:
    from ..codecs import registry

    return registry.title(spec)


@command.command()
def quick() -> None:
    """Compare the entropy models of DeepCompress on small synthetic shapes, in under a minute."""
    from .quick import lines

    for line in lines():
        click.echo(line)


command.add_command(prepare)
command.add_command(train)


@command.command()
@click.option("--data-root", type=FILE, help="Folder of the data sets.")
def datasets(data_root: Path | None) -> None:
    """List the data sets: what is there, and where the others are published."""
    from .datasets import list_datasets

    _table(
        ["data set", "there", "what"],
        [[name, found, text] for name, found, text in list_datasets(data_root)],
    )


@command.command()
@click.option("--data-root", type=FILE, help="Folder of the data sets.")
@_finding_codecs
def doctor(data_root: Path | None, codec_modules: tuple[Path, ...], tmc3: Path | None) -> int:
    """Check this machine: packages, tools, data, memory, disk; exit code 1 when something essential is missing."""
    from .doctor import examine

    findings = examine(data_root, codec_modules, tmc3)
    _table(["", "what", "finding"], [[f.mark, f.what, f.text] for f in findings])
    return EXIT_JOB_FAILED if any(f.is_essential and not f.is_good for f in findings) else 0


def _table(head: list[str], body: list[list[str]]) -> None:
    """Print columns, the last one as long as it is."""
    rows = [head, *body]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[-1]]).rstrip())
